"""The node over HTTP: whom it answers, streams and those who leave them, and one answer among two nodes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from local_inference.client import NodeClient, with_request_id
from local_inference.journal import Journal
from local_inference.node import Node
from local_inference.server import DEADLINE_HEADER, REQUEST_ID_HEADER, NodeServer
from local_inference.tables import journal
from runtime.database import migrate, open_async_engine, sqlite_url
from runtime.errors import ConfigurationError, TargetError, UpstreamError
from runtime.http import HttpClient, HttpRequest, HttpResponse, Sender
from runtime.listener import ASGIApp
from runtime.tls import client_context
from tests.local_inference.fakes import EchoEngine
from tests.support.mutual import Authority, serving, until

MAX_BODY = 100_000


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "certificates")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    await asyncio.to_thread(migrate, sqlite_url(tmp_path))
    engine = open_async_engine(sqlite_url(tmp_path))
    yield engine
    await engine.dispose()


def app_of(engine: EchoEngine, book: Journal | None = None, missing: tuple[str, ...] = ()) -> ASGIApp:
    node = Node(lambda: engine)
    return NodeServer(node.handle, missing=lambda: list(missing), journal=book, max_body_bytes=MAX_BODY)


def chat(request_id: str | None = None, headers: Any = (), **body: Any) -> HttpRequest:
    body = {"model": "auto", "messages": [{"role": "user", "content": "one two three"}], **body}
    request = HttpRequest("POST", "/v1/chat/completions", tuple(headers), msgspec.json.encode(body))
    return with_request_id(request, request_id) if request_id else request


async def ask(send: Sender, request: HttpRequest, within_s: float = 10) -> tuple[int, Any]:
    response = await send(request, time.monotonic() + within_s)
    body = await response.body(max_bytes=1 << 20)
    return response.status, msgspec.json.decode(body) if "json" in response.headers["content-type"] else body


def code_of(answered: tuple[int, Any]) -> str:
    code: str = answered[1]["error"]["code"]
    return code


async def test_a_gateway_is_answered_whole_and_streamed(ca: Authority) -> None:
    async with serving(app_of(EchoEngine()), ca.files("server-a")) as server, ca.client("gateway-a") as client:
        node = NodeClient(server.url, client.send)
        status, body = await ask(node.send, chat())
        assert (status, body["choices"][0]["message"]["content"]) == (200, "one two three")
        response = await node.send(chat(stream=True), time.monotonic() + 10)
        assert response.headers["content-type"].startswith("text/event-stream")
        assert (await response.body(max_bytes=1 << 20)).endswith(b"data: [DONE]\n\n")


async def test_each_word_of_a_stream_leaves_when_it_is_there(ca: Authority) -> None:
    turn = asyncio.Semaphore(1)

    async def gate(_count: int) -> None:
        await turn.acquire()

    async with serving(app_of(EchoEngine(gate=gate)), ca.files("server-a")) as server, ca.client("gateway-a") as client:
        response = await NodeClient(server.url, client.send).send(chat(stream=True), time.monotonic() + 10)
        seen = b""
        for word, later in ((b"one", b"two"), (b"two", b"three"), (b"three", b"four")):
            while word not in seen:
                seen += await anext(response.chunks)
            assert later not in seen
            turn.release()
        await response.aclose()


async def test_a_caller_who_leaves_stops_the_work(ca: Authority) -> None:
    reached, never = asyncio.Event(), asyncio.Event()

    async def gate(count: int) -> None:
        if count == 2:
            reached.set()
            await never.wait()

    engine = EchoEngine(gate=gate)
    async with serving(app_of(engine), ca.files("server-a")) as server, ca.client("gateway-a") as client:
        response = await NodeClient(server.url, client.send).send(chat(stream=True), time.monotonic() + 10)
        await anext(response.chunks)
        await reached.wait()
        await response.aclose()
        await until(lambda: engine.running == 0)
        assert engine.finished == 0


async def test_the_nodes_own_refusals_come_through(ca: Authority) -> None:
    async with serving(app_of(EchoEngine()), ca.files("server-a")) as server, ca.client("gateway-a") as client:
        node = NodeClient(server.url, client.send)
        assert code_of(await ask(node.send, chat(model="gpt-x"))) == "model_not_found"
        assert (await ask(node.send, HttpRequest("POST", "/v1/other", (), b"{}")))[0] == 404
        large = chat(messages=[{"role": "user", "content": "x" * MAX_BODY}])
        assert (await ask(node.send, large))[0] == 413
        status, listing = await ask(node.send, HttpRequest("GET", "/v1/models", (), b""))
        assert (status, listing["data"][0]["id"]) == (200, "fake-echo")


@pytest.mark.parametrize(
    ("name", "value"), [(DEADLINE_HEADER, "soon"), (DEADLINE_HEADER, "600001"), (REQUEST_ID_HEADER, "a b")]
)
async def test_a_malformed_header_of_ours_is_refused(ca: Authority, name: str, value: str) -> None:
    async with serving(app_of(EchoEngine()), ca.files("server-a")) as server, ca.client("gateway-a") as client:
        request = chat(headers=[(name, value)])
        addressed = HttpRequest("POST", server.url + request.url, request.headers, request.body)
        assert (await ask(client.send, addressed))[0] == 400


async def test_a_caller_who_leaves_before_the_answer_begins_stops_the_work(ca: Authority) -> None:
    never = asyncio.Event()

    async def gate(_count: int) -> None:
        await never.wait()

    engine = EchoEngine(gate=gate)
    async with serving(app_of(engine), ca.files("server-a")) as server:
        port = int(server.url.rsplit(":", 1)[1])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(ca.files("gateway-a")))
        request = chat()
        head = f"POST {request.url} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request.body)}\r\n\r\n"
        writer.write(head.encode() + request.body)
        await until(lambda: engine.running == 1)
        writer.transport.abort()
        await until(lambda: engine.running == 0)


async def test_the_callers_deadline_holds_in_the_node(ca: Authority) -> None:
    never = asyncio.Event()

    async def gate(_count: int) -> None:
        await never.wait()

    engine = EchoEngine(gate=gate)
    async with serving(app_of(engine), ca.files("server-a")) as server, ca.client("gateway-a") as client:
        request = chat(headers=[(DEADLINE_HEADER, "200")])
        addressed = HttpRequest("POST", server.url + request.url, request.headers, request.body)
        assert (await ask(client.send, addressed))[0] in (503, 504)
        assert engine.running == 0


async def test_only_gateways_are_answered(ca: Authority, tmp_path: Path) -> None:
    engine = EchoEngine()
    async with serving(app_of(engine), ca.files("server-a")) as server:
        async with ca.client("worker-a") as client:
            answered = await ask(NodeClient(server.url, client.send).send, chat())
            assert (answered[0], code_of(answered)) == (403, "peer_role")
        ca.revoke("gateway-b")
        await server.listener.refresh()
        for outsider in (ca.nameless(), ca.stranger(tmp_path / "theirs"), ca.client("gateway-b")):
            async with outsider:
                with pytest.raises(TargetError):
                    await ask(NodeClient(server.url, outsider.send).send, chat())
    assert engine.requests == []


async def test_on_loopback_a_plain_node_answers_without_certificates() -> None:
    async with serving(app_of(EchoEngine()), None) as server, HttpClient() as client:
        assert (await ask(NodeClient(server.url, client.send).send, chat()))[0] == 200


async def test_health_is_for_every_process_of_ours_and_says_what_is_missing(ca: Authority) -> None:
    app = app_of(EchoEngine(), missing=("journal: the database cannot be reached",))
    async with serving(app, ca.files("server-a")) as server, ca.client("worker-a") as client:
        for path, status in (("/healthz", 200), ("/readyz", 503)):
            response = await client.send(HttpRequest("GET", server.url + path, (), b""), time.monotonic() + 5)
            assert response.status == status
            assert (b"journal" in await response.body(max_bytes=1000)) == (status == 503)


async def test_a_request_is_answered_by_one_node_and_once(ca: Authority, database: AsyncEngine) -> None:
    engines = [EchoEngine(), EchoEngine()]
    apps = [app_of(engine, Journal(database, node=f"node-{i}")) for i, engine in enumerate(engines)]
    async with (
        serving(apps[0], ca.files("server-a")) as a,
        serving(apps[1], ca.files("server-a")) as b,
        ca.client("gateway-a") as client,
    ):
        one, other = NodeClient(a.url, client.send), NodeClient(b.url, client.send)
        answers = await asyncio.gather(
            ask(one.send, chat("req-1")), ask(other.send, chat("req-1")), ask(one.send, chat("req-1"))
        )
        assert sorted(status for status, _ in answers) == [200, 400, 400]
        assert {code_of(answered) for answered in answers if answered[0] == 400} == {"request_answered"}
        assert len(engines[0].requests) + len(engines[1].requests) == 1
        assert (await ask(other.send, chat("req-2")))[0] == 200, "another request is nobody's yet"


async def test_what_a_node_leaves_a_peer_takes_up(ca: Authority, database: AsyncEngine) -> None:
    reached, never = asyncio.Event(), asyncio.Event()

    async def gate(count: int) -> None:
        if count == 2:
            reached.set()
            await never.wait()

    stuck, fresh = EchoEngine(gate=gate), EchoEngine()
    async with (
        serving(app_of(stuck, Journal(database, node="node-a")), ca.files("server-a")) as a,
        serving(app_of(fresh, Journal(database, node="node-b")), ca.files("server-a")) as b,
        ca.client("gateway-a") as client,
    ):
        left = await NodeClient(a.url, client.send).send(chat("req-1", stream=True), time.monotonic() + 30)
        await reached.wait()
        await left.aclose()
        status, _ = await ask(NodeClient(b.url, client.send).send, chat("req-1", stream=True))
        assert status == 200
        assert (stuck.running, stuck.words, fresh.words) == (0, 1, 3)


async def test_a_node_that_loses_its_lease_breaks_its_stream_off(ca: Authority, database: AsyncEngine) -> None:
    reached, never = asyncio.Event(), asyncio.Event()

    async def gate(count: int) -> None:
        if count == 2:
            reached.set()
            await never.wait()

    engine = EchoEngine(gate=gate)
    app = app_of(engine, Journal(database, node="node-a", lease_s=1.0))
    async with serving(app, ca.files("server-a")) as server, ca.client("gateway-a") as client:
        response = await NodeClient(server.url, client.send).send(chat("req-1", stream=True), time.monotonic() + 30)
        await reached.wait()
        async with database.begin() as connection:
            await connection.execute(sa.update(journal).values(owner="node-b/claim-1", fence=2))
        with pytest.raises(UpstreamError):
            await response.body(max_bytes=1 << 20)
        await until(lambda: engine.running == 0)
    async with database.connect() as connection:
        row = (await connection.execute(sa.select(journal.c.owner, journal.c.state))).one()
    assert tuple(row) == ("node-b/claim-1", "running")


async def test_a_failed_answer_leaves_the_request_to_a_peer(ca: Authority, database: AsyncEngine) -> None:
    async def failing(_request: HttpRequest, _deadline: float) -> HttpResponse:
        raise TargetError("the model server is gone")

    broken = NodeServer(failing, missing=list, journal=Journal(database, node="node-a"), max_body_bytes=MAX_BODY)
    async with (
        serving(broken, ca.files("server-a")) as a,
        serving(app_of(EchoEngine(), Journal(database, node="node-b")), ca.files("server-a")) as b,
        ca.client("gateway-a") as client,
    ):
        assert (await ask(NodeClient(a.url, client.send).send, chat("req-1")))[0] == 503
        assert (await ask(NodeClient(b.url, client.send).send, chat("req-1")))[0] == 200


async def test_a_node_that_is_gone_is_a_target_error(ca: Authority) -> None:
    async with serving(app_of(EchoEngine()), ca.files("server-a")) as server:
        pass
    async with ca.client("gateway-a") as client:
        with pytest.raises(TargetError):
            await ask(NodeClient(server.url, client.send).send, chat())


def test_a_node_stands_on_prem() -> None:
    async def never(_request: HttpRequest, _deadline: float) -> HttpResponse:
        raise AssertionError

    with pytest.raises(ConfigurationError, match="public"):
        NodeClient("https://8.8.8.8:8446", never)
