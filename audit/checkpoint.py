"""Checkpoints: a log's size and root at a moment, signed by the log and co-signed by a witness.

What is signed is text in the layout of C2SP's tlog-checkpoint, and the witness signs it as C2SP's tlog-cosignature says
(https://c2sp.org/tlog-checkpoint, https://c2sp.org/tlog-cosignature), so that other tools can check it:

    watershed.audit/<log id>             cosignature/v1
    <size>                               time <seconds since the epoch>
    <root, base64>                       <the text on the left>
    suite intl
    at_us <microseconds since the epoch>
"""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.lines import append_line, last_line
from runtime.errors import AuditError
from runtime.keys import SUITE

CHECKPOINTS = "checkpoints.jsonl"


class Cosignature(msgspec.Struct, frozen=True):
    """A witness's word that it has seen no other history. ``time_s``: seconds since the epoch."""

    time_s: int
    signature: bytes


class Checkpoint(msgspec.Struct, frozen=True):
    """The first ``size`` events of a log have ``root``.

    Attributes:
        at_us: microseconds since the epoch.
        signature: by the log's key, over ``signed_text``; Ed25519, 64 bytes.
        cosignature: None until the witness has answered; a checkpoint in a file always has one.
    """

    suite: str
    log_id: str
    size: int
    root: bytes
    at_us: int
    signature: bytes
    cosignature: Cosignature | None = None

    def signed_text(self) -> bytes:
        root = base64.b64encode(self.root).decode()
        text = f"watershed.audit/{self.log_id}\n{self.size}\n{root}\nsuite {self.suite}\nat_us {self.at_us}\n"
        return text.encode()

    def is_signed_by(self, log_key: Ed25519PublicKey) -> bool:
        return self.suite == SUITE and _holds(log_key, self.signature, self.signed_text())

    def is_cosigned_by(self, witness_key: Ed25519PublicKey) -> bool:
        if self.cosignature is None:
            return False
        text = _cosigned_text(self, self.cosignature.time_s)
        return _holds(witness_key, self.cosignature.signature, text)


def sign(key: Ed25519PrivateKey, log_id: str, size: int, root: bytes, at_us: int) -> Checkpoint:
    """A checkpoint without a cosignature."""
    draft = Checkpoint(SUITE, log_id, size, root, at_us, b"")
    return msgspec.structs.replace(draft, signature=key.sign(draft.signed_text()))


def cosign(key: Ed25519PrivateKey, checkpoint: Checkpoint, time_s: int) -> Cosignature:
    """The witness's half; it has checked the checkpoint before."""
    return Cosignature(time_s, key.sign(_cosigned_text(checkpoint, time_s)))


def append_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Raises OSError."""
    append_line(path, msgspec.json.encode(checkpoint))


def last_checkpoint(path: Path) -> Checkpoint | None:
    """The last of a file of checkpoints.

    Raises:
        AuditError: it cannot be read.
    """
    line = last_line(path)
    return None if line is None else decode_checkpoint(line)


def decode_checkpoint(line: bytes) -> Checkpoint:
    """One line of a file of checkpoints.

    Raises:
        AuditError: it is none.
    """
    try:
        return msgspec.json.decode(line, type=Checkpoint)
    except msgspec.MsgspecError:
        raise AuditError("a checkpoint cannot be read", code="audit_checkpoint_damaged") from None


def _cosigned_text(checkpoint: Checkpoint, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n".encode() + checkpoint.signed_text()


def _holds(key: Ed25519PublicKey, signature: bytes, text: bytes) -> bool:
    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True
