from __future__ import annotations

from typing import Any

import msgspec
import pytest

from local_inference.chat import read_chat
from local_inference.engines.base import Message, ToolCall
from runtime.errors import InvalidRequestError

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def _body(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "auto", "messages": [{"role": "user", "content": "hello"}], **fields})


def test_text_parts_developer_turns_and_tool_calls_are_read() -> None:
    call = read_chat(
        _body(
            messages=[
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c", "content": "42"},
            ]
        )
    )
    assert call.generation.messages == (
        Message("system", "be brief"),
        Message("user", "a\nb"),
        Message("assistant", "", (ToolCall("c", "f", "{}"),)),
        Message("tool", "42"),
    )


def test_defaults_are_one_greedy_answer_not_streamed() -> None:
    call = read_chat(_body())
    assert (call.n, call.stream, call.generation.temperature, call.generation.top_p) == (1, False, 0.0, 1.0)


def test_the_newer_name_of_the_token_limit_wins() -> None:
    assert read_chat(_body(max_tokens=5, max_completion_tokens=3)).generation.max_tokens == 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "/temperature"),
        ({"temperature": -0.1}, "/temperature"),
        ({"temperature": "hot"}, "/temperature"),
        ({"top_p": 0}, "/top_p"),
        ({"top_p": 1.5}, "/top_p"),
        ({"max_tokens": 0}, "/max_tokens"),
        ({"max_completion_tokens": -1}, "/max_completion_tokens"),
        ({"n": 5}, "/n"),
        ({"n": 0}, "/n"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "/stop"),
        ({"stop": ["a", ""]}, "/stop/1"),
        ({"seed": 1.5}, "/seed"),
        ({"messages": []}, "/messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": "user"}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "/messages/0/content/0/text"),
        ({"tools": [{"type": "web_search"}]}, "/tools/0/type"),
        ({"tools": [{"type": "function", "function": {"name": "bad name"}}]}, "/tools/0/function/name"),
    ],
)
def test_values_out_of_range_are_refused_with_their_pointer(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_chat(_body(**fields))
    assert (refused.value.code, refused.value.param) == ("invalid_value", param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]}, "/messages/0/content/0"),
        ({"messages": [{"role": "assistant", "content": "", "function_call": {}}]}, "/messages/0/function_call"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "/response_format/type"),
        ({"response_format": {"type": "json_object"}, "tools": [WEATHER]}, "/response_format/type"),
        ({"tools": [WEATHER, CLOCK], "tool_choice": "required"}, "/tool_choice"),
        ({"logprobs": True}, "/logprobs"),
        ({"frequency_penalty": 0.5}, "/frequency_penalty"),
        ({"presence_penalty": -1}, "/presence_penalty"),
        ({"logit_bias": {"50": 1}}, "/logit_bias"),
        ({"modalities": ["text", "audio"]}, "/modalities"),
        ({"functions": []}, "/functions"),
        ({"web_search_options": {}}, "/web_search_options"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_not_ignored(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_chat(_body(**fields))
    assert (refused.value.code, refused.value.param) == ("unsupported_value", param)


def test_fields_that_change_no_answer_are_taken() -> None:
    read_chat(
        _body(
            user="u", metadata={"a": "b"}, store=False, service_tier="auto", parallel_tool_calls=True, logprobs=False,
            frequency_penalty=0, presence_penalty=0.0, logit_bias={}, modalities=["text"], prompt_cache_key="k",
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"model": "canary-7F3A"', "{'model': 'canary-7F3A'}".encode("utf-16"), b"[" * 5000]
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_chat(body)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"canary-7F3A": 1},
        {"stream": "canary-7F3A"},
        {"messages": [{"role": "canary-7F3A", "content": "x"}]},
        {"tool_choice": "canary-7F3A"},
        {"response_format": {"type": "canary-7F3A"}},
        {"tools": [{"type": "function", "function": {"name": "canary 7F3A"}}]},
        {"messages": [{"role": "user", "content": [{"type": "canary-7F3A"}]}]},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "canary-7F3A"}}},
    ],
)
def test_refusals_never_quote_the_request(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_chat(_body(**fields))
    assert "canary" not in f"{refused.value.message} {refused.value.param} {refused.value.code}"


def test_tool_choice_selects_what_the_model_is_told_of() -> None:
    def told(choice: Any) -> tuple[list[str], str | None]:
        call = read_chat(_body(tools=[WEATHER, CLOCK], tool_choice=choice))
        return [tool.name for tool in call.generation.tools or ()], call.forced_function

    assert told("auto") == (["weather", "clock"], None)
    assert told("none") == ([], None)
    assert told({"type": "function", "function": {"name": "clock"}}) == (["clock"], "clock")
    assert read_chat(_body(tools=[CLOCK], tool_choice="required")).forced_function == "clock"
