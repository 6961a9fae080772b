"""One event proved without the others: its bytes, its path to a root, and who signed that root."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.checkpoint import CHECKPOINTS, Checkpoint, last_checkpoint
from audit.merkle import inclusion_proof, leaf_hash, verify_inclusion
from audit.nodes import read_node
from audit.recovery import NODES
from audit.register import REGISTER, RegisterEntry, read_register
from audit.segment import BrokenFrameError, read_frames, read_header, segments
from runtime.errors import AuditError, NotFoundError


class EventProof(msgspec.Struct, frozen=True):
    """All that a third party needs beside the two public keys.

    Attributes:
        event: the event's bytes, as JSON text.
        index: its place in the log, from 0.
        path: 32-byte siblings from the leaf upwards (RFC 9162, 2.1.3).
    """

    event: str
    index: int
    path: tuple[bytes, ...]
    checkpoint: Checkpoint
    entry: RegisterEntry

    def holds(self, *, register_key: Ed25519PublicKey, witness_key: Ed25519PublicKey) -> bool:
        """Whether this very event was in the log, by the register's and the witness's word."""
        checkpoint = self.checkpoint
        return (
            self.entry.is_signed_by(register_key)
            and checkpoint.log_id == self.entry.log_id
            and checkpoint.is_signed_by(self.entry.log_key())
            and checkpoint.is_cosigned_by(witness_key)
            and verify_inclusion(
                leaf_hash(self.event.encode()), self.index, checkpoint.size, self.path, checkpoint.root
            )
        )


def prove(root: Path, log_id: str, index: int) -> EventProof:
    """The proof of one event against its log's last checkpoint; the log may be running.

    Raises:
        NotFoundError: there is no such log, or the event is not there or not witnessed yet.
        AuditError: the log cannot be read there.
    """
    entry = next((entry for entry in read_register(root / REGISTER) if entry.log_id == log_id), None)
    if entry is None:
        raise NotFoundError("the register names no such log")
    checkpoint = last_checkpoint(root / log_id / CHECKPOINTS)
    if checkpoint is None or not 0 <= index < checkpoint.size:
        raise NotFoundError("the event is not there, or not witnessed yet")
    try:
        payload = _payload(root / log_id, index)
        event = payload.decode()
        path = inclusion_proof(partial(read_node, root / log_id / NODES), index, checkpoint.size)
    except (BrokenFrameError, IndexError, OSError, UnicodeDecodeError):
        raise AuditError(
            "the log cannot be read there; see `watershed audit verify`", code="audit_log_damaged"
        ) from None
    return EventProof(event, index, tuple(path), checkpoint, entry)


def _payload(folder: Path, index: int) -> bytes:
    path = next((path for path in reversed(segments(folder)) if int(path.stem) <= index), None)
    if path is None:
        raise IndexError("the segment is missing")
    offset, header = read_header(path)
    for at, (_, payload) in enumerate(read_frames(path, offset), header.first):
        if at == index:
            return payload
    raise IndexError("the segment ends before the event")
