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
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from audit.event import ClearanceEvent, DecisionEvent, Event, Receipt, Span
from classifiers import Label, Unscanned
from classifiers.cascade import Classifier
from cloud_bridge.clearance import Clearance, ClearanceAuthority
from cloud_bridge.crossing import Crossing
from gateway.authority import LARGE_BODY_BYTES, DecisionProof
from gateway.commitments import Commitments
from gateway.exchange import Exchange, Reply
from gateway.lineage import Lineage
from gateway.transforms import edits_for, narrowed
from gateway.wire import Call
from gateway.wire.base import AnswerReader
from gateway.zones import Passage, Target, Zones, check_deadline
from policies.bundle import PolicyStore
from policies.decision import ONPREM, CallFacts, Decision, Route
from runtime import telemetry
from runtime.errors import (
    ClearanceError,
    DeadlineExceededError,
    PolicyRefusedError,
    TargetError,
    UnavailableError,
    UpstreamError,
    WatershedError,
)
from runtime.http import Headers, HttpRequest, HttpResponse
from runtime.ids import new_id, now_us

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_RETRYABLE = frozenset({500, 502, 503, 504, 529})
_JSON: Headers = (("content-type", "application/json"), ("accept", "application/json"))
_EVENTS: Headers = (("content-type", "application/json"), ("accept", "text/event-stream"))

log = structlog.get_logger()


class Audit(Protocol):
    async def append(self, event: Event) -> Receipt: ...


class Pipeline:
    """All stages and what they need; holds no state of a request."""

    def __init__(
        self,
        *,
        classifier: Classifier,
        policies: PolicyStore,
        lineage: Lineage,
        audit: Audit,
        commitments: Commitments,
        authority: ClearanceAuthority,
        zones: Zones,
        max_stream_s: float,
    ) -> None:
        self._classifier = classifier
        self._policies = policies
        self._lineage = lineage
        self._audit = audit
        self._commitments = commitments
        self._authority = authority
        self._zones = zones
        self._max_stream_s = max_stream_s
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="classify")

    async def run(self, x: Exchange) -> Reply:
        """Answer one admitted request. Never raises: what goes wrong becomes a reply and a closing event."""
        try:
            call = x.call = x.wire.receive(x.body)
            label = x.label = await self.classify(x, call)
            decision = x.decision = self.decide(x, call, label)
            if x.hints.dry_run:
                return await self._explain(x, label, decision)
            call, decision = await self.transform(call, label, decision, x)
            x.decision = decision
            proof = await self.witness(x, call, label, decision)
            if decision.route is Route.REJECT:
                raise PolicyRefusedError(_refusal(decision))
            await self._remember(x, call, label, ())
            response = await self.dispatch(x, call, decision, proof)
            return await self.record(x, call, label, response)
        except WatershedError as error:
            return await self._refuse(x, error)
        except asyncio.CancelledError:
            await asyncio.shield(self._close(x, "cancelled", 499, "client_closed_request"))
            raise
        except Exception as error:  # a fault of ours: fail closed, say nothing of the request
            log.error("request failed", request_id=x.request_id, cause=type(error).__name__, exc_info=True)
            return await self._refuse(
                x, WatershedError("the gateway failed to handle this request; nothing was sent on")
            )

    # --- stages, in order -------------------------------------------------------------------------------------------

    async def classify(self, x: Exchange, call: Call) -> Label:
        """Segments to one label, joined with what lineage knows of the conversation (law 5)."""
        if len(call.body) > LARGE_BODY_BYTES:
            loop = asyncio.get_running_loop()
            label = await loop.run_in_executor(self._threads, self._classifier.classify, call.segments)
        else:
            label = self._classifier.classify(call.segments)
        if self._policies.lease_lost():
            label = label.joined(unscanned=(Unscanned("", "policy_lease_lost"),))
        for finding in label.findings:
            telemetry.FINDINGS.labels(finding.entity_type).inc()
        for lapse in label.unscanned:
            if lapse.reason in {"detector_failed", "over_budget"}:
                telemetry.CLASSIFIER_FAILURES.labels(lapse.reason).inc()
        taint = await self._lineage.taint_of(call, x.caller.tenant)
        return taint.onto(label)

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

    async def transform(self, call: Call, label: Label, decision: Decision, x: Exchange) -> tuple[Call, Decision]:
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

    async def witness(self, x: Exchange, call: Call, label: Label, decision: Decision) -> DecisionProof:
        """The decision, durable in the audit log before anything is sent anywhere (law 7)."""
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
            edits=tuple(sorted((name, edit.value) for name, edit in dict(decision.edits).items())),
            body_commitment=self._commitments.over(x.request_id, x.body),
            stream=call.stream,
        )
        return DecisionProof(event, await self._audit.append(event))

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
                crossing, clearance = await self.clear(x, target, request, decision, proof, call.stream)
                passage = Passage(request, general, x.deadline, crossing, clearance)
                async with asyncio.timeout(x.remaining_s()):
                    response = await target.send(passage, self._whole_by(x))
            except TimeoutError:
                raise DeadlineExceededError("no answer began within the deadline") from None
            except (TargetError, UpstreamError, ClearanceError) as error:
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
            edits |= call.wire.crossing_edits(call, self._lineage.conversation_token(call, x.caller.tenant))
        return HttpRequest(
            "POST", target.url_for(call.wire.path), _EVENTS if call.stream else _JSON, call.with_edits(edits).body
        )

    async def clear(
        self, x: Exchange, target: Target, request: HttpRequest, decision: Decision, proof: DecisionProof, stream: bool
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
            stream=stream,
            topic=target.topic,
            partition=0,
            deadline_us=now_us() + int((self._whole_by(x) - time.monotonic()) * 1_000_000),
        )
        try:
            clearance = await self._authority.clear(crossing, proof)
        except ClearanceError as error:
            await self._audit.append(self._clearance_event(x, crossing, None, error.code))
            raise
        await self._audit.append(self._clearance_event(x, crossing, clearance, ""))
        return crossing, clearance

    async def record(self, x: Exchange, call: Call, label: Label, response: HttpResponse) -> Reply:
        """The answer on its way back, its taint remembered; the closing event follows its last byte."""
        streamed = call.stream and response.headers.get("content-type", "").startswith("text/event-stream")
        tainted = label.sensitivity > label.sensitivity.INTERNAL
        reader = call.wire.answer_reader(stream=streamed, keep_text=tainted)
        headers = {"content-type": response.headers.get("content-type", "application/json")}
        for name in ("retry-after", "retry-after-ms"):
            if name in response.headers:
                headers[name] = response.headers[name]
        headers |= x.headers("")
        if streamed:
            chunks = self._stream(x, call, label, response, reader)
            return Reply(response.status, headers | {"cache-control": "no-store"}, chunks, stream=True)
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + x.remaining_s()):
                body = await response.body(max_bytes=MAX_ANSWER_BYTES)
        except TimeoutError:
            raise DeadlineExceededError("the target did not finish its answer within the deadline") from None
        finally:
            await response.aclose()
        reader.feed(body)
        await self._remember(x, call, label, reader.texts())
        return Reply(response.status, headers, self._whole(x, response.status, body, reader), stream=False)

    def _whole_by(self, x: Exchange) -> float:
        """When the answer must be complete: a stream that has begun by the deadline may go on."""
        if x.call is not None and x.call.stream:
            return max(x.started + self._max_stream_s, x.deadline)
        return x.deadline

    # --- the way back -----------------------------------------------------------------------------------------------

    async def _whole(self, x: Exchange, status: int, body: bytes, reader: AnswerReader) -> AsyncIterator[bytes]:
        outcome, code = "cancelled", "client_closed_request"
        try:
            x.first_byte_us = x.elapsed_us()
            yield body
            outcome, code = ("answered", "") if status < 400 else ("refused", "upstream_refused")
        finally:
            await self._close(x, outcome, status, code, reader)

    async def _stream(
        self, x: Exchange, call: Call, label: Label, response: HttpResponse, reader: AnswerReader
    ) -> AsyncIterator[bytes]:
        outcome, code, status = "cancelled", "client_closed_request", response.status
        remembered = False
        try:
            async with asyncio.timeout(max(self._whole_by(x) - time.monotonic(), 0)):
                async for chunk in response.chunks:
                    if x.first_byte_us is None:
                        x.first_byte_us = x.elapsed_us()
                    reader.feed(chunk)
                    if not remembered and b"[DONE]" in chunk:
                        await self._remember(x, call, label, reader.texts())
                        remembered = True
                    yield chunk
            outcome, code = "answered", ""
        except (WatershedError, TimeoutError) as error:
            failure = error if isinstance(error, WatershedError) else DeadlineExceededError("the stream took too long")
            outcome, code = "failed", failure.code
            yield call.wire.stream_error(failure)
        finally:
            await response.aclose()
            if not remembered:
                await self._remember_at_last(x, call, label, reader)
            await self._close(x, outcome, status, code, reader)

    async def _remember(self, x: Exchange, call: Call, label: Label, answers: list[str] | tuple[str, ...]) -> None:
        try:
            await self._lineage.remember(call, label, x.caller.tenant, answers)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.error("lineage store lost", request_id=x.request_id, cause=type(error).__name__)
            raise UnavailableError(
                "the lineage store cannot remember this sensitive conversation",
                code="lineage_unavailable",
                retry_after_s=5,
            ) from None

    async def _remember_at_last(self, x: Exchange, call: Call, label: Label, reader: AnswerReader) -> None:
        """For a stream that broke or was left: what the caller has seen of it is tainted too."""
        try:
            await self._remember(x, call, label, reader.texts())
        except UnavailableError:
            log.error("the answer of a broken stream was not remembered", request_id=x.request_id)

    async def _explain(self, x: Exchange, label: Label, decision: Decision) -> Reply:
        """``x-watershed-dry-run``: what would happen. Nothing is sent."""
        body = {
            "object": "watershed.decision",
            "id": decision.id,
            "route": decision.route.word,
            "sensitivity": decision.sensitivity.word,
            "categories": sorted(label.categories),
            "rules": list(decision.rules),
            "policy": decision.policy_version,
            "recipients": sorted(decision.recipients),
            "findings": [{"entity_type": f.entity_type, "pointer": f.pointer} for f in label.findings],
            "unscanned": [{"pointer": u.pointer, "reason": u.reason} for u in label.unscanned],
        }
        await self._close(x, "answered", 200, "dry_run")
        return Reply.whole(200, x.headers(""), msgspec.json.encode(body))

    async def _refuse(self, x: Exchange, error: WatershedError) -> Reply:
        """The error in the caller's format, and the event that ends the request."""
        expired = isinstance(error, DeadlineExceededError)
        await self._close(
            x, "expired" if expired else "refused" if error.status < 500 else "failed", error.status, error.code
        )
        headers = x.headers(self._policies.current().version) | retry_headers(error)
        return Reply.whole(error.status, headers, x.wire.error_body(error))

    async def _close(
        self, x: Exchange, outcome: str, status: int, code: str, reader: AnswerReader | None = None
    ) -> None:
        """One closing event a request (law 6)."""
        if x.closed:
            return
        x.closed = True
        usage = reader.usage() if reader is not None else None
        route = x.decision.route.word if x.decision else "reject"
        telemetry.REQUESTS.labels(x.wire.name, route, str(status)).inc()
        telemetry.REQUEST_SECONDS.labels(x.wire.name, route).observe(time.monotonic() - x.started)
        try:
            await self._audit.append(x.closing(outcome, status, code, usage))
        except WatershedError as error:
            log.error("closing event not written", request_id=x.request_id, cause=error.code)

    def _clearance_event(
        self, x: Exchange, crossing: Crossing, clearance: Clearance | None, reason: str
    ) -> ClearanceEvent:
        return ClearanceEvent(
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

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def retry_headers(error: WatershedError) -> dict[str, str]:
    """``Retry-After`` in whole seconds (RFC 9110, 10.2.3), and ``retry-after-ms`` as OpenAI's SDKs read it."""
    if error.retry_after_s is None:
        return {}
    return {
        "retry-after": str(max(round(error.retry_after_s), 1)),
        "retry-after-ms": str(int(error.retry_after_s * 1000)),
    }


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
