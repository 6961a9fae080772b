"""Normalisation: one spelling for detectors, and the way back to the text as it was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.text import Reading, ReadingBuilder, normalise


def plain(text: str) -> str:
    return normalise(Reading(text)).text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("１２３", "123"),
        ("ＡＢＣ：（）", "ABC:()"),
        ("𝟏𝟐𝟑", "123"),
        ("٠١٢", "012"),
        ("1\u200b2\u200d3\u00ad4", "1234"),
        ("a\u00a0b\u3000c", "a b c"),
        ("1–2—3−4", "1-2-3-4"),
        ("⑩⑪", "1011"),
        ("1\u03322\u0332", "12"),
        ("身份证，请看。", "身份证,请看。"),
        ("\ud800x", "\ufffdx"),
    ],
)
def test_spelling_is_unified(written: str, read: str) -> None:
    assert plain(written) == read


def test_ascii_text_is_read_as_it_is() -> None:
    reading = Reading("plain text")
    assert normalise(reading) is reading


def test_extent_covers_the_characters_that_vanished_inside_it() -> None:
    reading = normalise(Reading("id 1\u200b2\u200b3!"))
    assert reading.text == "id 123!"
    assert reading.locate(3, 6) == (3, 8)


def test_extent_of_one_character_that_became_two() -> None:
    reading = normalise(Reading("x⑩y"))
    assert reading.text == "x10y"
    assert reading.locate(1, 2) == (1, 2)
    assert reading.locate(2, 4) == (1, 3)


def test_readings_of_readings_locate_through_all_of_them() -> None:
    first = normalise(Reading("\u200bab\u200bcd"))
    builder = ReadingBuilder()
    builder.decoded("XY", 1, 3)
    second = builder.reading(parent=first, depth=1, how="base64")
    assert second.locate(0, 2) == (2, 5)


@given(st.text(alphabet=st.characters()))
def test_any_text_is_read_encodes_and_locates_inside_the_original(text: str) -> None:
    reading = normalise(Reading(text))
    reading.text.encode()
    for index in range(len(reading.text)):
        start, end = reading.locate(index, index + 1)
        assert 0 <= start < end <= len(text)
