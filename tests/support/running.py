"""A running gateway: the real one, all of it, on loopback ports, in a thread of its own so that tests may be synchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from audit.event import ClosingEvent, DecisionEvent, Event
from audit.query import tail
from gateway.cli.embedded import open_gateway
from gateway.cli.serve import make_server
from runtime.settings import Settings
from tests.support.recorder import Recorder, bound_socket, recording


@dataclass
class Running:
    """A gateway between two recording upstreams."""

    settings: Settings
    url: str
    admin_url: str
    cloud: Recorder
    onprem: Recorder
    client: httpx.Client

    def chat(self, content: Any = "hello", *, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        body = {"model": "auto", "messages": [{"role": "user", "content": content}]} | fields
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def post(self, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.client.post(
            "/v1/chat/completions", content=body, headers={"content-type": "application/json"} | (headers or {})
        )

    def events(self, request_id: str | None = None) -> list[Event]:
        """The audit's durable events, oldest first."""
        found = [event for _, _, event in tail(self.settings.audit_dir, 100_000)]
        return [e for e in found if request_id is None or getattr(e, "request_id", None) == request_id]

    def decisions(self, request_id: str | None = None) -> list[DecisionEvent]:
        return [e for e in self.events(request_id) if isinstance(e, DecisionEvent)]

    def closings(self, request_id: str | None = None) -> list[ClosingEvent]:
        return [e for e in self.events(request_id) if isinstance(e, ClosingEvent)]


class _GatewayThread:
    """``open_gateway`` in a loop of its own; its listeners are uvicorn's."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.ports = (0, 0)

    def start(self) -> tuple[int, int]:
        self._thread.start()
        self._ready.wait(30)
        if self._failure is not None:
            raise self._failure
        return self.ports

    def stop(self) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive(), "the gateway did not end"

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with open_gateway(self._settings) as gateway:
            servers = [make_server(app, self._settings) for app in (gateway.app, gateway.admin)]
            sockets = [bound_socket(), bound_socket()]
            tasks = [
                asyncio.create_task(server.serve(sockets=[listener]))
                for server, listener in zip(servers, sockets, strict=True)
            ]
            while not all(server.started for server in servers):
                await asyncio.sleep(0)
            self.ports = (sockets[0].getsockname()[1], sockets[1].getsockname()[1])
            self._ready.set()
            await self._stop.wait()
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*tasks)
            for listener in sockets:
                listener.close()


@contextmanager
def running(
    state_dir: Path, *, cloud: Recorder | None = None, onprem: Recorder | None = None, **options: Any
) -> Iterator[Running]:
    """A gateway with ``options`` as settings; recorders are made where none are given."""
    with _recorder(cloud) as cloud_side, _recorder(onprem) as onprem_side:
        settings = Settings(
            **({"state_dir": state_dir, "cloud_url": cloud_side.url, "onprem_url": onprem_side.url} | options)
        )
        thread = _GatewayThread(settings)
        port, admin_port = thread.start()
        url = f"http://127.0.0.1:{port}"
        try:
            with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
                yield Running(settings, url, f"http://127.0.0.1:{admin_port}", cloud_side, onprem_side, client)
        finally:
            thread.stop()


@contextmanager
def _recorder(given: Recorder | None) -> Iterator[Recorder]:
    if given is not None:
        yield given
    else:
        with recording() as made:
            yield made
