"""What the clearance authority looks at again before it signs: it takes nobody's word for a decision.

It reads the bytes that would cross, classifies them and decides anew, and it demands the audit receipt of the decision
event that names the recipient (docs/threat-model.md, keys). In the stack this runs in a process of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from audit.event import DecisionEvent, Receipt, leaf_hash_of
from classifiers import Label
from classifiers.cascade import Classifier
from cloud_bridge.clearance import Clearance
from cloud_bridge.crossing import Crossing
from gateway.wire import Call, WireFormat
from policies.decision import CallFacts
from policies.engine import PolicyEngine
from runtime.errors import ClearanceError, RequestError
from runtime.ids import new_id, now_us

LARGE_BODY_BYTES = 32_768
"""From here on a body is classified in a thread, so that the event loop goes on."""


class DecisionProof(msgspec.Struct, frozen=True):
    """The decision event and the log's receipt for it."""

    event: DecisionEvent
    receipt: Receipt


class Authority(Protocol):
    """Gives clearances: in this process (``ClearanceAuthority``) or in one of its own."""

    async def clear(self, crossing: Crossing, receipt: DecisionProof) -> Clearance:
        """Raises ClearanceError where nothing may cross."""
        ...


class Recheck:
    """Refuses a crossing that the audited decision does not name, or that the policy in force would not allow."""

    def __init__(
        self,
        classifier: Classifier,
        engine: Callable[[], PolicyEngine],
        wires: Sequence[WireFormat],
    ) -> None:
        self._classifier = classifier
        self._engine = engine
        self._wires = wires

    async def __call__(self, crossing: Crossing, decision_receipt: DecisionProof) -> None:
        """Raises ClearanceError, with a code for the reason."""
        proof = decision_receipt
        event = proof.event
        if leaf_hash_of(event) != proof.receipt.leaf_hash:
            raise ClearanceError("the receipt is for another event", code="receipt_mismatch")
        if (event.request_id, event.decision_id, event.tenant) != (
            crossing.request_id,
            crossing.decision_id,
            crossing.tenant,
        ):
            raise ClearanceError("the receipt is for another decision", code="receipt_mismatch")
        if crossing.recipient not in event.recipients:
            raise ClearanceError("the decision does not name this recipient", code="recipient_not_decided")
        call, label = await self._read(crossing)
        engine = self._engine()
        if engine.version != event.policy_version:
            raise ClearanceError("the policy has changed since the decision", code="policy_changed")
        facts = CallFacts(
            tenant=crossing.tenant,
            model=call.model,
            kinds=call.kinds,
            size_bytes=len(call.body),
            endpoint=call.wire.name,
        )
        decision = engine.decide(label, facts, decision_id=new_id("dec"), now_us=now_us())
        if crossing.recipient not in decision.recipients:
            raise ClearanceError("the policy does not let this body go to this recipient", code="recheck_refused")
        if any(finding.entity_type in dict(decision.edits) for finding in label.findings):
            raise ClearanceError("the body still holds what the policy edits out", code="recheck_unedited")

    async def _read(self, crossing: Crossing) -> tuple[Call, Label]:
        path = urlsplit(crossing.request.url).path
        wire = next((wire for wire in self._wires if path.endswith(wire.path.removeprefix("/v1"))), None)
        if wire is None:
            raise ClearanceError("no wire format is known for this path", code="recheck_unreadable")
        try:
            call = wire.receive(crossing.request.body)
        except RequestError:
            raise ClearanceError("the body cannot be read", code="recheck_unreadable") from None
        if len(call.body) > LARGE_BODY_BYTES:
            return call, await asyncio.to_thread(self._classifier.classify, call.segments)
        return call, self._classifier.classify(call.segments)
