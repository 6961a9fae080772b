"""Witnesses: a third place that sees a log's checkpoints, co-signs one history of it and refuses any other.

log ── register entry ──▶ witness        enrol: the log's key, vouched for by the register's
    ◀── last size seen ──
    ── checkpoint, consistency proof from that size ──▶
    ◀── cosignature ──                   kept insert-only before it is given
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.checkpoint import Checkpoint, Cosignature, append_checkpoint, cosign, last_checkpoint
from audit.lines import append_line
from audit.merkle import EMPTY_ROOT, verify_consistency
from audit.register import REGISTER, RegisterEntry, read_register
from runtime.errors import AuditError
from runtime.ids import now_us

REFUSED = "audit_witness_refused"
"""Code of the AuditError for a checkpoint that no honest log would show: a fork, a step back, a wrong signature."""


class Witness(Protocol):
    """Called from the checkpoint thread, so it may block; it must have deadlines of its own."""

    def enrol(self, entry: RegisterEntry) -> int:
        """Make the log known; the size of its last checkpoint seen, 0 for none.

        Raises:
            AuditError: with the code ``REFUSED`` where the entry is not the register's.
            Exception: any other means that the witness could not be reached.
        """
        ...

    def cosign(self, checkpoint: Checkpoint, proof: Sequence[bytes]) -> Cosignature:
        """Co-sign, given the consistency proof from the last size seen (RFC 9162, 2.1.4).

        Raises:
            AuditError: with the code ``REFUSED`` where the checkpoint does not continue what was seen.
            Exception: any other means that the witness could not be reached.
        """
        ...


class LocalWitness:
    """A witness in this process, with a key and an insert-only store of its own (the embedded path)."""

    def __init__(
        self,
        folder: Path,
        *,
        key: Ed25519PrivateKey,
        register_key: Ed25519PublicKey,
        clock_us: Callable[[], int] = now_us,
    ) -> None:
        """Raises OSError where the folder cannot be made."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._key = key
        self._register_key = register_key
        self._clock_us = clock_us
        self._entries: dict[str, RegisterEntry] = {}

    def enrol(self, entry: RegisterEntry) -> int:
        if not entry.is_signed_by(self._register_key):
            raise AuditError("the register entry is not signed by the register's key", code=REFUSED)
        with self._held():
            known = {old.log_id: old for old in read_register(self._folder / REGISTER)}
            if known.get(entry.log_id, entry) != entry:
                raise AuditError("the log was enrolled with another entry", code=REFUSED)
            if entry.log_id not in known:
                append_line(self._folder / REGISTER, msgspec.json.encode(entry))
        self._entries[entry.log_id] = entry
        seen = last_checkpoint(store_of(self._folder, entry.log_id))
        return seen.size if seen else 0

    def cosign(self, checkpoint: Checkpoint, proof: Sequence[bytes]) -> Cosignature:
        entry = self._entries.get(checkpoint.log_id)
        if entry is None or not checkpoint.is_signed_by(entry.log_key()):
            raise AuditError("the checkpoint is not signed by an enrolled log", code=REFUSED)
        with self._held():
            # Read anew each time: a second process with a copy of the log would show its fork to this same store.
            store = store_of(self._folder, checkpoint.log_id)
            seen = last_checkpoint(store)
            old_size, old_root = (seen.size, seen.root) if seen else (0, EMPTY_ROOT)
            if not verify_consistency(old_size, checkpoint.size, old_root, checkpoint.root, proof):
                raise AuditError("the log does not continue what the witness has seen", code=REFUSED)
            cosignature = cosign(self._key, checkpoint, self._clock_us() // 1_000_000)
            append_checkpoint(store, msgspec.structs.replace(checkpoint, cosignature=cosignature))
        return cosignature

    @contextmanager
    def _held(self) -> Iterator[None]:
        descriptor = os.open(self._folder / "witness.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def store_of(folder: Path, log_id: str) -> Path:
    """Where a local witness keeps a log's checkpoints."""
    return folder / f"{log_id}.jsonl"
