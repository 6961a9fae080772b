"""Settings and mark-up in text: names become context for their values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.cascade import Classifier
from classifiers.fields import read_lines, read_markup
from classifiers.text import Reading


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def read(source: str, by: Callable[[Reading, int], Reading | None]) -> str | None:
    reading = by(Reading(source), 1)
    return None if reading is None else reading.text


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("customerSSN=12", "customer SSN: 12\n"),
        ("GET /x?userMobile=12&q=a", "user Mobile: 12\n"),
        ("id_card_no: 12", "id card no: 12\n"),
        ("patient:\n  record_no: 7", "patient record no: 7\n"),
        ("phones:\n  - n/a\n  - 12\nend", "phones: 12\n"),
        ("a:\n  b:\n    c: 1\nd: 2", "b c: 1\nd: 2\n"),
        ("export DB_PASS=word", "DB PASS: word\n"),
        ("- **customerId**: 5", "customer Id: 5\n"),
        ("no field, 12 words", None),
        ("name: only words", None),
    ],
)
def test_settings_are_read_beside_their_names(source: str, lines: str | None) -> None:
    assert read(source, read_lines) == lines


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("<a><b>1</b></a>", "a b: 1\n"),
        ('<person idNo="12"/>', "person id No: 12\n"),
        ('<property name="customerSSN" value="12"/>', "customer SSN value: 12\n"),
        ("<field name='ssn'> 12 </field>", "ssn: 12\n"),
        ("<身份证号>12</身份证号>", "身份证号: 12\n"),
        (
            "<table><tr><th>n</th><th>ssn</th></tr><tr><td>x</td><td>12</td></tr><tr><td>3</td><td>4</td></tr></table>",
            "ssn: 12\nn: 3\nssn: 4\n",
        ),
        ("if a < 3 and b > 4", None),
        ("<p>words</p>", None),
    ],
)
def test_mark_up_is_read_beside_its_names(source: str, lines: str | None) -> None:
    assert read(source, read_markup) == lines


@pytest.mark.parametrize(
    ("text", "value", "entity_type"),
    [
        ("customerSSN=536904399", "536904399", "US_SSN"),
        ("curl 'https://api.acme.io/x?userSsn=536904399&q=1'", "536904399", "US_SSN"),
        ("dbPassword: hunter2", "hunter2", "PASSWORD"),
        ("patient:\n  name: X\n  recordNo: A-1048823\n", "A-1048823", "MEDICAL_RECORD"),
        ("phones:\n" + "  - none to be had from anybody here\n" * 9 + "  - 4155552671\n", "4155552671", "PHONE"),
        ("<patient><recordNo>A-1048823</recordNo></patient>", "A-1048823", "MEDICAL_RECORD"),
        ('<property name="customerSSN" value="536904399"/>', "536904399", "US_SSN"),
        ('<entry key="dbPassword">hunter2</entry>', "hunter2", "PASSWORD"),
        ("<客户><身份证号>360426199101010072</身份证号></客户>", "360426199101010072", "CN_RESIDENT_ID"),
        ("证件:\n  身份证号: 360426199101010072", "360426199101010072", "CN_RESIDENT_ID"),
        (
            "<table><tr><th>Who</th><th>SSN</th></tr>"
            + "<tr><td>nobody</td><td>none known here</td></tr>" * 9
            + "<tr><td>B</td><td>536904399</td></tr></table>",
            "536904399",
            "US_SSN",
        ),
    ],
)
def test_value_is_found_by_its_name_with_exact_bounds(
    classifier: Classifier, text: str, value: str, entity_type: str
) -> None:
    found = [f for f in classifier.classify_text(text).findings if f.entity_type == entity_type]
    assert [text[f.start : f.end] for f in found] == [value]


@pytest.mark.parametrize(
    "text",
    [
        "orderId=4111111111111112",
        "max_tokens: 4096\nrequest_timeout_s: 30",
        "server:\n  port: 8080\n  maxConnections: 1000\n",
        '<img src="a.png" width="1024" height="768"/>',
        "<order><orderNo>4111111111111112</orderNo></order>",
        "self.card_count = 5555",
    ],
)
def test_everyday_settings_and_mark_up_are_public(classifier: Classifier, text: str) -> None:
    assert classifier.classify_text(text).findings == ()


@given(st.text(alphabet="aS1:=-<>/\"' \n?&", max_size=200))
def test_no_text_raises_and_values_come_from_it(text: str) -> None:
    for by in (read_lines, read_markup):
        reading = by(Reading(text), 1)
        for index in range(len(reading.text) if reading else 0):
            assert reading is not None
            start, end = reading.locate(index, index + 1)
            assert 0 <= start < end <= len(text)
