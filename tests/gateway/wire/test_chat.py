"""Chat Completions: every field is scanned, unscannable, replaced or refused; none is overlooked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import Segment
from gateway.wire import Call, ChatCompletions
from gateway.wire.pointer import tokens
from runtime.errors import InvalidRequestError, PayloadTooLargeError, RequestError

CHAT = ChatCompletions()
CANARY = "canary-7f3a9"


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hello"}]} | fields).encode()


def receive(**fields: Any) -> Call:
    return CHAT.receive(body(**fields))


def texts(call: Call) -> list[str]:
    return [segment.text for segment in call.segments]


def value_at(document: Any, pointer: str) -> Any:
    for token in tokens(pointer):
        document = document[int(token)] if isinstance(document, list) else document[token]
    return document


def message(**fields: Any) -> dict[str, Any]:
    return {"messages": [fields]}


SCANNED: dict[str, dict[str, Any]] = {
    "model": {"model": CANARY},
    "system": message(role="system", content=CANARY),
    "developer": message(role="developer", content=CANARY),
    "user string": message(role="user", content=CANARY),
    "user part": message(role="user", content=[{"type": "text", "text": CANARY}]),
    "user name": message(role="user", content="x", name=CANARY),
    "assistant history": message(role="assistant", content=CANARY),
    "assistant refusal": message(role="assistant", content=None, refusal=CANARY),
    "assistant refusal part": message(role="assistant", content=[{"type": "refusal", "refusal": CANARY}]),
    "reasoning": message(role="assistant", content="x", reasoning_content=CANARY),
    "tool call arguments": message(
        role="assistant", tool_calls=[{"id": "c", "type": "function", "function": {"name": "f", "arguments": CANARY}}]
    ),
    "tool call name": message(
        role="assistant", tool_calls=[{"id": "c", "type": "function", "function": {"name": CANARY, "arguments": ""}}]
    ),
    "tool call id": message(
        role="assistant", tool_calls=[{"id": CANARY, "type": "function", "function": {"name": "f", "arguments": ""}}]
    ),
    "custom tool input": message(
        role="assistant", tool_calls=[{"id": "c", "type": "custom", "custom": {"name": "f", "input": CANARY}}]
    ),
    "function call arguments": message(role="assistant", function_call={"name": "f", "arguments": CANARY}),
    "tool result": message(role="tool", tool_call_id="c", content=CANARY),
    "tool result part": message(role="tool", tool_call_id="c", content=[{"type": "text", "text": CANARY}]),
    "tool result id": message(role="tool", tool_call_id=CANARY, content="x"),
    "function result": message(role="function", name="f", content=CANARY),
    "tool description": {"tools": [{"type": "function", "function": {"name": "f", "description": CANARY}}]},
    "tool name": {"tools": [{"type": "function", "function": {"name": CANARY}}]},
    "schema text": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"description": CANARY}}}]},
    "schema property": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {CANARY: {}}}}}]},
    "schema enum": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"enum": ["a", CANARY]}}}]},
    "custom tool": {"tools": [{"type": "custom", "custom": {"name": "f", "description": CANARY}}]},
    "grammar": {
        "tools": [{"type": "custom", "custom": {"name": "f", "format": {"type": "grammar", "grammar": {"definition": CANARY, "syntax": "lark"}}}}]
    },
    "legacy function": {"functions": [{"name": "f", "description": CANARY}]},
    "tool choice": {"tool_choice": {"type": "function", "function": {"name": CANARY}}},
    "tool choice word": {"tool_choice": CANARY},
    "allowed tools": {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"x": CANARY}]}}},
    "response schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"title": CANARY}}}},
    "response schema name": {"response_format": {"type": "json_schema", "json_schema": {"name": CANARY}}},
    "metadata value": {"metadata": {"k": CANARY}},
    "metadata key": {"metadata": {CANARY: "v"}},
    "user field": {"user": CANARY},
    "safety identifier": {"safety_identifier": CANARY},
    "prompt cache key": {"prompt_cache_key": CANARY},
    "prediction": {"prediction": {"type": "content", "content": CANARY}},
    "prediction part": {"prediction": {"type": "content", "content": [{"type": "text", "text": CANARY}]}},
    "stop": {"stop": CANARY},
    "stop list": {"stop": ["x", CANARY]},
    "logit bias key": {"logit_bias": {CANARY: 1}},
    "voice": {"audio": {"format": "wav", "voice": CANARY}},
    "enumerated word": {"reasoning_effort": CANARY},
    "string for a number": {"temperature": CANARY},
    "string for a flag": {"logprobs": CANARY},
    "moderation": {"moderation": {"model": CANARY}},
    "modalities": {"modalities": ["text", CANARY]},
}  # fmt: skip


@pytest.mark.parametrize("fields", SCANNED.values(), ids=SCANNED.keys())
def test_text_in_a_known_field_is_scanned(fields: dict[str, Any]) -> None:
    assert any(CANARY in text for text in texts(receive(**fields)))


UNSCANNABLE: dict[str, dict[str, Any]] = {
    "unknown field": {"brand_new": CANARY},
    "unknown flag": {"brand_new": True},
    "unknown null": {"brand_new": None},
    "unknown field of a message": message(role="user", content="x", brand_new={"a": [CANARY]}),
    "unknown part": message(role="user", content=[{"type": "hologram", "data": CANARY}]),
    "part without a type": message(role="user", content=[{"text": CANARY}]),
    "content of another type": message(role="user", content={"text": CANARY}),
    "content of a part of another type": message(role="user", content=[{"type": "text", "text": {"a": CANARY}}]),
    "tools of another type": {"tools": {"a": CANARY}},
    "schema that is text": {"response_format": CANARY},
    "tool call without a type": message(role="assistant", tool_calls=[{"function": {"name": CANARY}}]),
    "image": message(role="user", content=[{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]),
    "audio": message(role="user", content=[{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}]),
    "file": message(role="user", content=[{"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}}]),
}  # fmt: skip


@pytest.mark.parametrize("fields", UNSCANNABLE.values(), ids=UNSCANNABLE.keys())
def test_what_the_table_does_not_know_cannot_be_scanned(fields: dict[str, Any]) -> None:
    assert any(segment.unscannable for segment in receive(**fields).segments)


def test_text_of_an_unknown_field_is_scanned_all_the_same() -> None:
    assert CANARY in texts(receive(brand_new={"deep": [CANARY]}))
    assert CANARY in texts(receive(**{CANARY: 1}))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "image by reference": (message(role="user", content=[{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]), "reference_not_allowed"),
    "file by id": (message(role="user", content=[{"type": "file", "file": {"file_id": "file-1"}}]), "reference_not_allowed"),
    "audio by id": (message(role="assistant", audio={"id": "a1"}), "reference_not_allowed"),
    "web search": ({"web_search_options": {}}, "tool_not_allowed"),
    "tool that the provider runs": ({"tools": [{"type": "web_search_preview"}]}, "tool_not_allowed"),
    "mcp tool": ({"tools": [{"type": "mcp", "server_url": "https://x.example"}]}, "tool_not_allowed"),
    "role": (message(role="narrator", content="x"), "invalid_role"),
    "message that is text": ({"messages": ["hello"]}, "invalid_role"),
    "no messages": ({"messages": []}, "missing_messages"),
    "messages of another type": ({"messages": "hello"}, "missing_messages"),
    "no model": ({"model": None}, "missing_model"),
    "stream of another type": ({"stream": "yes"}, "invalid_type"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_what_must_not_pass_is_refused_with_a_pointer(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        receive(**fields)
    assert refused.value.code == code
    assert refused.value.param is not None
    assert refused.value.param.startswith("/")


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        CHAT.receive(b"[1]")


def test_too_many_messages_are_refused() -> None:
    with pytest.raises(PayloadTooLargeError):
        ChatCompletions(max_messages=2).receive(body(messages=[{"role": "user", "content": "x"}] * 3))


def test_long_numbers_are_scanned_short_ones_are_not() -> None:
    call = receive(seed=4111111111111111, n=1, temperature=0.7, max_tokens=512)
    assert [s.text for s in call.segments if s.kind == "number"] == ["4111111111111111"]


def test_each_pointer_leads_to_its_text() -> None:
    document = json.loads(body(**SCANNED["tool call arguments"]))
    document["metadata"] = {"a/b": "one", "c~d": "two"}
    document["tools"] = [
        {"type": "function", "function": {"name": "f", "description": "what it does", "parameters": {}}}
    ]
    call = CHAT.receive(json.dumps(document).encode())
    for segment in call.segments:
        if segment.kind not in {"key", "number"}:
            assert value_at(document, segment.pointer) == segment.text


def test_roles_travel_with_their_segments() -> None:
    call = receive(
        messages=[{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "u"}]}]
    )
    assert [(s.role, s.text) for s in call.segments if s.pointer.startswith("/messages")] == [
        ("system", "s"),
        ("user", "u"),
    ]


def test_history_is_an_assistant_or_tool_turn() -> None:
    assert not receive().has_history
    assert receive(messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]).has_history
    assert receive(**message(role="tool", tool_call_id="c", content="x")).has_history


def test_an_untouched_body_is_forwarded_byte_for_byte() -> None:
    raw = b'{ "model":"auto" ,\n"messages":[{"role":"user","content":"caf\\u00e9"}]}'
    call = CHAT.receive(raw)
    assert call.with_edits({}).body is raw


def test_an_edit_changes_its_place_and_nothing_else() -> None:
    call = receive(**SCANNED["tool call arguments"])
    edited = call.with_edits({"/messages/0/tool_calls/0/function/arguments": "[gone]"})
    before, after = call.document, edited.document
    assert after["messages"][0]["tool_calls"][0]["function"] == {"name": "f", "arguments": "[gone]"}
    assert before["messages"][0]["tool_calls"][0]["function"]["arguments"] == CANARY
    assert CANARY not in edited.body.decode()


def test_identifiers_of_the_caller_are_replaced_at_the_crossing() -> None:
    call = receive(user="u1", safety_identifier="s1", prompt_cache_key="k1", metadata={"a": "m1"}, store=True)
    crossed = call.with_edits(CHAT.crossing_edits(call, "token")).document
    assert crossed["user"] == crossed["safety_identifier"] == crossed["prompt_cache_key"] == "token"
    assert crossed["store"] is False
    assert "metadata" not in crossed


def test_nothing_is_added_to_a_body_without_them() -> None:
    assert CHAT.crossing_edits(receive(), "token") == {}


def test_usage_and_text_are_read_from_an_answer() -> None:
    reader = CHAT.answer_reader(stream=False, keep_text=True)
    answer = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    raw = json.dumps(answer).encode()
    reader.feed(raw[:10])
    reader.feed(raw[10:])
    assert (reader.usage().prompt_tokens, reader.usage().completion_tokens) == (3, 2)
    assert reader.texts() == ["hi"]


@given(st.lists(st.integers(1, 400), max_size=8))
def test_a_stream_reads_the_same_however_it_is_cut(cuts: list[int]) -> None:
    events = [{"choices": [{"index": i % 2, "delta": {"content": f"w{i} 词"}}]} for i in range(6)]
    events.append({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6}})  # type: ignore[dict-item]
    raw = (
        b"".join(b"data: " + json.dumps(e, ensure_ascii=False).encode() + b"\n\n" for e in events) + b"data: [DONE]\n\n"
    )
    reader = CHAT.answer_reader(stream=True, keep_text=True)
    at = 0
    for cut in sorted(cuts):
        reader.feed(raw[at:cut])
        at = max(at, cut)
    reader.feed(raw[at:])
    assert reader.texts() == ["w0 词w2 词w4 词", "w1 词w3 词w5 词"]
    assert reader.usage().completion_tokens == 6


def test_arguments_of_tool_calls_are_read_too() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    whole = CHAT.answer_reader(stream=False, keep_text=True)
    whole.feed(
        json.dumps({"choices": [{"index": 0, "message": {"content": None, "tool_calls": [call, call]}}]}).encode()
    )
    assert whole.texts() == ['{"a": 1}', '{"a": 1}']
    streamed = CHAT.answer_reader(stream=True, keep_text=True)
    for index, piece in [(0, '{"a"'), (1, "{}"), (0, ": 1}")]:
        delta = {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
        streamed.feed(b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n")
    assert streamed.texts() == ['{"a": 1}', "{}"]


def test_an_answer_that_is_no_json_says_nothing() -> None:
    for stream in (True, False):
        reader = CHAT.answer_reader(stream=stream, keep_text=True)
        reader.feed(b"data: \xff\xfe not json\n\n")
        assert reader.texts() == []
        assert reader.usage().prompt_tokens is None


_leaf = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12)
)
_value = st.recursive(
    _leaf,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
_names = st.sampled_from(
    ["messages", "tools", "metadata", "stop", "tool_choice", "response_format", "user", "n", "audio", "novel"]
)


@given(st.dictionaries(_names, _value, max_size=5))
def test_any_shape_is_read_whole_or_refused(fields: dict[str, Any]) -> None:
    """No text escapes: each string in the body is in a segment, or known to say nothing, or the request is refused."""
    try:
        call = CHAT.receive(
            json.dumps({"model": "auto", "messages": [{"role": "user", "content": "x"}]} | fields).encode()
        )
    except RequestError:
        return
    seen = {segment.text for segment in call.segments}
    assert {text for text in _strings(fields) if text} <= seen | _SAFE | set(fields)


_SAFE = {"text", "auto", "none", "required", "x", "user", "content"}


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [*value, *(s for item in value.values() for s in _strings(item))]
    if isinstance(value, list):
        return [s for item in value for s in _strings(item)]
    return []


def test_errors_name_places_never_values() -> None:
    for fields, _ in REFUSED.values():
        with pytest.raises(InvalidRequestError) as refused:
            receive(**json.loads(json.dumps(fields).replace("x.example", CANARY)))
        assert CANARY not in refused.value.message
        assert CANARY not in (refused.value.param or "")


def test_segments_compare_by_value() -> None:
    assert receive().segments[-1] == Segment("/messages/0/content", "hello", "user", "text")
