"""The data plane's client: no proxy, no redirect, bounded, streaming; and what counts as on-prem."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import ConfigurationError, DeadlineExceededError, TargetError, UpstreamError
from runtime.http import HttpClient, HttpRequest, OnPremResolver, require_onprem_address
from tests.support.recorder import Received, recording, respond, send_event, start_stream


def request_to(url: str) -> HttpRequest:
    return HttpRequest("POST", f"{url}/chat/completions", (("content-type", "application/json"),), b"{}")


def deadline() -> float:
    return time.monotonic() + 5


async def test_what_is_sent_is_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with recording() as upstream:
        async with HttpClient() as client:
            response = await client.send(request_to(upstream.url), deadline())
            assert response.status == 200
            await response.body(max_bytes=10_000)
    (received,) = upstream.received
    assert (received.method, received.path, received.body) == ("POST", "/v1/chat/completions", b"{}")
    assert {name for name, _ in received.headers} <= {"host", "content-type", "content-length", "accept", "user-agent"}


async def test_a_redirect_is_not_followed() -> None:
    with recording() as other, recording() as upstream:

        async def redirect(_: Received, __: Any, send: Any) -> None:
            await respond(send, 307, {}, [(b"location", other.url.encode())])

        upstream.behaviour = redirect
        async with HttpClient() as client:
            assert (await client.send(request_to(upstream.url), deadline())).status == 307
        assert not other.received


async def test_chunks_come_as_they_are_sent() -> None:
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()
    first_seen = asyncio.Event()

    async def two(_: Received, __: Any, send: Any) -> None:
        await start_stream(send)
        await send_event(send, {"content": "one"})
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go_on.wait(), loop))
        await send_event(send, {"content": "two"})
        await send({"type": "http.response.body", "body": b""})

    with recording() as upstream:
        upstream.behaviour = two
        async with HttpClient() as client, asyncio.timeout(10):
            response = await client.send(request_to(upstream.url), deadline())
            seen = b""
            async for chunk in response.chunks:
                seen += chunk
                if not first_seen.is_set():
                    assert b"one" in seen
                    assert b"two" not in seen
                    first_seen.set()
                    go_on.set()
    assert b"two" in seen


async def test_nobody_there() -> None:
    async with HttpClient() as client:
        with pytest.raises(TargetError):
            await client.send(request_to("http://127.0.0.1:1/v1"), deadline())


async def test_the_deadline_holds() -> None:
    async def silent(_: Received, receive: Any, __: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    with recording() as upstream:
        upstream.behaviour = silent
        async with HttpClient() as client:
            with pytest.raises(DeadlineExceededError):
                await client.send(request_to(upstream.url), time.monotonic() + 0.2)


async def test_an_answer_that_breaks_off_is_an_error() -> None:
    async def broken(_: Received, __: Any, send: Any) -> None:
        await start_stream(send)
        await send_event(send, {"content": "half"})
        raise ConnectionResetError

    with recording() as upstream:
        upstream.behaviour = broken
        async with HttpClient() as client:
            response = await client.send(request_to(upstream.url), deadline())
            with pytest.raises(UpstreamError):
                await response.body(max_bytes=10_000)


async def test_an_answer_that_is_too_long_is_an_error() -> None:
    with recording(answer="x" * 10_000) as upstream:
        async with HttpClient() as client:
            response = await client.send(request_to(upstream.url), deadline())
            with pytest.raises(UpstreamError):
                await response.body(max_bytes=1000)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "http://localhost:8000", "https://[::1]:8000/v1"])
def test_loopback_is_on_prem(url: str) -> None:
    require_onprem_address(url, pinned_ca=False)


def test_a_private_address_needs_https_and_a_pinned_ca() -> None:
    require_onprem_address("https://10.1.2.3/v1", pinned_ca=True)
    for url, pinned in (("http://10.1.2.3/v1", True), ("https://10.1.2.3/v1", False), ("https://192.168.1.1", False)):
        with pytest.raises(ConfigurationError):
            require_onprem_address(url, pinned_ca=pinned)


@pytest.mark.parametrize(
    "url",
    [
        "https://8.8.8.8/v1", "http://1.1.1.1", "https://[2606:4700::1111]/v1", "http://0.0.0.0:80", "https://169.254.169.254/",
        "ftp://127.0.0.1", "http://", "nonsense", "http://user:pw@127.0.0.1/", "http://127.0.0.1/?a=b",
    ],
)  # fmt: skip
def test_what_is_not_on_prem_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        require_onprem_address(url, pinned_ca=True)


async def test_a_caller_who_leaves_before_the_head_closes_the_connection() -> None:
    """What must stop the work behind it: a whole answer has no head until it is done."""
    asked, left = threading.Event(), threading.Event()

    async def silent(_: Received, receive: Any, __: Any) -> None:
        asked.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    with recording() as upstream:
        upstream.behaviour = silent
        async with HttpClient() as client:
            for stop in ("cancel", "deadline"):
                asked.clear(), left.clear()
                until = time.monotonic() + (30 if stop == "cancel" else 0.3)
                call = asyncio.create_task(client.send(request_to(upstream.url), until))
                assert await asyncio.to_thread(asked.wait, 5)
                if stop == "cancel":
                    call.cancel()
                await asyncio.gather(call, return_exceptions=True)
                assert await asyncio.to_thread(left.wait, 5), f"the upstream was not told of the {stop}"


async def test_only_the_named_ca_is_trusted(tmp_path: Path) -> None:
    from tests.support.mutual import Authority, serving

    async def hello(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, 200, {})

    ca, other = Authority.make(tmp_path / "a"), Authority.make(tmp_path / "b")
    async with serving(hello, ca.files("server-a")) as server:
        request = HttpRequest("GET", f"{server.url}/", (), b"")
        async with ca.client("gateway-a") as trusted:
            assert (await trusted.send(request, deadline())).status == 200
        for client in (HttpClient(), HttpClient(ca_file=other.files("server-a").ca)):
            async with client:
                with pytest.raises(TargetError):
                    await client.send(request, deadline())


async def test_a_name_that_changes_to_a_public_address_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the check at start has passed, then the name moves."""
    addresses = {"moving.test": "127.0.0.1"}

    async def resolve(_: Any, host: str, port: int = 0, family: Any = None) -> list[dict[str, Any]]:
        return [{"hostname": host, "host": addresses[host], "port": port, "family": 2, "proto": 0, "flags": 0}]

    monkeypatch.setattr("aiohttp.ThreadedResolver.resolve", resolve)
    with recording() as upstream:
        request = request_to(f"http://moving.test:{upstream.port}/v1")
        async with HttpClient(resolver=OnPremResolver(pinned_ca=False)) as client:
            assert (await client.send(request, deadline())).status == 200
        for moved in ("93.184.215.14", "10.1.2.3", "169.254.169.254"):
            addresses["moving.test"] = moved
            async with HttpClient(resolver=OnPremResolver(pinned_ca=False)) as client:
                with pytest.raises(TargetError):
                    await client.send(request, deadline())
