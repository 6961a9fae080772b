"""A policy whose names do not exist, or whose exceptions go too far, is refused whole, with the place and the cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from policies.bundle import load
from policies.faults import Fault, PolicyError
from policies.vocabulary import Vocabulary

Write = Callable[..., Path]
RULE = """
rules:
  - id: stays
    title: t
    when: {category: pii}
    outcome: onprem
"""


def refusal(path: Path, vocabulary: Vocabulary) -> list[Fault]:
    with pytest.raises(PolicyError) as caught:
        load(path, vocabulary=vocabulary)
    return caught.value.faults


@pytest.mark.parametrize(
    ("when", "outcome", "place", "message"),
    [
        ("{finding: {type: EMIAL}}", "onprem", (5, 28), "unknown entity type 'EMIAL'; did you mean 'EMAIL'?"),
        ("{finding: {types: [EMAIL, US_SNN]}}", "onprem", (5, 37), "unknown entity type 'US_SNN'; did you mean 'US_SSN'?"),
        ("{all: [{category: phj}]}", "onprem", (5, 29), "unknown category 'phj'; did you mean 'phi'?"),
        ("{category: [phi, weather]}", "onprem", (5, 28), "unknown category 'weather'; known: credential, pci, phi, pii"),
        ("{category: phi}", "{recipients: [nobody]}", (6, 28), "unknown recipient 'nobody'; known: onprem"),
        ("{category: phi}", "{edits: {EMALE: mask}}", (6, 23), "unknown entity type 'EMALE'; did you mean 'EMAIL'?"),
    ],
)  # fmt: skip
def test_unknown_names(
    write: Write, vocabulary: Vocabulary, when: str, outcome: str, place: tuple[int, int], message: str
) -> None:
    path = write(f"rules:\n  - id: r\n    title: t\n    when: {when}\n    outcome: {outcome}\n")
    assert refusal(path, vocabulary) == [Fault(str(path), *place, message)]


def test_one_id_stands_once_even_in_two_files(write: Write, vocabulary: Vocabulary) -> None:
    write(RULE, "set/a.yaml")
    second = write(RULE, "set/b.yaml", header="")
    assert refusal(second.parent, vocabulary) == [Fault(str(second), 2, 9, "the id 'stays' is taken; choose another")]


@pytest.mark.parametrize("section", ["policy", "defaults"])
def test_a_header_stands_once(write: Write, vocabulary: Vocabulary, section: str) -> None:
    path = write(RULE + "defaults: {outcome: cloud}\n---\npolicy: {name: b, version: b}\ndefaults: {outcome: onprem}\n")
    messages = [fault.message for fault in refusal(path, vocabulary)]
    assert f"'{section}' stands in more than one document; keep one" in messages


def test_a_policy_without_a_name_is_refused(write: Write, vocabulary: Vocabulary) -> None:
    (only,) = refusal(write(RULE, header=""), vocabulary)
    assert only.message.startswith("no 'policy' here")


def test_onprem_is_no_name_for_a_provider(write: Write, vocabulary: Vocabulary) -> None:
    (only,) = refusal(write("recipients:\n  - id: onprem\n"), vocabulary)
    assert only.message == "'onprem' is the built-in recipient; choose another id"


def test_a_test_expects_rules_that_exist(write: Write, vocabulary: Vocabulary) -> None:
    path = write(RULE + "tests:\n  - {name: n, text: t, expect: {route: cloud, rules: [stay]}}\n")
    (only,) = refusal(path, vocabulary)
    assert only.message == "unknown rule 'stay'; did you mean 'stays'?"


def exception(**changes: str) -> str:
    fields = {
        "rule": "stays", "tenant": "acme", "approvers": "[Ana Lim, Bo Chen]", "reason": "pilot", "from": "2026-06-01",
        "expires": "2026-07-01", "when": "{findings: {nothing_outside: [EMAIL]}}",
    } | changes  # fmt: skip
    return RULE + "exceptions:\n  - id: w\n" + "".join(f"    {name}: {value}\n" for name, value in fields.items())


def test_an_exception_of_thirty_days_is_accepted(write: Write, vocabulary: Vocabulary) -> None:
    (waiver,) = load(write(exception()), vocabulary=vocabulary).policy.exceptions
    assert (waiver.expires - waiver.starts).days == 30


@pytest.mark.parametrize(
    ("changes", "line", "words"),
    [
        ({"expires": "2026-07-02"}, 14, "runs over 30 days after 'from'"),
        ({"expires": "2026-07-01T00:00:01Z"}, 14, "runs over 30 days after 'from'"),
        ({"expires": "2026-06-01"}, 14, "expires before it begins"),
        ({"approvers": "[Ana Lim, ' ana LIM']"}, 11, "both approvers are the same person"),
        ({"rule": "stay"}, 9, "unknown rule 'stay'; did you mean 'stays'?"),
        ({"when": "{findings: {nothing_outside: [EMAIL, API_KEY]}}"}, 15, "'API_KEY' is a credential; no exception covers those"),
        ({"when": "{findings: {nothing_outside: EMAILS}}"}, 15, "unknown entity type 'EMAILS'; did you mean 'EMAIL'?"),
    ],
)  # fmt: skip
def test_an_exception_beyond_its_limits_refuses_the_policy(
    write: Write, vocabulary: Vocabulary, changes: dict[str, str], line: int, words: str
) -> None:
    (only,) = refusal(write(exception(**changes)), vocabulary)
    assert only.line == line
    assert words in only.message
