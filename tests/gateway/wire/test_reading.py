"""JSON has one reading, or none (docs/threat-model.md, rule 9)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.reading import MAX_DEPTH, read_json, write_json
from runtime.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'\xef\xbb\xbf{"a": 1}', "byte_order_mark"),
        (b'{"a": "\xff"}', "not_utf8"),
        ('{"a": 1}'.encode("utf-16"), "not_utf8"),
        (b'{"a": 1, "a": 2}', "duplicate_name"),
        (b'{"a": 1, "\\u0061": 2}', "duplicate_name"),
        (b'{"x": [{"b": 1, "b": 1}]}', "duplicate_name"),
        (b'{"a": NaN}', "invalid_json"),
        (b'{"a": -Infinity}', "invalid_json"),
        (b'{"a": 1e999}', "number_out_of_range"),
        (b'{"a": "\\ud800"}', "lone_surrogate"),
        (b'{"\\udfff": 1}', "lone_surrogate"),
        (b'{"a": 1} {"b": 2}', "invalid_json"),
        (b'{"a": 1}x', "invalid_json"),
        (b"{'a': 1}", "invalid_json"),
        (b'{"a": "\n"}', "invalid_json"),
        (b"", "invalid_json"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "invalid_json"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested_too_deep"),
        (b"[" * 200_000, "nested_too_deep"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested_too_deep"),
    ],
)
def test_what_has_no_single_reading_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_json(body)
    assert refused.value.code == code


def test_the_deepest_allowed_nesting_is_read() -> None:
    assert read_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


def test_brackets_in_strings_do_not_nest() -> None:
    text = "[{" * 500 + '\\"'
    assert read_json(json.dumps({"a": text}).encode()) == {"a": text}


def test_a_surrogate_pair_is_one_character() -> None:
    assert read_json(b'{"a": "\\ud83d\\ude00"}') == {"a": "😀"}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(_json)
def test_any_other_value_survives_the_round_trip(value: object) -> None:
    assert read_json(write_json(value)) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        value = read_json(body)
    except InvalidRequestError:
        return
    assert read_json(write_json(value)) == value
