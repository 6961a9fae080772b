"""How our own processes listen to each other: uvicorn over mutual TLS, with the peer in the ASGI scope.

handshake ─▶ Peer(name, role) ─▶ scope["extensions"]["watershed.peer"] ─▶ require_role ─▶ the app
               └─ revoked: its open connections are closed within REFRESH_S
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.errors import PayloadTooLargeError, PermissionDeniedError, RequestError
from runtime.tls import Peer, ServerTls, peer_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

PEER = "watershed.peer"
REFRESH_S = 5.0
KEEP_ALIVE_S = 60
"""Above the 30 s after which our clients let an idle connection go, so that a server never closes one being used."""

BODY_TIMEOUT_S = 30.0
_GRACE_S = 30

log = structlog.get_logger()


class Listener:
    """One listener's TLS files and open connections. ``tls`` is None for a plain one, on loopback only."""

    def __init__(self, tls: ServerTls | None) -> None:
        self._tls = tls
        self._connections: set[_Connection] = set()

    def config(self, app: ASGIApp) -> uvicorn.Config:
        """Uvicorn as our processes run it; it believes no forwarded header and says nothing of itself."""
        tls, connections = self._tls, self._connections

        class Connection(_Connection):
            open_connections = connections

        return uvicorn.Config(
            app,
            loop="none",
            http=Connection,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
            ssl_context_factory=(lambda _config, _default: tls.listening) if tls is not None else None,
        )

    async def watch(self) -> None:
        """Take up renewed files and close the connections of revoked peers, until cancelled; whoever listens owns it."""
        while True:
            await asyncio.sleep(REFRESH_S)
            await self.refresh()

    async def refresh(self) -> None:
        """One round of ``watch``."""
        if self._tls is None or not await asyncio.to_thread(self._tls.refresh):
            return
        log.info("TLS files renewed")
        for connection in tuple(self._connections):
            if connection.peer is not None and connection.peer.serial in self._tls.revoked:
                log.warning("connection of a revoked peer closed", peer=connection.peer.name)
                connection.transport.abort()


class _Connection(HttpToolsProtocol):
    open_connections: set[_Connection]
    peer: Peer | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.peer = peer_of(transport.get_extra_info("peercert"))
        self.open_connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open_connections.discard(self)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {PEER: self.peer}  # type: ignore[dict-item]


def caller_of(scope: Scope) -> Peer | None:
    """The peer of a verified certificate; None on a plain connection."""
    peer = scope.get("extensions", {}).get(PEER)
    return peer if isinstance(peer, Peer) else None


def require_role(scope: Scope, roles: frozenset[str]) -> Peer:
    """The caller, whose certificate has one of ``roles``.

    Raises:
        PermissionDeniedError: it has another, or there is no certificate.
    """
    peer = caller_of(scope)
    if peer is None or peer.role not in roles:
        raise PermissionDeniedError("this certificate's role may not call this service", code="peer_role")
    return peer


def is_plain_loopback(scope: Scope) -> bool:
    """Whether the connection has no TLS and comes from this machine."""
    client = scope.get("client")
    if scope["scheme"] != "http" or not client:
        return False
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


class CallerLeftError(Exception):
    """The connection ended before the body did."""


async def read_body(receive: Receive, *, max_bytes: int) -> bytes:
    """A request's whole body.

    Raises:
        PayloadTooLargeError: it is longer than ``max_bytes``.
        RequestError: it does not arrive within BODY_TIMEOUT_S.
        CallerLeftError
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise CallerLeftError
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > max_bytes:
                    raise PayloadTooLargeError(f"a request body may have {max_bytes} bytes")
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise RequestError("the request's body did not arrive", code="body_timeout") from None


async def answer(send: Send, status: int, body: bytes, content_type: str) -> None:
    """A whole answer as ASGI messages."""
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer_health(send: Send, path: str, missing: list[str]) -> None:
    """``/healthz``: the process runs. ``/readyz``: 200, or 503 and what it is waiting for, a line each."""
    waiting = missing if path == "/readyz" else []
    await answer(send, 503 if waiting else 200, "\n".join(waiting or ["ok"]).encode() + b"\n", "text/plain")
