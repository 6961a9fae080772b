"""JSON in text: field names become context, escapes are read, fragments count."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.structure import read_json, words
from classifiers.text import Reading


def read(text: str) -> str | None:
    reading = read_json(Reading(text), 1)
    return None if reading is None else reading.text


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('{"ssn": 78051120}', "ssn: 78051120\n"),
        ('{"customerSSN": "1"}', "customer SSN: 1\n"),
        ('{"patient": {"record_no": "7"}}', "patient record no: 7\n"),
        ('{"phones": ["1", "2"]}', "phones: 1\nphones: 2\n"),
        ('{"k": "\\u0031\\/2"}', "k: 1/2\n"),
        ('see {"k": "v"} and more', "k: v\n"),
        ('{"k": "open', "k: open\n"),
        ("no fields here", None),
        ('["a", "b"]', None),
    ],
)
def test_values_are_read_beside_their_field_names(source: str, lines: str | None) -> None:
    assert read(source) == lines


def test_a_value_is_located_exactly() -> None:
    source = '{"身份证号": "360426199101010071"}'
    reading = read_json(Reading(source), 1)
    assert reading is not None
    start = reading.text.index("36")
    assert reading.locate(start, start + 18) == (source.index("36"), source.index("36") + 18)


def test_an_escaped_character_points_at_its_escape() -> None:
    source = '{"k": "a\\u0031b"}'
    reading = read_json(Reading(source), 1)
    assert reading is not None
    at = reading.text.index("1")
    assert reading.locate(at, at + 1) == (source.index("\\"), source.index("b"))


def test_names_are_split_into_words() -> None:
    assert [words(name) for name in ("idCardNo", "id_card_no", "id-card.no")] == [
        "id Card No",
        "id card no",
        "id card no",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(min_size=1, alphabet="abc"), st.text(min_size=1, alphabet='0é"\\\n身'), min_size=1))
def test_every_string_under_a_key_is_read_as_the_receiver_reads_it(document: dict[str, str]) -> None:
    lines = read(json.dumps(document))
    assert lines is not None
    assert all(f"{key}: {value}\n" in lines for key, value in document.items())


@given(JSON, st.text())
def test_no_document_and_no_rubbish_raises(document: object, rubbish: str) -> None:
    for text in (json.dumps(document) + rubbish, rubbish):
        lines = read(text)
        assert lines is None or (": " in lines and lines.endswith("\n"))
