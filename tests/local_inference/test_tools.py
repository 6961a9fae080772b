from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_inference.engines.base import ToolSchema
from local_inference.tools import JsonObjectEnd, forced_call, forced_prefix, read_call

TOOLS = (ToolSchema("weather", "", {}),)

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _json, max_size=4), st.text(), st.integers(1, 6), st.booleans())
def test_the_end_of_an_object_is_found_wherever_its_text_is_cut(
    value: dict[str, object], after: str, size: int, ascii_only: bool
) -> None:
    written = json.dumps(value, ensure_ascii=ascii_only)
    text, end, read = written + after, JsonObjectEnd(), ""
    for at in range(0, len(text), size):
        read += end.push(text[at : at + size])
    assert end.complete
    assert read == written


def test_an_exact_call_of_a_given_function_is_taken() -> None:
    call = read_call('{"name": "weather", "arguments": {"city": "Paris"}}', TOOLS)
    assert call is not None
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Paris"})


@pytest.mark.parametrize(
    "answer",
    [
        "It is sunny.",
        'Sure: {"name": "weather", "arguments": {}}',
        '{"name": "weather", "arguments": {}} there',
        '{"name": "clock", "arguments": {}}',
        '{"name": "weather", "arguments": "Paris"}',
        '{"name": "weather"}',
        '{"name": ["weather"], "arguments": {}}',
        '{"name": "weather", "arguments": {}, "why": 1}',
        '{"name": "weather", "arguments": {',
    ],
)
def test_anything_else_is_an_answer_in_words(answer: str) -> None:
    assert read_call(answer, TOOLS) is None


def test_a_forced_call_is_well_formed_whatever_the_model_wrote() -> None:
    assert forced_call("weather", '{"city": "Paris"}').arguments == '{"city": "Paris"}'
    assert forced_call("weather", '{"city": Par').arguments == "{}"
    assert forced_call("weather", "[1]").arguments == "{}"


def test_the_prefix_of_a_forced_call_ends_where_the_arguments_begin() -> None:
    assert json.loads(forced_prefix("weather") + "}}") == {"name": "weather", "arguments": {}}
