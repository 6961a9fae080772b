"""``watershed serve``: the two listeners of one gateway process."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import structlog
import uvicorn
import uvloop

from gateway.cli.assembly import Gateway
from runtime.errors import ConfigurationError
from runtime.settings import Settings
from runtime.telemetry import set_up_logging

GRACE_S = 30
BACKLOG = 4096
RENEWAL_CHECK_S = 30.0
SWITCH_INTERVAL_S = 0.0005
"""How long the loop may keep the interpreter from the audit's writer; Python's 5 ms would be most of a request's p99."""

log = structlog.get_logger()


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then let requests in flight end.

    Raises:
        ConfigurationError: something that must hold before the first request does not.
    """
    set_up_logging(settings.log_level, settings.log_format)
    check_listeners(settings)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold requests and keys
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    uvloop.run(_serve(settings))


def check_listeners(settings: Settings) -> None:
    """Raises ConfigurationError for a listener other than loopback without TLS."""
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise ConfigurationError("--tls-cert and --tls-key go together")
    for host in (settings.host, settings.admin_host):
        if not _is_loopback(host) and settings.tls_cert is None:
            raise ConfigurationError(f"listening on {host}, which is not loopback, needs --tls-cert and --tls-key")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _open_gateway(settings: Settings) -> AbstractAsyncContextManager[Gateway]:
    """One of the stack where there are brokers, else the embedded one; neither imports what only the other needs."""
    if settings.kafka_servers is not None:
        from gateway.cli.stack import open_gateway as open_in_stack

        return open_in_stack(settings)
    from gateway.cli.embedded import open_gateway

    return open_gateway(settings)


async def _serve(settings: Settings) -> None:
    public = listen(settings.host, settings.port)
    port = public.getsockname()[1]
    admin = listen(settings.admin_host, settings.resolved_admin_port if settings.port else 0)
    async with _open_gateway(settings) as gateway:
        servers = [make_server(gateway.app, settings), make_server(gateway.admin, settings)]
        scheme = "https" if settings.tls_cert else "http"
        _announce(settings, gateway, f"{scheme}://{settings.host}:{port}", admin.getsockname()[1])
        gc.collect()
        gc.freeze()  # what lives for the whole process is not looked at again
        renewing = asyncio.create_task(_renew_certificate(servers, settings))
        try:
            await until_stopped(servers, [public, admin])
        finally:
            renewing.cancel()


async def _renew_certificate(servers: list[Server], settings: Settings) -> None:
    """Take up a certificate that was replaced, for new connections, until cancelled."""
    certificate, key = settings.tls_cert, settings.tls_key
    if certificate is None or key is None:
        return
    loaded = await asyncio.to_thread(_stamp, certificate, key)
    while True:
        await asyncio.sleep(RENEWAL_CHECK_S)
        try:
            newest = await asyncio.to_thread(_stamp, certificate, key)
            if newest == loaded:
                continue
            for server in servers:
                if server.config.ssl is not None:
                    server.config.ssl.load_cert_chain(certificate, key)
        except OSError as error:  # ssl.SSLError is one: certificate and key are replaced one after the other
            log.warning("renewed certificate not taken up", cause=type(error).__name__)
        else:
            loaded = newest
            log.info("certificate renewed")


def _stamp(*paths: Path) -> list[tuple[int, int]]:
    return [(stat.st_ino, stat.st_mtime_ns) for stat in (path.stat() for path in paths)]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigurationError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port"
        ) from None
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


class Server(uvicorn.Server):
    """Uvicorn without its own signal handlers: both listeners stop together."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


def make_server(app: Any, settings: Settings) -> Server:
    """Uvicorn as the gateway runs it: it believes no forwarded header and says nothing of itself."""
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=None,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    return Server(config)


async def until_stopped(servers: list[Server], listeners: list[socket.socket]) -> None:
    """Serve on each listener until SIGINT or SIGTERM, or until one of the servers ends."""

    def stop() -> None:
        for server in servers:
            if server.should_exit:
                server.force_exit = True
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        async with asyncio.TaskGroup() as group:
            for server, listener in zip(servers, listeners, strict=True):
                group.create_task(_serve_one(server, listener, stop))
    finally:
        for listener in listeners:
            listener.close()


async def _serve_one(server: Server, listener: socket.socket, stop: Callable[[], None]) -> None:
    try:
        await server.serve(sockets=[listener])
    finally:
        stop()


def _announce(settings: Settings, gateway: Gateway, url: str, admin_port: int) -> None:
    lines = [
        f"Watershed listens on {url}/v1  (operators: port {admin_port}, /metrics)",
        *(f"  {zone:<7} {what}" for zone, what in gateway.summary),
        f"  state   {settings.state_dir}",
    ]
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()
