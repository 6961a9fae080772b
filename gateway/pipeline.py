"""The life of a request, on one screen.

    receive ─▶ classify ─▶ decide ─▶ transform ─▶ route ─▶ clear ─▶ dispatch ─▶ record
       │          │           │          │          │         │          │          │
      Call      Label     Decision    edited     Targets  Clearance  HttpResponse  Reply, closing event
                                       Call                (crossings only)

Admission comes before (``gateway.api.inference``), the wire format's answer after. Every stage fails closed: what raises
here ends the request with an error in the caller's format and one closing event, and nothing has left that was not cleared.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from classifiers import Label, Sensitivity, Unscanned
from classifiers.cascade import Classifier
from cloud_bridge.clearance import Clearance
from cloud_bridge.crossing import Crossing
from gateway import replies
from gateway.authority import LARGE_BODY_BYTES, Authority, DecisionProof
from gateway.exchange import Exchange, Reply
from gateway.lineage import Lineage
from gateway.record import Recorder
from gateway.transforms import edits_for, narrowed
from gateway.wire import Call
from gateway.zones import Passage, Target, Zones, check_deadline
from policies.bundle import PolicyStore
from policies.decision import ONPREM, CallFacts, Decision, Route
from runtime import telemetry
from runtime.errors import (
    ClearanceError,
    DeadlineExceededError,
    PolicyRefusedError,
    SealingError,
    TargetError,
    UnavailableError,
    UpstreamError,
    WatershedError,
)
from runtime.http import Headers, HttpRequest, HttpResponse
from runtime.ids import new_id, now_us

_RETRYABLE = frozenset({500, 502, 503, 504, 529})
_JSON: Headers = (("content-type", "application/json"), ("accept", "application/json"))
_EVENTS: Headers = (("content-type", "application/json"), ("accept", "text/event-stream"))

log = structlog.get_logger()


class Pipeline:
    """All stages and what they need; holds no state of a request."""

    def __init__(
        self,
        *,
        classifier: Classifier,
        policies: PolicyStore,
        lineage: Lineage,
        recorder: Recorder,
        authority: Authority,
        zones: Zones,
    ) -> None:
        self._classifier = classifier
        self._policies = policies
        self._lineage = lineage
        self._recorder = recorder
        self._authority = authority
        self._zones = zones
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="classify")

    async def run(self, x: Exchange) -> Reply:
        """Answer one admitted request. Never raises: what goes wrong becomes a reply and a closing event."""
        try:
            call = x.call = x.wire.receive(x.body)
            label = x.label = await self.classify(x, call)
            decision = x.decision = self.decide(x, call, label)
            if x.hints.dry_run:
                return await replies.explain(x, label, decision, self._recorder)
            call, decision = await self.transform(x, call, label, decision)
            x.decision = decision
            proof = await self._recorder.decision(x, call, label, decision)
            if decision.route is Route.REJECT:
                raise PolicyRefusedError(_refusal(decision))
            await self._recorder.taint(x, call, label)
            response = await self.dispatch(x, call, decision, proof)
            return await replies.answer(x, call, label, response, self._recorder)
        except WatershedError as error:
            return await self._refuse(x, error)
        except asyncio.CancelledError:
            await asyncio.shield(self._recorder.close(x, "cancelled", 499, "client_closed_request"))
            raise
        except Exception as error:  # a fault of ours: fail closed, say nothing of the request
            log.error("request failed", request_id=x.request_id, cause=type(error).__name__, exc_info=True)
            return await self._refuse(x, WatershedError("the gateway failed to handle this request"))

    async def _refuse(self, x: Exchange, error: WatershedError) -> Reply:
        return await replies.refuse(x, error, self._policies.current().version, self._recorder)

    # --- stages, in order -------------------------------------------------------------------------------------------

    async def classify(self, x: Exchange, call: Call) -> Label:
        """Segments to one label, joined with what lineage (law 5) and the caller know of the conversation."""
        if len(call.body) > LARGE_BODY_BYTES:
            loop = asyncio.get_running_loop()
            label = await loop.run_in_executor(self._threads, self._classifier.classify, call.segments)
        else:
            label = self._classifier.classify(call.segments)
        if self._policies.lease_lost():
            label = label.joined(unscanned=(Unscanned("", "policy_lease_lost"),))
        if label.unverified_language:  # so that lineage keeps its conversation, too
            label = label.joined(sensitivity=Sensitivity.RESTRICTED)
        for finding in label.findings:
            telemetry.FINDINGS.labels(finding.entity_type).inc()
        for lapse in label.unscanned:
            if lapse.reason in {"detector_failed", "over_budget"}:
                telemetry.CLASSIFIER_FAILURES.labels(lapse.reason).inc()
        taint = await self._lineage.taint_of(call, x.caller.tenant)
        return taint.onto(label).joined(sensitivity=x.hints.sensitivity)

    def decide(self, x: Exchange, call: Call, label: Label) -> Decision:
        """Label, tenant and call to a decision, under the policy in force."""
        facts = CallFacts(
            tenant=x.caller.tenant,
            model=call.model,
            purpose=x.hints.purpose,
            sensitivity=x.hints.sensitivity,
            kinds=call.kinds,
            size_bytes=len(call.body),
            endpoint=call.wire.name,
        )
        return self._policies.current().decide(label, facts, decision_id=new_id("dec"), now_us=now_us())

    async def transform(self, x: Exchange, call: Call, label: Label, decision: Decision) -> tuple[Call, Decision]:
        """The decision's edits, made; then the result is classified and decided again: what still shows stays."""
        if decision.route is not Route.CLOUD_PSEUDONYMISED:
            return call, decision
        edits = edits_for(call, label, decision)
        if edits is None:
            return call, narrowed(decision, {ONPREM})
        edited = call.with_edits(edits)
        again = await self.classify(x, edited)
        second = self.decide(x, edited, again)
        still = {finding.entity_type for finding in again.findings} & dict(decision.edits).keys()
        if still or second.route > Route.CLOUD_PSEUDONYMISED:
            return call, narrowed(decision, {ONPREM})
        return edited, narrowed(decision, second.recipients)

    async def dispatch(self, x: Exchange, call: Call, decision: Decision, proof: DecisionProof) -> HttpResponse:
        """The first target that answers, among the decision's recipients only (law 3); one clearance an attempt (law 4)."""
        last: WatershedError | None = None
        general = decision.route < Route.ONPREM
        for target in await self._zones.order(decision, call.model):
            check_deadline(x.deadline)
            x.attempts += 1
            x.target = target.name
            try:
                request = await self.render(x, call, target)
                crossing, clearance = await self.clear(x, call, target, request, decision, proof)
                passage = Passage(request, general, x.deadline, crossing, clearance)
                async with asyncio.timeout(x.remaining_s()):
                    response = await target.send(passage, x.whole_by)
            except TimeoutError:
                raise DeadlineExceededError("no answer began within the deadline") from None
            except (TargetError, UpstreamError, ClearanceError, SealingError) as error:
                telemetry.ATTEMPTS.labels(target.name, error.code).inc()
                log.warning("attempt failed", request_id=x.request_id, target=target.name, cause=error.code)
                last = error
                continue
            telemetry.ATTEMPTS.labels(target.name, str(response.status)).inc()
            if target.crosses and response.status in _RETRYABLE:
                await response.aclose()
                last = UpstreamError(f"{target.name} answered {response.status}", code="upstream_error")
                continue
            return _checked(target, response)
        raise last or UnavailableError("no target of the allowed recipients is there", retry_after_s=5)

    async def render(self, x: Exchange, call: Call, target: Target) -> HttpRequest:
        """The request for one target: the caller's bytes, unless the model is the target's own or something must not cross."""
        edits: dict[str, Any] = {}
        model = await target.model_for(call.model)
        if model != call.model:
            edits |= call.wire.model_edit(model)
        if target.crosses:
            edits |= call.wire.crossing_edits(call, self._conversation(x, call))
        return HttpRequest(
            "POST", target.url_for(call.wire.path), _EVENTS if call.stream else _JSON, call.with_edits(edits).body
        )

    async def clear(
        self, x: Exchange, call: Call, target: Target, request: HttpRequest, decision: Decision, proof: DecisionProof
    ) -> tuple[Crossing | None, Clearance | None]:
        """For a crossing: a clearance over exactly these bytes, its event durable before the first of them leaves."""
        if not target.crosses:
            return None, None
        crossing = Crossing(
            request_id=x.request_id,
            decision_id=decision.id,
            policy_version=decision.policy_version,
            tenant=x.caller.tenant,
            recipient=target.recipient,
            attempt=x.attempts,
            request=request,
            stream=call.stream,
            topic=target.topic,
            partition=target.partition_for(self._conversation(x, call)),
            deadline_us=now_us() + int((x.whole_by - time.monotonic()) * 1_000_000),
        )
        try:
            clearance = await self._authority.clear(crossing, proof)
        except ClearanceError as error:
            await self._recorder.clearance(x, crossing, None, error.code)
            raise
        await self._recorder.clearance(x, crossing, clearance)
        return crossing, clearance

    def _conversation(self, x: Exchange, call: Call) -> str:
        return self._lineage.conversation_token(call, x.caller.tenant)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _checked(target: Target, response: HttpResponse) -> HttpResponse:
    """What a target may not say to the caller: our credentials' trouble, or where to go instead."""
    if response.status in (401, 403) and target.crosses:
        raise UpstreamError(f"{target.name} refused the gateway's credentials", code="upstream_credentials")
    if 300 <= response.status < 400:
        raise UpstreamError(
            f"{target.name} answered with a redirect, which is never followed", code="upstream_redirect"
        )
    return response


def _refusal(decision: Decision) -> str:
    rules = ", ".join(decision.rules) or "the default"
    reason = f" {decision.reason}" if decision.reason else ""
    return f"policy {decision.policy_version} refuses this request (rule {rules}).{reason} Decision {decision.id}."
