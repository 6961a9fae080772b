"""Our own servers over real sockets with certificates of a private CA, in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from deploy import certificates
from deploy.certificates import Identity
from runtime.http import HttpClient
from runtime.listener import ASGIApp, Listener
from runtime.peer_client import PeerClient
from runtime.tls import ServerTls, TlsFiles
from tests.support.recorder import bound_socket

IDENTITIES = [
    Identity("server-a", "server"),
    Identity("gateway-a", "gateway"),
    Identity("gateway-b", "gateway"),
    Identity("worker-a", "worker"),
]


@dataclass
class Authority:
    """A CA in a temporary folder, with ``IDENTITIES`` issued."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Authority:
        certificates.issue(folder, IDENTITIES)
        return cls(folder)

    def files(self, name: str) -> TlsFiles:
        at = certificates.files(self.folder, name)
        return TlsFiles(at.identity, at.identity, at.ca, at.crl)

    def client(self, name: str) -> PeerClient:
        return PeerClient(self.files(name))

    def nameless(self) -> HttpClient:
        """A client that trusts the CA and shows no certificate."""
        return HttpClient(ca_file=self.files("server-a").ca)

    def stranger(self, folder: Path) -> HttpClient:
        """A client that trusts the CA and shows the same name and role, by another CA's word."""
        other = Authority.make(folder)
        context = ssl.create_default_context(cafile=self.files("server-a").ca)
        context.load_cert_chain(other.files("gateway-a").certificate)
        return HttpClient(context=context)

    def revoke(self, name: str) -> None:
        certificates.revoke(self.folder, name)


@dataclass
class Serving:
    """A running server."""

    url: str
    listener: Listener


@asynccontextmanager
async def serving(app: ASGIApp, files: TlsFiles | None) -> AsyncIterator[Serving]:
    """``app`` on a free loopback port; over mutual TLS where there are files."""
    listener = Listener(ServerTls(files) if files is not None else None)
    server = uvicorn.Server(listener.config(app))
    server.config.timeout_graceful_shutdown = 1
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    listening = bound_socket()
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await until(lambda: server.started or running.done())
        yield Serving(f"{'https' if files else 'http'}://127.0.0.1:{listening.getsockname()[1]}", listener)
    finally:
        server.should_exit = True
        await running
        listening.close()


async def until(condition: Callable[[], bool], within_s: float = 10) -> None:
    """Wait for a condition that other tasks bring about; fails where it does not come."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)
