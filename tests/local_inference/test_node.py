"""The node's protocol over a fake engine."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from local_inference.engines.base import GenerationRequest
from local_inference.node import PRIORITY_HEADER, Node
from runtime.errors import ConfigurationError, DeadlineExceededError, UnavailableError, WatershedError
from runtime.http import HttpRequest
from tests.local_inference.fakes import Caller, EchoEngine, text_of, until

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
WEATHER = {"type": "function", "function": {"name": "weather"}}


def _caller(engine: EchoEngine, **settings: Any) -> Caller:
    return Caller(Node(lambda: engine, **settings))


class Gate:
    """Lets an answer go on word by word."""

    def __init__(self, free_words: int = 0) -> None:
        self.free_words = free_words
        self.open = asyncio.Event()

    async def __call__(self, word: int) -> None:
        if word > self.free_words:
            await self.open.wait()


async def test_a_completion_has_openais_shape() -> None:
    answer = await _caller(EchoEngine()).completion()
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "fake-echo"
    assert answer["id"].startswith("chatcmpl-")
    assert "fake-echo" in answer["system_fingerprint"]
    assert abs(answer["created"] - time.time()) < 60
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "one two three", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


async def test_a_stream_begins_with_the_role_and_ends_with_the_reason_and_the_usage() -> None:
    events = await _caller(EchoEngine()).events(stream_options={"include_usage": True})
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert text_of(events) == "one two three"
    assert [e["choices"][0]["finish_reason"] for e in events[:-1]] == [None] * (len(events) - 2) + ["stop"]
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert all(event["usage"] is None for event in events[:-1])


async def test_usage_is_streamed_only_where_it_is_asked_for() -> None:
    events = await _caller(EchoEngine()).events()
    assert all("usage" not in event for event in events)


async def test_a_stream_starts_before_the_answer_is_whole() -> None:
    gate = Gate(free_words=1)
    engine = EchoEngine(gate=gate)
    response = await _caller(engine).chat(stream=True)
    assert b"one" in await anext(response.chunks)
    assert engine.finished == 0
    gate.open.set()
    assert b"[DONE]" in await response.body(max_bytes=1 << 20)


async def test_several_answers_are_numbered_and_the_prompt_counts_once() -> None:
    engine = EchoEngine("alpha beta", "gamma")
    answer = await _caller(engine).completion(n=2, seed=41)
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["alpha beta", "gamma"]
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert [request.seed for request in engine.requests] == [41, 42]
    events = await _caller(EchoEngine("alpha beta", "gamma")).events(n=2)
    assert (text_of(events, 0), text_of(events, 1)) == ("alpha beta", "gamma")


async def test_models_are_listed_without_loading_one() -> None:
    engine = EchoEngine()
    response = await Node(lambda: engine).handle(HttpRequest("GET", "/v1/models", (), b""), time.monotonic() + 5)
    listing = json.loads(await response.body(max_bytes=10_000))
    assert [model["id"] for model in listing["data"]] == ["fake-echo"]
    assert engine.loads == 0


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/", 404),
    ],
)
async def test_other_paths_and_methods_are_refused(method: str, url: str, status: int) -> None:
    response = await Node(EchoEngine).handle(HttpRequest(method, url, (), b""), time.monotonic() + 5)
    assert response.status == status


async def test_refusals_have_openais_shape_and_name_the_field() -> None:
    status, error = await _caller(EchoEngine()).refusal(temperature=3)
    assert status == 400
    assert error["type"] == "invalid_request_error"
    assert error["param"] == "/temperature"


async def test_an_unknown_model_is_not_found_and_not_echoed() -> None:
    status, error = await _caller(EchoEngine()).refusal(model="canary-7F3A")
    assert (status, error["code"]) == (404, "model_not_found")
    assert "canary" not in json.dumps(error)


async def test_concurrent_callers_share_one_load() -> None:
    engine = EchoEngine()
    caller = _caller(engine)
    answers = await asyncio.gather(*(caller.completion() for _ in range(5)))
    assert len(answers) == 5
    assert engine.loads == 1


class _Broken(EchoEngine):
    """A fake whose load fails."""

    async def load(self) -> None:
        self.loads += 1
        await asyncio.sleep(0)
        raise ConfigurationError("install it with `uv sync --extra onprem`", code="model_not_installed")


async def test_a_failed_load_is_told_to_all_then_tried_again_with_a_new_engine() -> None:
    engines: list[EchoEngine] = [_Broken(), EchoEngine()]
    made = iter(engines)
    caller = Caller(Node(lambda: next(made), reload_pause_s=0))
    refusals = await asyncio.gather(*(caller.refusal() for _ in range(3)))
    assert {(status, error["code"]) for status, error in refusals} == {(503, "model_not_installed")}
    assert "uv sync --extra onprem" in refusals[0][1]["message"]
    assert (await caller.completion())["choices"]
    assert [engine.loads for engine in engines] == [1, 1]
    assert engines[0].closed


async def test_a_failed_load_is_not_tried_again_at_once() -> None:
    made: list[_Broken] = []

    def make() -> _Broken:
        made.append(_Broken())
        return made[-1]

    caller = Caller(Node(make, reload_pause_s=3600))
    for _ in range(3):
        assert (await caller.refusal())[0] == 503
    assert sum(engine.loads for engine in made) == 1


async def test_a_load_that_takes_too_long_is_told_and_goes_on() -> None:
    loaded = asyncio.Event()

    class Slow(EchoEngine):
        async def load(self) -> None:
            await loaded.wait()
            await super().load()

    caller = _caller(Slow())
    response = await caller.chat(timeout_s=0.01)
    assert response.status == 503
    assert int(response.headers["retry-after"]) >= 1
    loaded.set()
    assert await caller.completion()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unforeseen_fault_of_the_engine_is_a_500_without_its_text(stream: bool) -> None:
    async def gate(_: int) -> None:
        raise RuntimeError("canary-7F3A")

    response = await _caller(EchoEngine(gate=gate)).chat(stream=stream)
    assert response.status == 500
    assert b"canary" not in await response.body(max_bytes=10_000)


async def test_a_fault_within_a_stream_breaks_it_off() -> None:
    async def gate(word: int) -> None:
        if word == 2:
            raise UnavailableError("gone")

    response = await _caller(EchoEngine(gate=gate)).chat(stream=True)
    assert response.status == 200
    with pytest.raises(WatershedError):
        await response.body(max_bytes=10_000)


@pytest.mark.parametrize("cut", ["aclose", "break", "cancel", "from_another_task"])
async def test_a_caller_who_leaves_stops_the_engine_and_frees_the_slot(cut: str) -> None:
    engine = EchoEngine(gate=Gate(free_words=1))
    caller = _caller(engine, concurrency=1)
    response = await caller.chat(stream=True)
    await anext(response.chunks)
    if cut == "break":
        await response.chunks.aclose()  # type: ignore[attr-defined]
    elif cut == "aclose":
        await response.aclose()
    else:
        reading = asyncio.create_task(response.body(max_bytes=10_000))
        await asyncio.sleep(0)
        if cut == "cancel":
            reading.cancel()
        else:
            await response.aclose()
        await asyncio.wait([reading])
    await until(lambda: engine.running == 0)
    assert engine.words == 1
    engine.gate = None
    assert await caller.completion()
    await response.aclose()


async def test_cancelling_the_call_before_its_first_word_stops_the_engine() -> None:
    engine = EchoEngine(gate=Gate())
    calling = asyncio.create_task(_caller(engine).chat())
    await until(lambda: engine.running == 1)
    calling.cancel()
    await asyncio.wait([calling])
    assert engine.running == 0


async def test_the_deadline_ends_an_answer_under_way() -> None:
    engine = EchoEngine(gate=Gate(free_words=1))
    caller = _caller(engine)
    await caller.node.load()  # so that the deadline falls into the answer
    status, error = await caller.refusal(timeout_s=0.5)
    assert (status, error["code"]) == (504, "deadline_exceeded")
    response = await caller.chat(stream=True, timeout_s=0.5)
    with pytest.raises(DeadlineExceededError):
        await response.body(max_bytes=10_000)
    assert engine.running == 0


async def test_an_abandoned_answer_ends_at_its_deadline() -> None:
    engine = EchoEngine(" ".join(["word"] * 500))
    caller = _caller(engine, concurrency=1)
    response = await caller.chat(stream=True, timeout_s=0.5)
    await until(lambda: engine.running == 0)
    assert response.status == 200
    assert await caller.completion()


async def test_no_slot_by_the_deadline_is_503_with_retry_after() -> None:
    gate = Gate()
    engine = EchoEngine(gate=gate)
    caller = _caller(engine, concurrency=1)
    first = asyncio.create_task(caller.completion())
    await until(lambda: engine.running == 1)
    response = await caller.chat(timeout_s=0.01)
    assert response.status == 503
    assert int(response.headers["retry-after"]) >= 1
    gate.open.set()
    assert await first


async def test_the_gateways_header_puts_general_traffic_behind() -> None:
    gate = Gate()
    engine = EchoEngine(gate=gate)
    caller = _caller(engine, concurrency=2, general_share=0.5)
    general = [asyncio.create_task(caller.completion(headers=[(PRIORITY_HEADER, "general")])) for _ in range(2)]
    await until(lambda: engine.running == 1)
    sensitive = asyncio.create_task(caller.completion())
    await until(lambda: engine.running == 2)
    gate.open.set()
    await asyncio.gather(sensitive, *general)
    assert (await caller.chat(headers=[(PRIORITY_HEADER, "urgent")])).status == 400


async def test_never_more_answers_at_a_time_than_slots() -> None:
    engine = EchoEngine(gate=lambda _: asyncio.sleep(0))
    caller = _caller(engine, concurrency=2)
    await asyncio.gather(*(caller.completion() for _ in range(10)))
    assert engine.peak == 2


async def test_closing_the_node_ends_its_work_and_refuses_more() -> None:
    engine = EchoEngine(gate=Gate(free_words=1))
    caller = _caller(engine)
    response = await caller.chat(stream=True)
    await caller.node.aclose()
    assert engine.closed
    assert engine.running == 0
    with pytest.raises(UnavailableError):
        await response.body(max_bytes=10_000)
    engine.ready = False
    assert (await caller.refusal())[0] == 503


async def test_an_answer_that_is_exactly_a_call_becomes_a_tool_call() -> None:
    reply = '{"name": "weather", "arguments": {"city": "Paris"}}'
    answer = await _caller(EchoEngine(reply)).completion(tools=TOOLS)
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}

    events = await _caller(EchoEngine(reply)).events(tools=TOOLS)
    assert text_of(events) == ""
    calls = [call for event in events for call in event["choices"][0]["delta"].get("tool_calls", [])]
    assert [(call["index"], call["function"]["name"]) for call in calls] == [(0, "weather")]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("reply", ["It is sunny in Paris", '{"name": "clock", "arguments": {}}', "{ sunny", " \n"])
async def test_an_answer_that_is_no_call_comes_unchanged(reply: str) -> None:
    answer = await _caller(EchoEngine(reply)).completion(tools=TOOLS)
    assert answer["choices"][0]["message"]["content"] == reply
    assert text_of(await _caller(EchoEngine(reply)).events(tools=TOOLS)) == reply


async def test_with_tools_words_are_streamed_as_they_come() -> None:
    gate = Gate(free_words=1)
    response = await _caller(EchoEngine("It is sunny", gate=gate)).chat(stream=True, tools=TOOLS)
    assert b"It " in await anext(response.chunks)
    await response.aclose()


async def test_a_forced_call_is_made_and_the_engine_stopped_at_its_end() -> None:
    engine = EchoEngine('"city": "Paris"} } and more words')
    answer = await _caller(engine).completion(tools=TOOLS, tool_choice=WEATHER)
    call = answer["choices"][0]["message"]["tool_calls"][0]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
    assert engine.requests[0].prefix == '{"name": "weather", "arguments": {'
    assert engine.words == 2
    assert engine.running == 0


async def test_forced_arguments_that_are_no_json_become_empty() -> None:
    answer = await _caller(EchoEngine("sunny today")).completion(tools=TOOLS, tool_choice="required")
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize("stream", [False, True])
async def test_json_is_validated(stream: bool) -> None:
    good = await _caller(EchoEngine('"a": [1, 2]} done')).chat(response_format={"type": "json_object"}, stream=stream)
    assert good.status == 200
    bad = await _caller(EchoEngine("a: 1} done")).chat(response_format={"type": "json_object"}, stream=stream)
    assert bad.status == 502
    assert json.loads(await bad.body(max_bytes=10_000))["error"]["code"] == "json_not_produced"


async def test_json_ends_where_its_object_does() -> None:
    answer = await _caller(EchoEngine('"a": [1, 2]} done')).completion(response_format={"type": "json_object"})
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"a": [1, 2]}
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_json_cut_by_the_token_limit_says_so() -> None:
    answer = await _caller(EchoEngine('"a": [1, 2]}')).completion(response_format={"type": "json_object"}, max_tokens=1)
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_the_engine_is_asked_for_what_the_caller_asked_for() -> None:
    engine = EchoEngine()
    await _caller(engine).completion(max_tokens=2, temperature=0.5, top_p=0.8, stop="x", seed=-3)
    wanted = GenerationRequest(
        messages=engine.requests[0].messages, max_tokens=2, temperature=0.5, top_p=0.8, stop=("x",), seed=-3
    )
    assert engine.requests == [wanted]
