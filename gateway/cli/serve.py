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
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import structlog
import uvicorn
import uvloop

from gateway.cli.embedded import Gateway, open_gateway
from runtime.errors import ConfigurationError
from runtime.settings import Settings
from runtime.telemetry import set_up_logging

GRACE_S = 30
BACKLOG = 4096
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


async def _serve(settings: Settings) -> None:
    public = _listen(settings.host, settings.port)
    port = public.getsockname()[1]
    admin = _listen(settings.admin_host, settings.resolved_admin_port if settings.port else 0)
    async with open_gateway(settings) as gateway:
        servers = [make_server(gateway.app, settings), make_server(gateway.admin, settings)]
        scheme = "https" if settings.tls_cert else "http"
        _announce(settings, gateway, f"{scheme}://{settings.host}:{port}", admin.getsockname()[1])
        gc.collect()
        gc.freeze()  # what lives for the whole process is not looked at again
        await _until_stopped(servers, [public, admin])


def _listen(host: str, port: int) -> socket.socket:
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


async def _until_stopped(servers: list[Server], listeners: list[socket.socket]) -> None:
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
