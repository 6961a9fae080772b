"""What the language refuses, where, and what it says to write instead; and that the published schema is this one."""

from __future__ import annotations

import json
import textwrap

import pytest
from jsonschema import Draft202012Validator

from policies.bundle import STARTUP
from policies.document import parse
from policies.faults import Fault
from policies.model import Recipient, Rule, Waiver
from policies.schema import PUBLISHED, SCHEMA, render, schema_faults


def faults(body: str) -> list[Fault]:
    (document,) = parse(textwrap.dedent(body).lstrip("\n").encode(), "p.yaml")
    return schema_faults(document)


def test_the_published_schema_is_up_to_date() -> None:
    assert PUBLISHED.read_text(encoding="utf-8") == render(), "run: python -m policies.schema"


def test_the_schema_is_a_valid_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_and_the_model_name_the_same_fields() -> None:
    properties = SCHEMA["properties"]
    assert set(properties["rules"]["items"]["properties"]) == set(Rule.__struct_fields__)
    assert set(properties["recipients"]["items"]["properties"]) == set(Recipient.__struct_fields__)
    renamed = {"starts": "from", "allowed": "when"}
    assert set(properties["exceptions"]["items"]["properties"]) == {renamed.get(f, f) for f in Waiver.__struct_fields__}


def test_editors_find_the_schema_from_the_shipped_set() -> None:
    first = STARTUP.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../policy.schema.json"
    assert (
        json.loads((STARTUP.parent / "../policy.schema.json").read_text(encoding="utf-8"))["title"]
        == "Watershed policy"
    )


def rule_fault(when: str) -> tuple[int, int, str]:
    (only,) = faults(f"rules:\n  - id: r\n    title: t\n    outcome: onprem\n    when: {when}\n")
    return only.line, only.column, only.message


@pytest.mark.parametrize("word", ["not", "none", "unless", "except", "without"])
def test_negation_is_refused(word: str) -> None:
    line, column, message = rule_fault(f"{{{word}: {{category: phi}}}}")
    assert (line, column) == (5, 12)
    assert message.startswith(f"'{word}' is refused: conditions in rules are positive")
    assert message.endswith("write an exception")


@pytest.mark.parametrize(
    ("when", "word"),
    [
        ("{finding: {type: EMAIL, max_count: 3}}", "max_count"),
        ("{finding: {type: EMAIL, max_score: 0.5}}", "max_score"),
        ("{sensitivity: {at_least: internal, at_most: internal}}", "at_most"),
        ("{size_at_most_bytes: 10}", "size_at_most_bytes"),
        ("{all: [{any: [{sensitivity: {at_least: public, below: restricted}}]}]}", "below"),
    ],
)
def test_upper_bounds_are_refused(when: str, word: str) -> None:
    assert rule_fault(when)[:2] == (5, len("    when: ") + when.index(word) + 1)
    assert rule_fault(when)[2].startswith(f"'{word}' is refused: conditions in rules are lower bounds")


@pytest.mark.parametrize("glob", ["gpt-[!4]*", "[a-z]"])
def test_a_glob_cannot_negate(glob: str) -> None:
    assert rule_fault(f'{{model: ["{glob}"]}}')[:2] == (5, 20)


EXCEPTION = """
    exceptions:
      - id: w
        rule: r
        tenant: acme
        approvers: [ana, bo]
        reason: pilot
        from: 2026-06-01
        expires: 2026-06-30
        when:
          findings: {nothing_outside: [EMAIL]}
"""


def test_an_exception_in_full_is_accepted() -> None:
    assert faults(EXCEPTION) == []


@pytest.mark.parametrize(
    "field", ["tenant", "model", "purpose", "kind", "sensitivity", "size_at_least_bytes", "any", "finding"]
)
def test_caller_supplied_fields_and_other_conditions_are_refused_in_exceptions(field: str) -> None:
    (only,) = faults(EXCEPTION + f"          {field}: x\n")
    assert (only.line, only.column) == (11, 7)
    assert only.message.startswith(f"'{field}' is refused in an exception: no caller-supplied field")


@pytest.mark.parametrize("field", ["rule", "tenant", "approvers", "reason", "from", "expires"])
def test_an_exception_lacks_nothing(field: str) -> None:
    body = "\n".join(line for line in EXCEPTION.splitlines() if f" {field}:" not in line)
    (only,) = faults(body)
    assert (only.line, only.column, only.message) == (2, 5, f"'{field}' is missing; add it here")


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("[ana, bo]", "[ana]", (5, 16), "write 2 entries"),
        ("[ana, bo]", "[ana, bo, cy]", (5, 16), "write 2 entries, no more"),
        ("[ana, bo]", "[ana, ana]", (5, 16), "an entry stands here twice"),
        ("tenant: acme", "tenant: [acme, other]", (4, 13), "expected text, found a list"),
        ("rule: r", "rule: [r, s]", (3, 11), "expected text, found a list"),
        ("2026-06-30", "2026-02-31", (8, 14), "'2026-02-31' does not fit; write a date"),
        ("2026-06-30", "2026-06-30T12:00:00", (8, 14), "a time with its offset"),
    ],
)
def test_an_exceptions_limits(old: str, new: str, place: tuple[int, int], words: str) -> None:
    (only,) = faults(EXCEPTION.replace(old, new))
    assert (only.line, only.column) == place
    assert words in only.message


@pytest.mark.parametrize(
    ("body", "place", "message"),
    [
        ("ruels: []", (1, 1), "unknown key 'ruels'; did you mean 'rules'?"),
        ("rules: []", (1, 8), "an empty list; leave the key out"),
        ("[a]", (1, 1), "expected keys and values, found a list"),
        ("defaults: {outcome: clod}", (1, 21), "'clod' is not one of onprem, cloud; did you mean 'cloud'?"),
        ("policy: {name: x, version: 1.10}", (1, 28), "expected text, found a number; put it in quotes"),
        ("policy: {name: Big Name, version: a}", (1, 16), "'Big Name' does not fit; write lower-case letters, digits, '.', '_' and '-'"),
        ("tests: [{name: n, text: t, expect: {route: onprmem}}]", (1, 44), "'onprmem' is not one of cloud, cloud_pseudonymised, onprem, reject; did you mean 'onprem'?"),
        ("tests: [{name: n, expect: {route: cloud}}]", (1, 9), "write either 'text' or 'segments', and only one of them"),
        ("tests: [{name: '', text: t, expect: {route: cloud}}]", (1, 16), "empty text; write something or leave the key out"),
        ("recipients: [{id: x, country: germany}]", (1, 31), "'germany' does not fit; write ISO 3166-1 alpha-2, in capitals, such as CN"),
        ("recipients: [{id: x, retention_days: -1}]", (1, 38), "write 0 or more"),
        ("recipients: [{id: x, training_use: 'no'}]", (1, 36), "expected true or false, found text"),
    ],
)  # fmt: skip
def test_faults_stand_where_they_are_and_say_what_to_write(body: str, place: tuple[int, int], message: str) -> None:
    (only,) = faults(body)
    assert (only.line, only.column, only.message) == (*place, message)


@pytest.mark.parametrize(
    ("when", "column", "message"),
    [
        ("{category: phi, tenant: a}", 11, "several conditions in one place; list them under 'all' (every one) or 'any' (one is enough)"),
        ("{categry: phi}", 12, "unknown key 'categry'; did you mean 'category'?"),
        ("{finding: {types: [EMAIL], type: EMAIL}}", 21, "write either 'type' or 'types', and only one of them"),
        ("{finding: EMAIL}", 21, "expected keys and values, found text"),
        ("{finding: {type: EMAIL, min_score: 1.5}}", 46, "write 1 or less"),
        ("{finding: {type: email}}", 28, "'email' does not fit; write an entity type, in capitals, such as CN_RESIDENT_ID"),
        ("{always: false}", 20, "write true, or leave the condition out"),
        ("{tenant: 42}", 20, "expected text or a list, found a number; put it in quotes"),
    ],
)  # fmt: skip
def test_faults_of_conditions(when: str, column: int, message: str) -> None:
    assert rule_fault(when) == (5, column, message)


@pytest.mark.parametrize(
    ("outcome", "column", "words"),
    [
        ("onpremise", 14, "did you mean 'onprem'?"),
        ("cloud_pseudonymised", 14, "write the edits in full instead"),
        ("{recipients: []}", 27, "an empty list"),
        ("{edits: {EMAIL: masked}}", 30, "did you mean 'mask'?"),
        ("{edits: {email: mask}}", 23, "'email' does not fit; write an entity type"),
        ("{}", 14, "nothing here; write one of recipients, edits"),
        ("{recipient: [a]}", 15, "did you mean 'recipients'?"),
    ],
)
def test_faults_of_outcomes(outcome: str, column: int, words: str) -> None:
    found = faults(f"rules:\n  - id: r\n    title: t\n    when: {{always: true}}\n    outcome: {outcome}\n")
    assert (found[0].line, found[0].column) == (5, column)
    assert words in found[0].message
    assert len(found) == 1
