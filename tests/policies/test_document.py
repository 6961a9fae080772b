"""YAML in one reading only, every value with its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.document import MAX_ALIASES, MAX_BYTES, MAX_DEPTH, parse
from policies.faults import Fault, PolicyError


def fault(text: str | bytes) -> tuple[int, int, str]:
    with pytest.raises(PolicyError) as caught:
        parse(text.encode() if isinstance(text, str) else text, "p.yaml")
    (only,) = caught.value.faults
    assert only.path == "p.yaml"
    return only.line, only.column, only.message


def test_every_value_and_key_has_its_line_and_column() -> None:
    (document,) = parse("rules:\n  - id: 甲\n    when: {tenant: [a, b]}\n".encode(), "p.yaml")
    assert document.value == {"rules": [{"id": "甲", "when": {"tenant": ["a", "b"]}}]}
    assert document.marks["rules", 0, "id"] == (2, 9)
    assert document.key_marks["rules", 0, "when"] == (3, 5)
    assert document.marks["rules", 0, "when", "tenant", 1] == (3, 24)


def test_columns_count_code_points() -> None:
    (document,) = parse("{ 'ключ😀': v }".encode(), "p.yaml")
    assert document.marks["ключ😀",] == (1, 12)


def test_several_documents_and_empty_ones() -> None:
    documents = parse(b"a: 1\n---\n# nothing\n---\nb: 2\n", "p.yaml")
    assert [document.value for document in documents] == [{"a": 1}, {"b": 2}]
    assert documents[1].marks["b",] == (5, 4)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("true", True), ("null", None), ("~", None), ("", None),
        ("2026-01-31", "2026-01-31"), ("12:30:45", "12:30:45"), ("0777", 777), ("-3", -3), ("0.5", 0.5), ("1e3", 1000.0),
        ('"5"', "5"), ("'true'", "true"), ("1_000", "1_000"), ("0x1F", "0x1F"), ("! 5", "5"),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    (document,) = parse(f"k: {text}".encode(), "p.yaml")
    assert document.value == {"k": value}
    assert type(document.value["k"]) is type(value)


def test_duplicate_keys_are_refused_at_the_second() -> None:
    assert fault("a: 1\nb:\n  c: 1\n  c: 2\n") == (4, 3, "the key 'c' stands here twice; keep one")


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: !!python/object/apply:os.system [x]", (1, 4), "the tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("a: !secret x", (1, 4), "the tag '!secret' is refused"),
        ("a: *x", (1, 4), "names no finished anchor"),
        ("a: &x [*x]", (1, 8), "names no finished anchor"),
        ("1: x", (1, 1), "a key must be a word"),
        ("[a]: x", (1, 1), "a key must be a word"),
        ("a: [1, 2\nb: 3]", (2, 2), "not YAML"),
        ("a: b\n\tc: d", (2, 1), "not YAML"),
        ("a: \x07", (1, 4), "a control character"),
        ("a: " + "[" * (MAX_DEPTH + 1), (1, MAX_DEPTH + 4), "nested deeper"),
    ],
)
def test_anything_but_plain_values_is_refused(text: str, place: tuple[int, int], words: str) -> None:
    line, column, message = fault(text)
    assert words in message
    assert (line, column) == place


def test_not_utf_8_is_refused_where_it_breaks() -> None:
    assert fault(b"a: 1\nb: \xff") == (2, 4, "not UTF-8; save the file as UTF-8")


def test_a_document_over_the_limit_is_refused() -> None:
    assert "over 1000000 bytes" in fault(b"a: " + b"x" * MAX_BYTES)[2]


def test_an_alias_means_its_anchor() -> None:
    (document,) = parse(b"a: &x [1]\nb: *x\n", "p.yaml")
    assert document.value == {"a": [1], "b": [1]}


def test_aliases_cannot_multiply_without_bound() -> None:
    levels = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "more than 100000 values" in fault("\n".join(levels))[2]


def test_aliases_are_limited_in_number() -> None:
    assert f"more than {MAX_ALIASES} aliases" in fault("a: &x 1\nb: [" + ", ".join(["*x"] * (MAX_ALIASES + 1)) + "]")[2]


def test_aliases_cannot_nest_deeper_than_text_may() -> None:
    levels = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, MAX_DEPTH + 2)]
    assert "nested deeper" in fault("\n".join(levels))[2]


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused_with_a_place(content: bytes) -> None:
    faults: list[Fault] = []
    try:
        documents = parse(content, "p.yaml")
    except PolicyError as error:
        documents, faults = [], error.faults
    assert all(each.line >= 1 and each.column >= 1 for each in faults)
    assert all(() in document.marks for document in documents)
