"""The witness as a process of its own: ``LocalWitness`` behind mutual TLS (``audit.remote_witness`` is its client)."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from audit.checkpoint import Checkpoint
from audit.register import RegisterEntry
from audit.witness import LocalWitness
from runtime.errors import AuditError, InvalidRequestError
from runtime.service import Service
from runtime.tls import Peer

ENROL = "/v1/enrol"
COSIGN = "/v1/cosign"
ROLES = frozenset({"gateway", "clearance"})
"""Processes that keep an audit log."""

MAX_CALL_BYTES = 65_536
UNENROLLED = "audit_witness_unenrolled"
"""Code for a log that this process has not been shown yet: enrol, then ask again. No word on the log's history."""

_Call = TypeVar("_Call", RegisterEntry, "CosignCall")


class CosignCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A checkpoint and the consistency proof from the last size seen."""

    checkpoint: Checkpoint
    proof: tuple[bytes, ...]


class WitnessService:
    """Answers the two calls of ``audit.witness.Witness``; ``app`` is the ASGI app."""

    def __init__(self, witness: LocalWitness) -> None:
        self._witness = witness
        self._enrolled: set[str] = set()
        self._turn = asyncio.Lock()  # the store takes one at a time, so more than one thread would only wait
        self.app = Service(
            {ENROL: self._enrol, COSIGN: self._cosign}, roles=ROLES, missing=list, max_body_bytes=MAX_CALL_BYTES
        )

    async def _enrol(self, _peer: Peer, body: bytes) -> bytes:
        entry = _read(body, RegisterEntry)
        async with self._turn:
            seen = await asyncio.to_thread(self._witness.enrol, entry)
        self._enrolled.add(entry.log_id)
        return msgspec.msgpack.encode(seen)

    async def _cosign(self, _peer: Peer, body: bytes) -> bytes:
        call = _read(body, CosignCall)
        if call.checkpoint.log_id not in self._enrolled:
            raise AuditError("the log is not enrolled with this process", code=UNENROLLED)
        async with self._turn:
            cosignature = await asyncio.to_thread(self._witness.cosign, call.checkpoint, call.proof)
        return msgspec.msgpack.encode(cosignature)


def _read(body: bytes, kind: type[_Call]) -> _Call:
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.MsgspecError:
        raise InvalidRequestError("the call cannot be read", code="witness_call") from None
