"""The way back: a target's answer, a refusal or an explanation, as a reply whose end closes the request.

HttpResponse ─▶ answer ─▶ Reply ─▶ caller          WatershedError ─▶ refuse ─▶ Reply
                  └─ taint before the last byte, closing event after it
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import structlog

from classifiers import Label, Sensitivity
from gateway.exchange import Exchange, Reply
from gateway.record import Recorder
from gateway.wire import Call
from gateway.wire.base import AnswerReader
from policies.decision import Decision
from runtime.errors import DeadlineExceededError, UnavailableError, WatershedError
from runtime.http import HttpResponse

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_PASSED_ON = ("retry-after", "retry-after-ms")
_DONE = b"[DONE]"  # what follows it in a stream is nothing

log = structlog.get_logger()


async def answer(x: Exchange, call: Call, label: Label, response: HttpResponse, recorder: Recorder) -> Reply:
    """The target's answer for the caller, unchanged.

    Raises:
        UpstreamError, DeadlineExceededError: a whole answer broke off or came too late; nothing of it was passed on.
        UnavailableError: its taint could not be remembered.
    """
    content_type = response.headers.get("content-type", "application/json")
    headers = {"content-type": content_type} | {
        name: response.headers[name] for name in _PASSED_ON if name in response.headers
    }
    headers |= x.headers("")
    streamed = call.stream and content_type.startswith("text/event-stream")
    reader = call.wire.answer_reader(stream=streamed, keep_text=label.sensitivity > Sensitivity.INTERNAL)
    if streamed:
        chunks = _stream(x, call, label, response, reader, recorder)
        return Reply(response.status, headers | {"cache-control": "no-store"}, chunks, stream=True)
    try:
        async with asyncio.timeout(x.remaining_s()):
            body = await response.body(max_bytes=MAX_ANSWER_BYTES)
    except TimeoutError:
        raise DeadlineExceededError("the target did not finish its answer within the deadline") from None
    finally:
        await response.aclose()
    reader.feed(body)
    await recorder.taint(x, call, label, reader.texts())
    return Reply(response.status, headers, _whole(x, response.status, body, reader, recorder), stream=False)


async def refuse(x: Exchange, error: WatershedError, policy_version: str, recorder: Recorder) -> Reply:
    """The error in the caller's format, and the event that ends the request."""
    outcome = "refused" if error.status < 500 else "failed"
    if isinstance(error, DeadlineExceededError):
        outcome = "expired"
    await recorder.close(x, outcome, error.status, error.code)
    headers = x.headers(policy_version) | retry_headers(error)
    return Reply.whole(error.status, headers, x.wire.error_body(error))


async def explain(x: Exchange, label: Label, decision: Decision, recorder: Recorder) -> Reply:
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
    await recorder.close(x, "answered", 200, "dry_run")
    return Reply.whole(200, x.headers(""), msgspec.json.encode(body))


def retry_headers(error: WatershedError) -> dict[str, str]:
    """``Retry-After`` in whole seconds (RFC 9110, 10.2.3), and ``retry-after-ms`` as OpenAI's SDKs read it."""
    if error.retry_after_s is None:
        return {}
    whole_s = max(round(error.retry_after_s), 1)
    return {"retry-after": str(whole_s), "retry-after-ms": str(int(error.retry_after_s * 1000))}


async def _whole(
    x: Exchange, status: int, body: bytes, reader: AnswerReader, recorder: Recorder
) -> AsyncIterator[bytes]:
    outcome, code = "cancelled", "client_closed_request"
    try:
        x.first_byte_us = x.elapsed_us()
        yield body
        outcome, code = ("answered", "") if status < 400 else ("refused", "upstream_refused")
    finally:
        await recorder.close(x, outcome, status, code, reader.usage())


async def _stream(
    x: Exchange, call: Call, label: Label, response: HttpResponse, reader: AnswerReader, recorder: Recorder
) -> AsyncIterator[bytes]:
    outcome, code = "cancelled", "client_closed_request"
    remembered = False
    try:
        async with asyncio.timeout(max(x.whole_by - time.monotonic(), 0)):
            async for chunk in response.chunks:
                if x.first_byte_us is None:
                    x.first_byte_us = x.elapsed_us()
                reader.feed(chunk)
                if not remembered and _DONE in chunk:
                    await recorder.taint(x, call, label, reader.texts())
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
            # A stream that broke, or was left: what the caller has seen of it is tainted too.
            try:
                await recorder.taint(x, call, label, reader.texts())
            except UnavailableError:
                log.error("the answer of a broken stream was not remembered", request_id=x.request_id)
        await recorder.close(x, outcome, response.status, code, reader.usage())
