"""The clearance authority as a process of its own, and the gateway's way to it.

    RemoteAuthority.clear ─ attested proof ─▶ ══ mutual TLS ══ ─▶ AuthorityService ─▶ ClearanceAuthority
                          ◀─ clearance, checked ─                   └─ issued ─▶ its own audit log, before the answer

Each clearance stands in the authority's own witnessed log, with the receipt it was given for, before anyone has it. So
the authority's log and the gateways' can be held against each other, and neither process alone can hide a crossing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.event import AdminEvent, Event, Receipt
from cloud_bridge.clearance import Clearance, ClearanceAuthority, ClearanceVerifier
from cloud_bridge.crossing import Crossing
from gateway.attestation import AttestedProof, ReceiptSigner
from gateway.authority import DecisionProof
from runtime.errors import (
    ClearanceError,
    DeadlineExceededError,
    InvalidRequestError,
    TargetError,
    UpstreamError,
)
from runtime.ids import now_us
from runtime.service import Refusal, Service, ServiceClient
from runtime.tls import Peer

CLEAR = "/v1/clear"
ROLES = frozenset({"gateway"})
TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 65_536
ENVELOPE_BYTES = 1_048_576
"""What a call may have beside the request's body: the decision event, whose spans grow with the body."""


class ClearCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One crossing and the proof of its decision."""

    crossing: Crossing
    proof: AttestedProof


class Record(Protocol):
    """The part of ``audit.log.AuditLog`` that the authority writes to."""

    async def append(self, event: Event) -> Receipt: ...


class AuthorityService:
    """Gives clearances to gateways; ``app`` is the ASGI app.

    Args:
        authority: its ``receipt_holds`` is a ``gateway.attestation.ReceiptCheck``.
        record: the authority's own audit log.
        missing: what the process is still waiting for; nothing once it is ready.
        max_body_bytes: of the request that is to cross.
    """

    def __init__(
        self,
        authority: ClearanceAuthority,
        record: Record,
        *,
        missing: Callable[[], list[str]],
        max_body_bytes: int,
    ) -> None:
        self._authority = authority
        self._record = record
        self.app = Service(
            {CLEAR: self._clear}, roles=ROLES, missing=missing, max_body_bytes=max_body_bytes + ENVELOPE_BYTES
        )

    async def _clear(self, peer: Peer, body: bytes) -> bytes:
        try:
            call = msgspec.msgpack.decode(body, type=ClearCall)
        except msgspec.MsgspecError:
            raise InvalidRequestError("the call cannot be read", code="clear_call") from None
        if call.proof.entry.instance != peer.name:
            raise ClearanceError("the receipt is of another instance's log", code="receipt_instance")
        clearance = await self._authority.clear(call.crossing, call.proof)
        await self._record.append(_issued(peer, clearance, call.proof.receipt))
        return msgspec.msgpack.encode(clearance)


class RemoteAuthority:
    """The authority as the pipeline calls it, in another process.

    Args:
        signer: of this gateway's audit log.
        public_key: the authority's; what it did not sign is refused here already.
        timeout_s: of one call; the crossing's own deadline may shorten it.
    """

    def __init__(
        self,
        service: ServiceClient,
        signer: ReceiptSigner,
        *,
        public_key: Ed25519PublicKey,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._service = service
        self._signer = signer
        self._public_key = public_key
        self._timeout_s = timeout_s
        self._verifiers: dict[str, ClearanceVerifier] = {}  # by recipient, of which policies name a few

    async def clear(self, crossing: Crossing, proof: DecisionProof) -> Clearance:
        """A clearance for exactly this crossing.

        Raises:
            ClearanceError: the authority's refusal, with its code; no authority (``authority_unreachable``) or none in
                time (``deadline_exceeded``); an answer that is no clearance for this crossing.
        """
        call = ClearCall(crossing, self._signer.attest(proof))
        remaining_s = min((crossing.deadline_us - now_us()) / 1e6, self._timeout_s)
        try:
            answered = await self._service.call(
                CLEAR,
                msgspec.msgpack.encode(call),
                deadline=time.monotonic() + remaining_s,
                max_answer_bytes=MAX_ANSWER_BYTES,
            )
        except DeadlineExceededError:
            raise ClearanceError("the authority did not answer in time", code="deadline_exceeded") from None
        except (TargetError, UpstreamError):
            raise ClearanceError(
                "the clearance authority cannot be reached", code="authority_unreachable", retry_after_s=1
            ) from None
        if isinstance(answered, Refusal):
            raise ClearanceError(
                answered.message, code=answered.code, param=answered.param, retry_after_s=answered.retry_after_s
            )
        return self._checked(answered, crossing)

    def _checked(self, answered: bytes, crossing: Crossing) -> Clearance:
        try:
            clearance = msgspec.msgpack.decode(answered, type=Clearance)
        except msgspec.MsgspecError:
            raise ClearanceError("the authority's answer cannot be read", code="authority_answer") from None
        verifier = self._verifiers.get(crossing.recipient)
        if verifier is None:
            verifier = ClearanceVerifier(self._public_key, recipient=crossing.recipient)
            self._verifiers[crossing.recipient] = verifier
        verifier.verify(clearance, crossing)
        return clearance


def _issued(peer: Peer, clearance: Clearance, receipt: Receipt) -> AdminEvent:
    detail = (
        ("recipient", clearance.recipient),
        ("decision_id", clearance.decision_id),
        ("log_id", receipt.log_id),
        ("index", str(receipt.index)),
        ("leaf_hash", receipt.leaf_hash.hex()),
    )
    return AdminEvent(now_us(), peer.name, "clearance.issued", clearance.id, detail)
