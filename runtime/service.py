"""Calls between our own processes: one POST of msgpack, one answer of msgpack or a refusal with its code.

ServiceClient.call ── mutual TLS ──▶ Service ─▶ role ─▶ handler(peer, body) ─▶ bytes
                   ◀── 200 answer, or Refusal(code, message) ──
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog

from runtime.errors import DeadlineExceededError, MethodNotAllowedError, NotFoundError, UpstreamError, WatershedError
from runtime.http import HttpRequest, Sender, parse_base_url
from runtime.listener import CallerLeftError, Receive, Scope, Send, answer, answer_health, read_body, require_role
from runtime.tls import Peer

MSGPACK = "application/msgpack"
HEALTH_PATHS = frozenset({"/healthz", "/readyz"})

Handler = Callable[[Peer, bytes], Awaitable[bytes]]
"""``await handler(caller, body)``: the answer's body. A WatershedError goes back to the caller as a Refusal."""

log = structlog.get_logger()


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a service did not do what it was asked: the error's code and message, as ``runtime.errors`` describes them."""

    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None


class Service:
    """An ASGI app of handlers by path.

    Args:
        roles: of certificates that may call a handler; ``/healthz`` and ``/readyz`` answer every peer.
        missing: what the process is still waiting for; nothing once it is ready.
        max_body_bytes: of a request.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        roles: frozenset[str],
        missing: Callable[[], list[str]],
        max_body_bytes: int,
    ) -> None:
        self._handlers = dict(handlers)
        self._roles = roles
        self._missing = missing
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in HEALTH_PATHS:
            await answer_health(send, scope["path"], self._missing())
            return
        try:
            status, body = 200, await self._handle(scope, receive)
        except WatershedError as error:
            refusal = Refusal(error.code, error.message, error.param, error.retry_after_s)
            status, body = error.status, msgspec.msgpack.encode(refusal)
        except CallerLeftError:
            return
        except Exception as error:  # a fault of ours: it may quote the request, so its class alone is told
            log.error("service call failed", path=scope["path"], cause=type(error).__name__, exc_info=True)
            status, body = 500, msgspec.msgpack.encode(Refusal("internal_error", "the service failed"))
        await answer(send, status, body, MSGPACK)

    async def _handle(self, scope: Scope, receive: Receive) -> bytes:
        peer = require_role(scope, self._roles)
        handler = self._handlers.get(scope["path"])
        if handler is None:
            raise NotFoundError("this service has no such call")
        if scope["method"] != "POST":
            raise MethodNotAllowedError("use POST")
        return await handler(peer, await read_body(receive, max_bytes=self._max_body_bytes))


class ServiceClient:
    """Calls one service over ``send`` (``PeerClient.send``)."""

    def __init__(self, send: Sender, base_url: str) -> None:
        """Raises ConfigurationError where ``base_url`` is none."""
        parse_base_url(base_url, "the service's URL")
        self._send = send
        self._base_url = base_url.rstrip("/")

    async def call(self, path: str, body: bytes, *, deadline: float, max_answer_bytes: int) -> bytes | Refusal:
        """The answer to one call. ``deadline``: of the whole answer, in ``time.monotonic()`` seconds.

        Raises:
            TargetError: the service cannot be reached.
            UpstreamError: what it answers is broken off, too long or no answer of a service of ours.
            DeadlineExceededError
        """
        request = HttpRequest("POST", self._base_url + path, (("content-type", MSGPACK),), body)
        response = await self._send(request, deadline)
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                data = await response.body(max_bytes=max_answer_bytes)
        except TimeoutError:
            raise DeadlineExceededError("the service did not finish its answer within the deadline") from None
        finally:
            await response.aclose()
        if response.status == 200:
            return data
        try:
            return msgspec.msgpack.decode(data, type=Refusal)
        except msgspec.MsgspecError:
            raise UpstreamError("the service's answer cannot be read", code="service_answer") from None
