"""The node over HTTP: a thin ASGI app around ``Node.handle``.

    gateway ══ mutual TLS ══▶ role ─▶ body ─▶ lease of the request (journal) ─▶ Node.handle ─▶ chunks as they come
                              a caller who leaves, or a lease that is lost, stops the work

A gateway names its request (``REQUEST_ID_HEADER``) where another node might be asked the same; only the one that holds the
lease answers it. An answer that breaks off ends the connection without its last chunk, so that nobody takes it for whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import msgspec
import structlog

from local_inference.journal import Journal, Lease
from runtime.errors import InvalidRequestError, WatershedError
from runtime.http import HttpRequest, HttpResponse, Sender
from runtime.ids import CLIENT_ID
from runtime.listener import (
    CallerLeftError,
    Receive,
    Scope,
    Send,
    answer,
    answer_health,
    is_plain_loopback,
    read_body,
    require_role,
)

ROLES = frozenset({"gateway"})
DEADLINE_HEADER = "x-watershed-deadline-ms"
"""Milliseconds that are left when the gateway sends the request."""

REQUEST_ID_HEADER = "x-watershed-request-id"
DEFAULT_DEADLINE_MS = 60_000
MAX_DEADLINE_MS = 600_000

log = structlog.get_logger()


class NodeServer:
    """The ASGI app of one node.

    Args:
        handle: ``Node.handle``, or the ``send`` of a model server of the operator's own.
        missing: what the node is still waiting for; nothing once it is ready.
        journal: None where no other node could be asked the same.
        max_body_bytes: of a request.
    """

    def __init__(
        self,
        handle: Sender,
        *,
        missing: Callable[[], list[str]],
        journal: Journal | None,
        max_body_bytes: int,
    ) -> None:
        self._handle = handle
        self._missing = missing
        self._journal = journal
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in {"/healthz", "/readyz"}:
            await answer_health(send, scope["path"], self._missing())
            return
        try:
            if not is_plain_loopback(scope):
                require_role(scope, ROLES)
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            deadline = _deadline(headers)
            request_id = _request_id(headers)
            body = await read_body(receive, max_bytes=self._max_body_bytes)
        except WatershedError as error:
            await _refuse(send, error)
            return
        except CallerLeftError:
            return
        request = HttpRequest(scope["method"], scope["path"], tuple(headers.items()), body)
        whole = asyncio.Event()

        async def watched(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                whole.set()  # from here on the caller counts as gone, and the lease has yet to be ended
            await send(message)

        work = asyncio.create_task(self._work(request, request_id, deadline, watched))
        watcher = asyncio.create_task(_until_disconnect(receive))
        try:
            await asyncio.wait({work, watcher}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watcher.cancel()
            if not whole.is_set():
                work.cancel()
            (failure, _) = await asyncio.gather(work, watcher, return_exceptions=True)
            if isinstance(failure, Exception):
                log.warning("answer broken off", request_id=request_id, cause=type(failure).__name__)

    async def _work(self, request: HttpRequest, request_id: str | None, deadline: float, send: Send) -> None:
        if self._journal is None or request_id is None:
            await self._answer(request, deadline, send)
            return
        try:
            lease = await self._journal.claim(request_id, _digest(request), deadline)
        except WatershedError as error:
            await _refuse(send, error)
            return
        await self._answer_held(lease, request, deadline, send)

    async def _answer_held(self, lease: Lease, request: HttpRequest, deadline: float, send: Send) -> None:
        """Answer for as long as the lease is ours."""
        answering = asyncio.create_task(self._answer(request, deadline, send))
        keeping = asyncio.create_task(lease.keep())
        try:
            await asyncio.wait({answering, keeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            keeping.cancel()
            answering.cancel()  # does nothing to one that has ended
            status, _ = await asyncio.gather(answering, keeping, return_exceptions=True)
            await lease.end(answered=isinstance(status, int) and status < 500)
        answering.result()

    async def _answer(self, request: HttpRequest, deadline: float, send: Send) -> int:
        """Pass the node's answer on; its status. Raises the WatershedError that breaks a stream off."""
        try:
            response = await self._handle(request, deadline)
        except WatershedError as error:  # of a sender other than a node of ours, which answers its faults
            return await _refuse(send, error)
        try:
            await send(_start(response))
            async for chunk in response.chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        finally:
            await response.aclose()
        await send({"type": "http.response.body", "body": b""})
        return response.status


def _start(response: HttpResponse) -> dict[str, object]:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
    return {"type": "http.response.start", "status": response.status, "headers": headers}


async def _refuse(send: Send, error: WatershedError) -> int:
    detail = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    await answer(send, error.status, msgspec.json.encode({"error": detail}), "application/json")
    return error.status


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _deadline(headers: Mapping[str, str]) -> float:
    stated = headers.get(DEADLINE_HEADER, str(DEFAULT_DEADLINE_MS))
    if not (stated.isascii() and stated.isdigit() and 0 < int(stated) <= MAX_DEADLINE_MS):
        raise InvalidRequestError(f"{DEADLINE_HEADER} is a number of milliseconds up to {MAX_DEADLINE_MS}")
    return time.monotonic() + int(stated) / 1000


def _request_id(headers: Mapping[str, str]) -> str | None:
    stated = headers.get(REQUEST_ID_HEADER)
    if stated is not None and not CLIENT_ID.fullmatch(stated):
        raise InvalidRequestError(f"{REQUEST_ID_HEADER} is 1 to 128 letters, digits, '_', '.' or '-'")
    return stated


def _digest(request: HttpRequest) -> bytes:
    return hashlib.sha256(b"\0".join((request.method.encode(), request.url.encode(), request.body))).digest()
