"""The hot endpoints as raw ASGI: admit, run the pipeline, write the answer, watch for a caller who leaves.

    scope, receive, send ─▶ admit (key, rate, size: 401, 429, 413 before any classification) ─▶ Pipeline.run ─▶ send

FastAPI's machinery costs some 120 µs a request, more than the pipeline itself for an everyday prompt, so it serves only
what is not hot (``gateway.api.app``).
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import msgspec
import structlog

from classifiers import Sensitivity
from gateway.exchange import Exchange, Hints, Reply
from gateway.pipeline import Pipeline
from gateway.replies import retry_headers
from gateway.tenants import Caller, KeyDirectory, RateLimit
from gateway.wire import WireFormat
from runtime import telemetry
from runtime.errors import (
    InvalidRequestError,
    MethodNotAllowedError,
    PayloadTooLargeError,
    UnavailableError,
    WatershedError,
)
from runtime.ids import CLIENT_ID, new_id

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

log = structlog.get_logger()


class Limits(msgspec.Struct, frozen=True):
    """Bounds on one request and on all of them together."""

    max_body_bytes: int
    max_concurrent: int
    default_deadline_ms: int
    max_deadline_ms: int


class InferenceApp:
    """Serves each wire format's path; everything else goes to ``rest``."""

    def __init__(
        self,
        wires: Sequence[WireFormat],
        pipeline: Pipeline,
        keys: KeyDirectory,
        rate: RateLimit,
        limits: Limits,
        policy_version: Callable[[], str],
        rest: ASGIApp,
    ) -> None:
        self._wires = {wire.path: wire for wire in wires}
        self._pipeline = pipeline
        self._keys = keys
        self._rate = rate
        self._limits = limits
        self._policy_version = policy_version
        self._rest = rest
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = self._wires.get(scope["path"]) if scope["type"] == "http" else None
        if wire is None:
            await self._rest(scope, receive, send)
            return
        self._in_flight += 1
        telemetry.IN_FLIGHT.set(self._in_flight)
        try:
            await self._serve(wire, scope, receive, send)
        finally:
            self._in_flight -= 1
            telemetry.IN_FLIGHT.set(self._in_flight)

    async def _serve(self, wire: WireFormat, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = _headers(scope)
            caller = await self.admit(scope, headers)
            hints, deadline = read_hints(headers, self._limits)
            body = await self._body(headers, receive)
        except WatershedError as error:
            async for message in _messages(self._refusal(wire, error)):
                await send(message)
            return
        except _ClientLeftError:
            return
        except Exception as error:  # a fault of ours: nothing was read, nothing goes on
            log.error("admission failed", cause=type(error).__name__, exc_info=True)
            fault = WatershedError("the gateway failed to take this request")
            async for message in _messages(self._refusal(wire, fault)):
                await send(message)
            return
        exchange = Exchange(
            wire=wire,
            body=body,
            caller=caller,
            hints=hints,
            deadline=deadline,
            max_stream_s=self._limits.max_deadline_ms / 1000,
        )
        work = asyncio.create_task(self._answer(exchange, send))
        watcher = asyncio.create_task(_until_disconnect(receive))
        try:
            await asyncio.wait({work, watcher}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watcher.cancel()
            if not work.done() and not exchange.sent:
                work.cancel()
                log.info("client left", request_id=exchange.request_id)
            (failure,) = await asyncio.gather(work, return_exceptions=True)
            if isinstance(failure, Exception):
                log.error("answer not sent", request_id=exchange.request_id, cause=type(failure).__name__)

    async def admit(self, scope: Scope, headers: Mapping[str, str]) -> Caller:
        """Who is calling, and whether it may now.

        Raises:
            AuthenticationError, RateLimitedError, UnavailableError, MethodNotAllowedError, InvalidRequestError.
        """
        if scope["method"] != "POST":
            raise MethodNotAllowedError("this endpoint takes POST")
        caller = await self._keys.authenticate(headers.get("authorization"), loopback=is_loopback(scope))
        if self._in_flight > self._limits.max_concurrent:
            raise UnavailableError(
                "the gateway is at its limit of concurrent requests", code="overloaded", retry_after_s=1
            )
        self._rate.take(caller.tenant)
        return caller

    async def _body(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise InvalidRequestError("send the body without Content-Encoding", code="content_encoding")
        media_type, _, parameters = headers.get("content-type", "application/json").partition(";")
        if media_type.strip().lower() != "application/json":
            raise InvalidRequestError("send the body as application/json", code="content_type")
        charset = parameters.strip().lower().removeprefix("charset=").strip('"')
        if charset and charset not in {"utf-8", "utf8"}:
            raise InvalidRequestError("send the body as UTF-8", code="not_utf8")
        limit = self._limits.max_body_bytes
        too_large = PayloadTooLargeError(f"a request body may have {limit} bytes")
        length = headers.get("content-length", "")
        if _is_number(length) and int(length) > limit:
            raise too_large
        message = await receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body"):
            if len(body) > limit:
                raise too_large
            return body
        parts = [body]
        size = len(body)
        while message["type"] == "http.request" and message.get("more_body"):
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise too_large
        if message["type"] != "http.request":
            raise _ClientLeftError
        return b"".join(parts)

    async def _answer(self, exchange: Exchange, send: Send) -> None:
        reply = await self._pipeline.run(exchange)
        try:
            async for message in _messages(reply):
                exchange.sent = not message.get("more_body", True)
                await send(message)
        finally:
            await reply.aclose()

    def _refusal(self, wire: WireFormat, error: WatershedError) -> Reply:
        telemetry.REQUESTS.labels(wire.name, "reject", str(error.status)).inc()
        return Reply.whole(
            error.status, refusal_headers(self._policy_version()) | retry_headers(error), wire.error_body(error)
        )


class _ClientLeftError(Exception):
    """The caller went before its body was complete."""


def _headers(scope: Scope) -> dict[str, str]:
    """Header names lower-case, as ASGI gives them.

    Raises:
        InvalidRequestError: one that must be unique is there twice.
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1")
        if name in headers and (
            name in {"authorization", "content-type", "content-length"} or name.startswith("x-watershed")
        ):
            raise InvalidRequestError(f"the header {name} may be sent once", code="duplicate_header")
        headers[name] = raw_value.decode("latin-1")
    return headers


def read_hints(headers: Mapping[str, str], limits: Limits) -> tuple[Hints, float]:
    """What the caller says of its request, and its deadline (monotonic seconds).

    Raises:
        InvalidRequestError: a header of ours that does not say what it may.
    """
    deadline_ms = limits.default_deadline_ms
    if (stated := headers.get("x-watershed-deadline-ms")) is not None:
        if not (_is_number(stated) and 0 < int(stated) <= limits.max_deadline_ms):
            raise InvalidRequestError(
                f"x-watershed-deadline-ms is a number of milliseconds up to {limits.max_deadline_ms}",
                code="invalid_header",
            )
        deadline_ms = int(stated)
    deadline = time.monotonic() + deadline_ms / 1000
    sensitivity = Sensitivity.PUBLIC
    if (word := headers.get("x-watershed-sensitivity")) is not None:
        try:
            sensitivity = Sensitivity.parse(word)
        except ValueError as error:
            raise InvalidRequestError(f"x-watershed-sensitivity: {error}", code="invalid_header") from None
    purpose = headers.get("x-watershed-purpose")
    if purpose is not None and not CLIENT_ID.fullmatch(purpose):
        raise InvalidRequestError(
            "x-watershed-purpose is 1 to 128 letters, digits, '_', '.' or '-'", code="invalid_header"
        )
    dry_run = headers.get("x-watershed-dry-run", "false").lower()
    if dry_run not in {"true", "false"}:
        raise InvalidRequestError("x-watershed-dry-run is true or false", code="invalid_header")
    return Hints(sensitivity, purpose, dry_run == "true"), deadline


def _is_number(text: str) -> bool:
    """Digits, and few enough of them for ``int`` to be harmless."""
    return len(text) <= 18 and text.isascii() and text.isdigit()


def refusal_headers(policy_version: str) -> dict[str, str]:
    """The headers of ours on an answer to a request that was never decided."""
    return {
        "x-request-id": new_id("req"),
        "x-watershed-route": "reject",
        "x-watershed-sensitivity": Sensitivity.RESTRICTED.word,
        "x-watershed-decision": "none",
        "x-watershed-policy": policy_version,
        "x-watershed-target": "none",
    }


def is_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    if not client:
        return False
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _messages(reply: Reply) -> AsyncIterator[dict[str, Any]]:
    """A reply as ASGI messages; of a whole one the body is the only chunk."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]
    start = {"type": "http.response.start", "status": reply.status, "headers": headers}
    if reply.stream:
        yield start
        async for chunk in reply.chunks:
            yield {"type": "http.response.body", "body": chunk, "more_body": True}
        yield {"type": "http.response.body", "body": b"", "more_body": False}
        return
    async for body in reply.chunks:
        headers.append((b"content-length", str(len(body)).encode()))
        yield start
        yield {"type": "http.response.body", "body": body, "more_body": False}
