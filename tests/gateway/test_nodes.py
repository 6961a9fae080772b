"""Several nodes as one target: the first that can be reached answers, under one request id."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from gateway.nodes import NodePool
from local_inference.server import REQUEST_ID_HEADER
from runtime.errors import TargetError, UpstreamError
from runtime.http import HttpRequest, HttpResponse

ASKED = HttpRequest("POST", "/v1/chat/completions", (("content-type", "application/json"),), b"{}")


class Fake:
    """A node that answers ``status`` and ``body``, or fails with ``error``."""

    def __init__(self, body: bytes = b"{}", *, status: int = 200, error: Exception | None = None) -> None:
        self.body = body
        self.status = status
        self.error = error
        self.received: list[HttpRequest] = []

    async def send(self, request: HttpRequest, deadline: float) -> HttpResponse:
        self.received.append(request)
        if self.error is not None:
            raise self.error

        async def chunks() -> AsyncIterator[bytes]:
            yield self.body

        return HttpResponse(self.status, {}, chunks())


def soon() -> float:
    return time.monotonic() + 5


def lost() -> Fake:
    return Fake(error=TargetError("the target cannot be reached"))


async def test_the_preferred_node_answers_alone() -> None:
    near, far = Fake(b"near"), Fake(b"far")
    response = await NodePool([near.send, far.send]).send(ASKED, soon())
    assert await response.body(max_bytes=10) == b"near"
    assert far.received == []


async def test_the_peer_answers_for_a_lost_node_under_the_same_request_id() -> None:
    near, far = lost(), Fake(b"far")
    response = await NodePool([near.send, far.send]).send(ASKED, soon())
    assert await response.body(max_bytes=10) == b"far"
    assert dict(near.received[0].headers)[REQUEST_ID_HEADER] == dict(far.received[0].headers)[REQUEST_ID_HEADER]


async def test_each_call_has_an_id_of_its_own() -> None:
    node = Fake()
    pool = NodePool([node.send])
    await pool.send(ASKED, soon())
    await pool.send(ASKED, soon())
    first, second = (dict(request.headers)[REQUEST_ID_HEADER] for request in node.received)
    assert first != second


@pytest.mark.parametrize("near", [Fake(status=500), Fake(error=UpstreamError("broken"))], ids=["500", "broken"])
async def test_a_node_that_answered_is_not_passed_over(near: Fake) -> None:
    far = Fake(b"far")
    pool = NodePool([near.send, far.send])
    if near.error is not None:
        with pytest.raises(UpstreamError):
            await pool.send(ASKED, soon())
    else:
        assert (await pool.send(ASKED, soon())).status == 500
    assert far.received == []


async def test_with_every_node_lost_the_target_is() -> None:
    with pytest.raises(TargetError):
        await NodePool([lost().send, lost().send]).send(ASKED, soon())


async def test_models_are_those_of_the_first_node_that_says_and_are_asked_once() -> None:
    silent, talking = Fake(status=404), Fake(b'{"data": [{"id": "m1"}, {"id": "m2"}]}')
    pool = NodePool([lost().send, silent.send, talking.send])
    assert await pool.models() == ("m1", "m2")
    assert await pool.models() == ("m1", "m2")
    assert len(talking.received) == 1


async def test_without_a_listing_no_model_is_known() -> None:
    assert await NodePool([Fake(b"not json").send]).models() is None
