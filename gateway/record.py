"""What is written down of a request: its decision, its clearances, its taint, and one closing event.

decision ──▶ DecisionProof (durable before anything is sent)
clearance ──▶ event (durable before the first byte crosses)
taint ──▶ lineage (before the answer is seen)          close ──▶ one closing event (law 6)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from audit.event import ClearanceEvent, DecisionEvent, Event, Receipt, Span
from classifiers import Label
from cloud_bridge.clearance import Clearance
from cloud_bridge.crossing import Crossing
from gateway.authority import DecisionProof
from gateway.commitments import Commitments
from gateway.exchange import Exchange
from gateway.lineage import Lineage
from gateway.wire import Call
from gateway.wire.base import Usage
from policies.decision import Decision
from runtime import telemetry
from runtime.errors import UnavailableError, WatershedError
from runtime.ids import now_us

log = structlog.get_logger()


class Audit(Protocol):
    async def append(self, event: Event) -> Receipt: ...


class Recorder:
    """Writes to the audit log and to lineage; every method fails closed by raising, but ``close``, which logs."""

    def __init__(self, audit: Audit, lineage: Lineage, commitments: Commitments) -> None:
        self._audit = audit
        self._lineage = lineage
        self._commitments = commitments

    async def decision(self, x: Exchange, call: Call, label: Label, decision: Decision) -> DecisionProof:
        """The decision, durable before anything is sent anywhere (law 7).

        Raises:
            AuditError: it is not known to be recorded; the request must not go on.
        """
        event = DecisionEvent(
            request_id=x.request_id,
            tenant=x.caller.tenant,
            at_us=now_us(),
            endpoint=call.wire.name,
            decision_id=decision.id,
            policy_version=decision.policy_version,
            classifier=label.classifier,
            sensitivity=decision.sensitivity.word,
            categories=tuple(sorted(label.categories)),
            spans=tuple(Span(f.pointer, f.entity_type, f.start, f.end, f.score, f.detector) for f in label.findings),
            unscanned=tuple((u.pointer, u.reason) for u in label.unscanned),
            rules=decision.rules,
            route=decision.route.word,
            recipients=tuple(sorted(decision.recipients)),
            edits=tuple(sorted((name, edit.value) for name, edit in decision.edits.items())),
            body_commitment=self._commitments.over(x.request_id, x.body),
            stream=call.stream,
        )
        return DecisionProof(event, await self._audit.append(event))

    async def clearance(self, x: Exchange, crossing: Crossing, clearance: Clearance | None, reason: str = "") -> None:
        """A clearance, or with ``reason`` its refusal, durable before the first byte leaves.

        Raises:
            AuditError: it is not known to be recorded; nothing may cross.
        """
        await self._audit.append(
            ClearanceEvent(
                request_id=x.request_id,
                at_us=now_us(),
                clearance_id=clearance.id if clearance else "",
                decision_id=crossing.decision_id,
                recipient=crossing.recipient,
                attempt=crossing.attempt,
                target=x.target,
                body_digest_commitment=self._commitments.over(x.request_id, crossing.request.body),
                not_after_us=clearance.not_after_us if clearance else 0,
                outcome="issued" if clearance else "refused",
                reason=reason,
            )
        )

    async def taint(self, x: Exchange, call: Call, label: Label, answers: Sequence[str] = ()) -> None:
        """The turns and answers of a sensitive conversation, remembered before they are seen (law 5).

        Raises:
            UnavailableError: the store did not take them; the conversation must not go on.
        """
        try:
            await self._lineage.remember(call, label, x.caller.tenant, answers)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.error("lineage store lost", request_id=x.request_id, cause=type(error).__name__)
            raise UnavailableError(
                "the lineage store cannot remember this sensitive conversation",
                code="lineage_unavailable",
                retry_after_s=5,
            ) from None

    async def close(self, x: Exchange, outcome: str, status: int, code: str, usage: Usage | None = None) -> None:
        """One closing event a request (law 6); a second call writes nothing."""
        if x.closed:
            return
        x.closed = True
        route = x.decision.route.word if x.decision else "reject"
        telemetry.REQUESTS.labels(x.wire.name, route, str(status)).inc()
        telemetry.REQUEST_SECONDS.labels(x.wire.name, route).observe(time.monotonic() - x.started)
        try:
            await self._audit.append(x.closing(outcome, status, code, usage))
        except WatershedError as error:
            log.error("closing event not written", request_id=x.request_id, cause=error.code)
