"""The register: a signed chain that names every log ever opened under one root, so that a missing log is missed.

    register.jsonl     {number, log_id, instance, public_key, …, previous ─▶ hash of the entry before, signature}

Each signature covers the text of its entry and, through ``previous``, all entries before it.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.lines import append_line, read_lines
from runtime.errors import AuditError
from runtime.ids import new_id
from runtime.keys import SUITE

REGISTER = "register.jsonl"
NO_ENTRY = "0" * 64


class RegisterEntry(msgspec.Struct, frozen=True):
    """One log and the key that signs its checkpoints.

    Attributes:
        number: from 0, without gaps.
        public_key: Ed25519, 32 raw bytes.
        opened_us: microseconds since the epoch.
        previous: ``digest`` of the entry before; zeros for the first.
        signature: by the register's key, over ``signed_text``.
    """

    suite: str
    number: int
    log_id: str
    instance: str
    public_key: bytes
    opened_us: int
    previous: str
    signature: bytes

    def signed_text(self) -> bytes:
        key = base64.b64encode(self.public_key).decode()
        head = f"watershed.register/{self.log_id}\n{self.number}\n{self.instance}\n{key}\n"
        return f"{head}suite {self.suite}\nopened_us {self.opened_us}\nprevious {self.previous}\n".encode()

    def digest(self) -> str:
        """SHA-256 over text and signature, hex."""
        return hashlib.sha256(self.signed_text() + self.signature).hexdigest()

    def log_key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.public_key)

    def is_signed_by(self, register_key: Ed25519PublicKey) -> bool:
        try:
            register_key.verify(self.signature, self.signed_text())
        except InvalidSignature:
            return False
        return self.suite == SUITE


def read_register(path: Path) -> list[RegisterEntry]:
    """Every entry, oldest first, unchecked.

    Raises:
        AuditError: an entry cannot be read.
    """
    try:
        return [msgspec.json.decode(line, type=RegisterEntry) for line in read_lines(path)]
    except msgspec.MsgspecError:
        raise AuditError("the audit register cannot be read", code="audit_register_damaged") from None


def enter(
    root: Path, *, key: Ed25519PublicKey, register_key: Ed25519PrivateKey, instance: str, opened_us: int
) -> tuple[RegisterEntry, RegisterEntry | None]:
    """The entry of the instance's log: its last one, or a new one where it has none or has another key.

    With a new entry comes the one it follows upon for this instance, if any.

    Raises:
        AuditError: the register does not hold together, so nothing may be added to it.
        OSError: it cannot be written.
    """
    with _held(root / "register.lock"):
        path = root / REGISTER
        entries = read_register(path)
        previous = NO_ENTRY
        for number, entry in enumerate(entries):
            whole = entry.number == number and entry.previous == previous
            if not whole or not entry.is_signed_by(register_key.public_key()):
                raise AuditError("the audit register's chain is broken", code="audit_register_damaged")
            previous = entry.digest()
        public = key.public_bytes_raw()
        own = next((entry for entry in reversed(entries) if entry.instance == instance), None)
        if own is not None and own.public_key == public:
            return own, None
        draft = RegisterEntry(SUITE, len(entries), new_id("log"), instance, public, opened_us, previous, b"")
        entry = msgspec.structs.replace(draft, signature=register_key.sign(draft.signed_text()))
        append_line(path, msgspec.json.encode(entry))
        return entry, own


@contextmanager
def _held(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
