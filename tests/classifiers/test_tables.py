"""Tables in text: a column's name is context for every value below it."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.cascade import Classifier
from classifiers.tables import read_tables
from classifiers.text import Reading

CN_ID_MISTYPED = "360426199101010072"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def read(text: str) -> str | None:
    reading = read_tables(Reading(text), 1)
    return None if reading is None else reading.text


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("ssn,city\n12,x9", "ssn: 12\ncity: x9\n"),
        ("customerSSN\tcity\n12\tRome", "customer SSN: 12\n"),
        ("a;b\n1;2\n3;4\n\nc;d\n5;6", "a: 1\nb: 2\na: 3\nb: 4\nc: 5\nd: 6\n"),
        ('"full name","no"\n"Roe, 1","2"', "full name: Roe, 1\nno: 2\n"),
        ("| a | b |\n|---|:-:|\n| 1 | 2 |", "a: 1\nb: 2\n"),
        ("a | b\n--- | ---\n1 | 2", "a: 1\nb: 2\n"),
        ("name,pass_word\nbob,hunter", "pass word: hunter\n"),
        ("see, here\nssn,no\n1,2", "see ssn: 1\nhere no: 2\n"),
        ("one line, 1", None),
        ("Dear Bob,\nthank you for the 3 books", None),
        ("1234,5678\n1234,5678", None),
        ("a,b\nplain,words", None),
    ],
)
def test_values_are_read_beside_their_columns_names(source: str, lines: str | None) -> None:
    assert read(source) == lines


def test_a_value_is_located_exactly() -> None:
    source = 'x\nname,ssn\n"Roe", 536904399 \n'
    reading = read_tables(Reading(source), 1)
    assert reading is not None
    at = reading.text.index("536904399")
    assert reading.locate(at, at + 9) == (source.index("536904399"), source.index("536904399") + 9)


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize(
    ("name", "value", "entity_type"),
    [
        ("ssn", "536904399", "US_SSN"),
        ("customerSSN", "536904399", "US_SSN"),
        ("身份证号", CN_ID_MISTYPED, "CN_RESIDENT_ID"),
        ("手机号", "13912345678", "CN_MOBILE"),
        ("phone", "4155552671", "PHONE"),
        ("mrn", "00482913", "MEDICAL_RECORD"),
        ("db_password", "Passw0rd!77", "PASSWORD"),
        ("account number", "000123456789", "BANK_ACCOUNT"),
        ("card no", "4111111111111112", "BANK_CARD"),
        ("护照号码", "E12345678", "PASSPORT"),
    ],
)
def test_column_a_hundred_rows_long_keeps_its_name(
    classifier: Classifier, delimiter: str, name: str, value: str, entity_type: str
) -> None:
    rows = [["row", name, "note"], *(["x", "", "none at all"] for _ in range(100)), ["y", value, "last"]]
    text = "\n".join(delimiter.join(row) for row in rows)
    found = [f for f in classifier.classify_text(text).findings if f.entity_type == entity_type]
    assert [text[f.start : f.end] for f in found] == [value]


@pytest.mark.parametrize(
    "text",
    [
        "year,revenue\n2019,48211234\n2020,59301187\n",
        "sku,qty\n536904399,4\n",
        "| order id | total |\n|---|---|\n| 4111111111111112 | 3 |\n",
        "city;population\nLeeds;793139\nYork;202800\n",
        "订单号,金额\n4111111111111112,20\n",
        "id,token_count\n1,4096\n",
    ],
)
def test_columns_of_everyday_numbers_are_public(classifier: Classifier, text: str) -> None:
    assert classifier.classify_text(text).findings == ()


CELL = st.text(alphabet='0é",;|\n身 ', min_size=1, max_size=8).map(lambda cell: f"1{cell.strip()}1")


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5))
def test_every_number_written_by_a_csv_writer_is_read(rows: list[tuple[str, str]]) -> None:
    rows = [(first.replace("\n", " "), second.replace("\n", " ").replace('"', "'")) for first, second in rows]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([("left", "right"), *rows])
    lines = read(file.getvalue())
    assert lines is not None
    assert all(f"right: {second}\n" in lines for _, second in rows)


@given(st.text(alphabet='a1,;|\t\n"- ', max_size=200))
def test_no_text_raises_and_values_come_from_it(text: str) -> None:
    reading = read_tables(Reading(text), 1)
    for index in range(len(reading.text) if reading else 0):
        assert reading is not None
        start, end = reading.locate(index, index + 1)
        assert 0 <= start < end <= len(text)
