"""The data plane's HTTP: one request, one streamed answer, over one kept-alive client.

    HttpRequest ──▶ Sender ──▶ HttpResponse(status, headers, chunks)

A ``Sender`` is anything that takes a request for a target and gives back its streamed answer: ``HttpClient.send`` over
the network, an in-process node's ``handle``, the bridge. The client is pyreqwest (Rust's reqwest): the pool of httpx
collapses under concurrency. It ignores proxy variables, follows no redirect and asks for no compression (docs/threat-model.md,
rule 3), so that what is cleared is what is sent.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import SplitResult, urlsplit

import msgspec
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError

from runtime.errors import ConfigurationError, DeadlineExceededError, TargetError, UpstreamError

Headers = tuple[tuple[str, str], ...]
READ_CHUNK_BYTES = 65_536


class HttpRequest(msgspec.Struct, frozen=True):
    """What is sent to a target: method, absolute URL (or a path, in process), headers and body, exactly."""

    method: str
    url: str
    headers: Headers
    body: bytes


class HttpResponse:
    """A streamed answer. Iterate ``chunks`` once; ``aclose`` stops the work behind it, and is safe to call twice."""

    __slots__ = ("_close", "chunks", "headers", "status")

    def __init__(
        self,
        status: int,
        headers: dict[str, str],
        chunks: AsyncIterator[bytes],
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.chunks = chunks
        self._close = close

    async def body(self, *, max_bytes: int) -> bytes:
        """The whole answer.

        Raises:
            UpstreamError: it is longer than ``max_bytes``.
        """
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks:
            size += len(chunk)
            if size > max_bytes:
                await self.aclose()
                raise UpstreamError("the target's answer is too long", code="answer_too_long")
            parts.append(chunk)
        return b"".join(parts)

    async def aclose(self) -> None:
        if self._close is not None:
            close, self._close = self._close, None
            await close()


Sender = Callable[[HttpRequest, float], Awaitable[HttpResponse]]
"""``await sender(request, deadline)``; ``deadline`` is in ``time.monotonic()`` seconds.

Raises TargetError when nothing was answered (another target may be tried) and DeadlineExceededError.
"""


class HttpClient:
    """Sends requests over pooled connections; one per process and trust domain."""

    def __init__(
        self, *, ca_file: Path | None = None, identity_pem: bytes | None = None, connect_timeout_s: float = 2.0
    ) -> None:
        builder = (
            ClientBuilder()
            .user_agent("watershed")
            .no_proxy()
            .follow_redirects(False)
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .http1_only()
            .tcp_nodelay(True)
            .connect_timeout(timedelta(seconds=connect_timeout_s))
            .pool_max_idle_per_host(1024)
            .pool_idle_timeout(timedelta(seconds=30))
        )
        if ca_file is not None:
            builder = builder.add_root_certificate_pem(ca_file.read_bytes())
        if identity_pem is not None:
            builder = builder.identity_pem(identity_pem)
        self._client: Client = builder.build()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.close()

    async def send(self, request: HttpRequest, deadline: float) -> HttpResponse:
        """Send ``request`` and return once the answer's head has arrived.

        Raises:
            TargetError: no connection, or it broke before the head.
            DeadlineExceededError: no head by ``deadline``.
        """
        pending = (
            self._client.request(request.method, request.url)
            .headers(list(request.headers))
            .body_bytes(request.body)
            .streamed_read_buffer_limit(0)  # by default the client reads ahead before it gives back the head
            .build_streamed()
        )
        remaining_s = deadline - time.monotonic()
        try:
            async with asyncio.timeout(max(remaining_s, 0)):
                response = await pending.__aenter__()
        except TimeoutError:
            raise DeadlineExceededError("the target did not answer within the deadline") from None
        except PyreqwestError as error:
            raise TargetError("the target cannot be reached", code=_cause(error)) from None

        async def close() -> None:
            await pending.__aexit__(None, None, None)

        async def chunks() -> AsyncIterator[bytes]:
            try:
                reader = response.body_reader
                while chunk := await reader.read_chunk():
                    yield bytes(chunk)
            except PyreqwestError:
                raise UpstreamError("the target broke off its answer", code="answer_broken") from None
            finally:
                await answer.aclose()

        headers = {name.lower(): value for name, value in response.headers.items()}
        answer = HttpResponse(response.status, headers, chunks(), close)
        return answer


def _cause(error: PyreqwestError) -> str:
    return "target_timeout" if "timeout" in type(error).__name__.lower() else "target_unreachable"


def parse_base_url(url: str, what: str) -> SplitResult:
    """A base URL in parts.

    Raises:
        ConfigurationError: it is not http(s), has no host, or carries credentials, a query or a fragment.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(f"{what} must be an http:// or https:// URL with a host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError(f"{what} must carry no credentials, query or fragment; keys come from a file")
    return parts


def require_onprem_address(url: str, *, pinned_ca: bool) -> None:
    """Refuse an on-prem target that is not on-prem (docs/threat-model.md, rule 7).

    Loopback is always on-prem; a private address needs https and a pinned CA; any other address, or a name that
    resolves to one, is refused. Called at start and again on every probe, since DNS changes.

    Raises:
        ConfigurationError: the address is public, or private without a pinned CA, or does not resolve.
    """
    parts = parse_base_url(url, "the on-prem URL")
    host = parts.hostname or ""
    try:
        infos = socket.getaddrinfo(
            host, parts.port or (443 if parts.scheme == "https" else 80), type=socket.SOCK_STREAM
        )
    except OSError:
        raise ConfigurationError(f"the on-prem host {host} does not resolve") from None
    for info in infos:
        address = ipaddress.ip_address(str(info[4][0]).split("%")[0])
        if address.is_loopback:
            continue
        if not address.is_private or address.is_unspecified or address.is_link_local:
            raise ConfigurationError(
                f"the on-prem host {host} has a public address: an on-prem target is loopback, or private with a pinned CA"
            )
        if parts.scheme != "https" or not pinned_ca:
            raise ConfigurationError(
                f"the on-prem host {host} is not loopback: use https and name its CA with WATERSHED_ONPREM_CA_FILE"
            )
