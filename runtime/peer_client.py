"""The client of our own processes: ``HttpClient`` with this process's certificate, made anew when it is renewed."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

import structlog

from runtime.errors import ConfigurationError
from runtime.http import HttpClient, HttpRequest, HttpResponse
from runtime.tls import TlsFiles, client_context

CHECK_EVERY_S = 1.0

log = structlog.get_logger()


class PeerClient:
    """Mutual TLS to our own servers. ``send`` is a ``runtime.http.Sender``.

    The client before a renewal is kept until the next one, so that answers under way come to their end: certificates are
    renewed hours apart, and no answer may take that long.
    """

    def __init__(self, files: TlsFiles) -> None:
        """Raises ConfigurationError where the files cannot be read."""
        self._files = files
        self._checked_at = time.monotonic()
        self._renewing = asyncio.Lock()
        self._retired: HttpClient | None = None
        try:
            self._stamp = files.stamp()
            self._client = self._open()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the TLS files beside {files.certificate} cannot be used") from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.close()
        if self._retired is not None:
            await self._retired.close()

    async def send(self, request: HttpRequest, deadline: float) -> HttpResponse:
        """As ``HttpClient.send``; a server that refuses our certificate counts as unreachable."""
        if time.monotonic() - self._checked_at >= CHECK_EVERY_S:
            await self.refresh()
        return await self._client.send(request, deadline)

    async def refresh(self) -> None:
        """Take up renewed files; those that cannot be read, as in the midst of a renewal, are left for later."""
        async with self._renewing:
            self._checked_at = time.monotonic()
            try:
                stamp = await asyncio.to_thread(self._files.stamp)
                if stamp == self._stamp:
                    return
                renewed = self._open()
            except (OSError, ValueError, ConfigurationError) as error:
                log.warning("renewed TLS files not taken up", cause=type(error).__name__)
                return
            former, self._retired = self._retired, self._client
            self._client, self._stamp = renewed, stamp
        if former is not None:
            await former.close()

    def _open(self) -> HttpClient:
        return HttpClient(context=client_context(self._files))
