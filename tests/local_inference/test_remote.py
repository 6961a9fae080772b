"""The operator's own model server, over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from local_inference import remote
from local_inference.remote import RemoteNode
from runtime.errors import (
    ConfigurationError,
    DeadlineExceededError,
    PermissionDeniedError,
    TargetError,
    UpstreamError,
)
from runtime.http import HttpClient, HttpRequest
from tests.local_inference.fakes import until


class ModelServer:
    """A fake model server: answers by path, and records what it received."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {
            "/v1/models": (200, {}, json.dumps({"object": "list", "data": [{"id": "qwen"}, {"id": "llama"}]}).encode()),
            "/v1/chat/completions": (200, {"content-type": "application/json"}, b'{"ok": true}'),
        }
        self.silent: set[str] = set()
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        path = scope["raw_path"].decode() + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        self.received.append((path, {k.decode(): v.decode() for k, v in scope["headers"]}, body))
        if path in self.silent:
            await receive()  # until the client goes away
            return
        status, headers, answer = self.answers.get(path, (404, {}, b"{}"))
        encoded = [(k.encode(), v.encode()) for k, v in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": answer})

    def calls(self, path: str) -> int:
        return sum(received == path for received, _, _ in self.received)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    app = ModelServer()
    listener = socket.create_server(("127.0.0.1", 0))
    app.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    running = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error", timeout_graceful_shutdown=1))  # type: ignore[arg-type]
    task = asyncio.create_task(running.serve(sockets=[listener]))
    await until(lambda: running.started)
    yield app
    running.should_exit = True
    await task


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient() as client:
        yield client


def _node(server: ModelServer, http: HttpClient, suffix: str = "", key: str | None = None) -> RemoteNode:
    return RemoteNode(server.url + suffix, key=key, ca_file=None, http=http)


def _chat(model: str = "qwen", headers: tuple[tuple[str, str], ...] = ()) -> HttpRequest:
    return HttpRequest("POST", "/v1/chat/completions", headers, json.dumps({"model": model}).encode())


def _soon(seconds: float = 10) -> float:
    return time.monotonic() + seconds


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_a_base_url_works_with_and_without_v1(server: ModelServer, http: HttpClient, suffix: str) -> None:
    node = _node(server, http, suffix)
    await node.start()
    response = await node.send(_chat(), _soon())
    assert (response.status, await response.body(max_bytes=1000)) == (200, b'{"ok": true}')
    assert await node.models() == ("qwen", "llama")


async def test_the_body_goes_as_it_is_with_our_key_and_without_our_headers(
    server: ModelServer, http: HttpClient
) -> None:
    request = _chat(
        headers=(("Authorization", "Bearer callers"), ("X-Watershed-Priority", "general"), ("accept", "a/b"))
    )
    await _node(server, http, key="servers").send(request, _soon())
    headers, body = next((h, b) for path, h, b in server.received if path == "/v1/chat/completions")
    assert body == request.body
    assert headers["authorization"] == "Bearer servers"
    assert headers["accept"] == "a/b"
    assert not [name for name in headers if name.startswith("x-watershed")]


async def test_a_query_does_not_travel(server: ModelServer, http: HttpClient) -> None:
    await _node(server, http).send(HttpRequest("POST", "/v1/chat/completions?a=b", (), b"{}"), _soon())
    assert server.calls("/v1/chat/completions") == 1


@pytest.mark.parametrize("model", ["gpt-oss:120b-cloud", "glm-4.6:cloud", "Qwen:CLOUD"])
async def test_models_named_for_a_cloud_are_refused(server: ModelServer, http: HttpClient, model: str) -> None:
    with pytest.raises(PermissionDeniedError) as refused:
        await _node(server, http).send(_chat(model), _soon())
    assert model not in refused.value.message
    assert server.calls("/v1/chat/completions") == 0


async def test_models_that_ollama_forwards_are_refused_and_not_listed(server: ModelServer, http: HttpClient) -> None:
    server.answers["/v1/models"] = (200, {}, b'{"data": [{"id": "qwen"}, {"id": "big:latest"}, {"id": "x:cloud"}]}')
    tags = {"models": [{"name": "qwen"}, {"name": "big:latest", "remote_host": "https://ollama.com:443"}]}
    server.answers["/api/tags"] = (200, {}, json.dumps(tags).encode())
    node = _node(server, http)
    assert await node.models() == ("qwen",)
    for alias in ("big:latest", "big"):
        with pytest.raises(PermissionDeniedError):
            await node.send(_chat(alias), _soon())
    assert server.calls("/v1/chat/completions") == 0


@pytest.mark.parametrize("listing", [(404, {}, b""), (200, {}, b"<html>"), (200, {}, b'{"data": 1}'), (500, {}, b"{}")])
async def test_a_server_without_a_listing_still_serves(
    server: ModelServer, http: HttpClient, listing: tuple[int, dict[str, str], bytes]
) -> None:
    server.answers["/v1/models"] = listing
    node = _node(server, http)
    assert await node.models() is None
    assert (await node.send(_chat(), _soon())).status == 200


async def test_a_listing_that_does_not_come_is_given_up(
    server: ModelServer, http: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PROBE_TIMEOUT_S", 0.1)
    server.silent.add("/v1/models")
    assert await _node(server, http).models() is None


async def test_one_probe_serves_all_for_a_while(server: ModelServer, http: HttpClient) -> None:
    node = _node(server, http)
    await asyncio.gather(*(node.send(_chat(), _soon()) for _ in range(5)), node.models())
    assert server.calls("/v1/models") == 1


async def test_an_address_that_is_not_onprem_is_refused_at_start(http: HttpClient) -> None:
    with pytest.raises(ConfigurationError):
        await RemoteNode("http://8.8.8.8", key=None, ca_file=None, http=http).start()
    with pytest.raises(ConfigurationError):
        await RemoteNode("http://10.0.0.1", key=None, ca_file=None, http=http).start()


async def test_a_name_that_moves_to_a_public_address_is_refused_on_the_next_probe(
    server: ModelServer, http: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PROBE_EVERY_S", 0)
    node = RemoteNode(server.url.replace("127.0.0.1", "localhost"), key=None, ca_file=None, http=http)
    await node.start()
    assert (await node.send(_chat(), _soon())).status == 200
    moved = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 80))]
    with monkeypatch.context() as patched:
        patched.setattr("socket.getaddrinfo", lambda *_, **__: moved)
        with pytest.raises(TargetError) as refused:
            await node.send(_chat(), _soon())
    assert refused.value.code == "onprem_address_refused"
    assert server.calls("/v1/chat/completions") == 1
    assert (await node.send(_chat(), _soon())).status == 200


async def test_a_redirect_is_refused(server: ModelServer, http: HttpClient) -> None:
    server.answers["/v1/chat/completions"] = (307, {"location": "https://example.com/"}, b"")
    with pytest.raises(UpstreamError):
        await _node(server, http).send(_chat(), _soon())


async def test_a_server_that_is_gone_is_a_target_error(http: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    node = RemoteNode(f"http://127.0.0.1:{port}", key=None, ca_file=None, http=http)
    with pytest.raises(TargetError):
        await node.send(_chat(), _soon())


async def test_a_server_that_does_not_answer_is_left_at_the_deadline(server: ModelServer, http: HttpClient) -> None:
    node = _node(server, http)
    await node.models()
    server.silent.add("/v1/chat/completions")
    with pytest.raises(DeadlineExceededError):
        await node.send(_chat(), _soon(0.2))
