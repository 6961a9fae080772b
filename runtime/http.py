"""The data plane's HTTP: one request, one streamed answer, over one kept-alive client.

    HttpRequest ──▶ Sender ──▶ HttpResponse(status, headers, chunks)

A ``Sender`` is anything that takes a request for a target and gives back its streamed answer: ``HttpClient.send`` over
the network, an in-process node's ``handle``, the bridge. The client is aiohttp's: the pool of httpx collapses under
concurrency, and reqwest's bindings cannot stop a request whose answer has not begun, nor trust one CA alone. It ignores
proxy variables, follows no redirect, keeps no cookie and asks for no compression (docs/threat-model.md, rule 3), so that
what is cleared is what is sent.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import SplitResult, urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from runtime.errors import ConfigurationError, DeadlineExceededError, TargetError, UpstreamError

Headers = tuple[tuple[str, str], ...]
READ_CHUNK_BYTES = 65_536
KEEP_ALIVE_S = 30.0


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
    """Sends requests over pooled connections; one per process and trust domain. Make it inside the running loop.

    Args:
        ca_file: the only CA that servers may show; by default the system's are trusted.
        context: a TLS context in its place, as ``runtime.tls`` makes them.
        resolver: looks names up in the place of the system's.
        connect_timeout_s: bound on name look-up, connection and handshake together.

    Raises:
        OSError: ``ca_file`` cannot be read (``ssl.SSLError`` where it holds no certificate).
    """

    def __init__(
        self,
        *,
        ca_file: Path | None = None,
        context: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
        connect_timeout_s: float = 2.0,
    ) -> None:
        if context is None:
            context = ssl.create_default_context(cafile=ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=context, resolver=resolver, keepalive_timeout=KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=connect_timeout_s),
            headers={"user-agent": "watershed"},
            skip_auto_headers=("accept", "accept-encoding", "content-type"),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_CHUNK_BYTES,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    async def send(self, request: HttpRequest, deadline: float) -> HttpResponse:
        """Send ``request`` and return once the answer's head has arrived. Cancelling the call closes its connection.

        Raises:
            TargetError: no connection, or it broke before the head.
            DeadlineExceededError: no head by ``deadline``.
        """
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                response = await self._session.request(
                    request.method,
                    URL(request.url, encoded=True),
                    headers=CIMultiDict(request.headers),
                    data=request.body or None,
                    allow_redirects=False,
                )
        except aiohttp.ClientConnectionError as error:
            code = "target_timeout" if isinstance(error, TimeoutError) else "target_unreachable"
            raise TargetError("the target cannot be reached", code=code) from None
        except (aiohttp.ClientError, ssl.SSLError):
            raise TargetError("the target gave no HTTP answer", code="target_unreachable") from None
        except TimeoutError:
            raise DeadlineExceededError("the target did not answer within the deadline") from None

        async def close() -> None:
            response.close()  # an unread answer takes its connection along; a read one gave it back

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async for chunk in response.content.iter_any():
                    yield chunk
            except (aiohttp.ClientError, OSError):
                raise UpstreamError("the target broke off its answer", code="answer_broken") from None
            finally:
                response.close()

        headers = {name.lower(): value for name, value in response.headers.items()}
        return HttpResponse(response.status, headers, chunks(), close)


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
    resolves to one, is refused. Called at start and again on every probe; ``OnPremResolver`` holds it between them.

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
        if _zone_of(str(info[4][0])) == "loopback":
            continue
        if _zone_of(str(info[4][0])) == "public":
            raise ConfigurationError(
                f"the on-prem host {host} has a public address: an on-prem target is loopback, or private with a pinned CA"
            )
        if parts.scheme != "https" or not pinned_ca:
            raise ConfigurationError(
                f"the on-prem host {host} is not loopback: use https and name its CA with WATERSHED_ONPREM_CA_FILE"
            )


class OnPremResolver(AbstractResolver):
    """Gives a connection on-prem addresses only, whatever a name resolves to by then (docs/threat-model.md, rule 7).

    Args:
        pinned_ca: whether private addresses are on-prem, or loopback alone is.
    """

    def __init__(self, *, pinned_ca: bool) -> None:
        self._allowed = {"loopback", "private"} if pinned_ca else {"loopback"}
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError where one of the addresses is not on-prem."""
        found = await self._system.resolve(host, port, family)
        if any(_zone_of(result["host"]) not in self._allowed for result in found):
            raise OSError("the on-prem host has an address that is not on-prem")
        return found

    async def close(self) -> None:
        await self._system.close()


def _zone_of(text: str) -> Literal["loopback", "private", "public"]:
    address = ipaddress.ip_address(text.split("%")[0])
    if address.is_loopback:
        return "loopback"
    if not address.is_private or address.is_unspecified or address.is_link_local:
        return "public"
    return "private"
