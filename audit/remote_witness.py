"""A witness in another process, as the checkpoint thread calls it.

checkpoint thread ─ enrol, cosign ─▶ loop ─▶ ServiceClient ══ mutual TLS ══▶ audit.witness_service
                  ◀─ cosignature, checked with the witness's public key ─
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.checkpoint import Checkpoint, Cosignature
from audit.register import RegisterEntry
from audit.witness_service import COSIGN, ENROL, CosignCall
from runtime.errors import AuditError
from runtime.service import Refusal, ServiceClient

TIMEOUT_S = 2.0
MAX_ANSWER_BYTES = 4096

_Answer = TypeVar("_Answer", int, Cosignature)


class RemoteWitness:
    """An ``audit.witness.Witness`` over the network.

    Its calls block their thread for up to ``timeout_s`` while ``loop`` does the work, so that loop must be running in
    another thread: open the log with ``asyncio.to_thread``, as its checkpoints are taken in a thread anyway.
    """

    def __init__(
        self,
        service: ServiceClient,
        loop: asyncio.AbstractEventLoop,
        *,
        witness_key: Ed25519PublicKey,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._service = service
        self._loop = loop
        self._witness_key = witness_key
        self._timeout_s = timeout_s

    def enrol(self, entry: RegisterEntry) -> int:
        """As the protocol says.

        Raises:
            AuditError: the witness's own refusal, with its code, or an answer that cannot be read.
            TargetError, UpstreamError, DeadlineExceededError: it cannot be reached, or not within ``timeout_s``.
        """
        return self._call(ENROL, msgspec.msgpack.encode(entry), int)

    def cosign(self, checkpoint: Checkpoint, proof: Sequence[bytes]) -> Cosignature:
        """As the protocol says; the cosignature holds for this checkpoint. Raises as ``enrol``."""
        call = CosignCall(checkpoint, tuple(proof))
        cosignature = self._call(COSIGN, msgspec.msgpack.encode(call), Cosignature)
        if not msgspec.structs.replace(checkpoint, cosignature=cosignature).is_cosigned_by(self._witness_key):
            raise AuditError("the cosignature is not the witness's", code="audit_witness_signature")
        return cosignature

    def _call(self, path: str, body: bytes, kind: type[_Answer]) -> _Answer:
        deadline = time.monotonic() + self._timeout_s
        call = self._service.call(path, body, deadline=deadline, max_answer_bytes=MAX_ANSWER_BYTES)
        pending = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            # Twice: the call ends itself in time; this is for a loop that no longer runs.
            answered = pending.result(2 * self._timeout_s)
        finally:
            pending.cancel()
        if isinstance(answered, Refusal):
            raise AuditError(answered.message, code=answered.code)
        try:
            return msgspec.msgpack.decode(answered, type=kind)
        except msgspec.MsgspecError:
            raise AuditError("the witness's answer cannot be read", code="audit_witness_answer") from None
