"""A recording upstream: a real HTTP server that keeps every byte it was sent. What it received is the oracle."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

ANSWER = "Recorded, thank you very much indeed."


@dataclass(slots=True)
class Received:
    """One request as it arrived."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[str, str]]
    body: bytes
    disconnected: bool = False

    @property
    def everything(self) -> bytes:
        head = "\n".join(f"{name}: {value}" for name, value in self.headers)
        return f"{self.method} {self.path}".encode() + b"?" + self.query + b"\n" + head.encode() + b"\n" + self.body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Behaviour = Callable[[Received, Any, Any], Awaitable[None]]


@dataclass
class Recorder:
    """An OpenAI-compatible upstream that answers everything with ``answer``; ``behaviour`` may replace how."""

    answer: str = ANSWER
    models: list[str] | None = None
    received: list[Received] = field(default_factory=list)
    behaviour: Behaviour | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def calls(self) -> list[Received]:
        """Requests for an answer; probes for the list of models aside."""
        return [r for r in self.received if r.method == "POST"]

    def saw(self, text: str) -> bool:
        """Whether ``text`` is in anything received, as it stands or as JSON would escape it."""
        forms = {text.encode(), json.dumps(text)[1:-1].encode()}
        return any(form in received.everything for received in self.received for form in forms)

    def clear(self) -> None:
        self.received.clear()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]
        request = Received(scope["method"], scope["path"], scope["query_string"], headers, body)
        self.received.append(request)
        if request.method == "GET":
            if request.path != "/v1/models" or self.models is None:
                await respond(send, 404, {"error": {"message": "none", "type": "x", "code": None, "param": None}})
            else:
                await respond(
                    send, 200, {"object": "list", "data": [{"id": m, "object": "model"} for m in self.models]}
                )
        elif self.behaviour is not None:
            await self.behaviour(request, receive, send)
        else:
            await answer_chat(request, send, self.answer)


async def answer_chat(request: Received, send: Any, answer: str) -> None:
    try:
        asked = request.json
    except ValueError:
        asked = {}
    if asked.get("stream"):
        await start_stream(send)
        for word in answer.split(" "):
            await send_event(send, {"role": "assistant", "content": word + " "})
        await send_event(send, {}, finish="stop")
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        return
    message: dict[str, Any] = {"role": "assistant", "content": answer}
    finish = "stop"
    if asked.get("tool_choice") == "required":
        call = {"id": "call_1", "type": "function", "function": {"name": "lookup", "arguments": '{"q": "x"}'}}
        message, finish = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    await respond(
        send,
        200,
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": asked.get("model", ""),
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
        },
    )


async def respond(send: Any, status: int, value: Any, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    body = json.dumps(value).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def start_stream(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})


async def send_event(send: Any, delta: dict[str, Any], finish: str | None = None) -> None:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "recorder",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    await send(
        {"type": "http.response.body", "body": b"data: " + json.dumps(chunk).encode() + b"\n\n", "more_body": True}
    )


class ThreadedServer:
    """An ASGI app behind uvicorn on a free loopback port, in a thread with a loop of its own."""

    def __init__(self, app: Any) -> None:
        self._socket = bound_socket()
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app, lifespan="off", log_level="critical", access_log=False, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def start(self) -> None:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the test server did not start")
            threading.Event().wait(0.005)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()


@contextmanager
def recording(**options: Any) -> Iterator[Recorder]:
    recorder = Recorder(**options)
    server = ThreadedServer(recorder)
    server.start()
    recorder.port = server.port
    try:
        yield recorder
    finally:
        server.stop()


def bound_socket() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener
