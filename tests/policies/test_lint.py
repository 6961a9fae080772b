"""What is legal but surely not meant."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest

from policies.bundle import load
from policies.lint import lint
from policies.model import micros
from policies.vocabulary import Vocabulary

Write = Callable[..., Path]
NOW_US = micros(datetime.datetime(2026, 6, 15, tzinfo=datetime.UTC))
CLOUD = "defaults: {outcome: cloud}\n"


def rules(*each: str) -> str:
    """Rules ``a``, ``b`` … in flow style: ``when | outcome | more``."""
    lines = ["rules:"]
    for name, text in zip("abcdef", each, strict=False):
        when, outcome, *more = text.split(" | ")
        lines.append(f"  - {{id: {name}, title: t, when: {when}, outcome: {outcome}{''.join(', ' + m for m in more)}}}")
    return CLOUD + "\n".join(lines) + "\n"


def messages(path: Path, vocabulary: Vocabulary) -> list[str]:
    return [fault.message for fault in lint(path, vocabulary=vocabulary, now_us=NOW_US)]


def test_the_shipped_set_is_clean() -> None:
    assert lint() == []


def test_faults_of_loading_are_reported_and_not_raised(write: Write, vocabulary: Vocabulary, tmp_path: Path) -> None:
    assert messages(write("ruels: [1]\n"), vocabulary) == ["unknown key 'ruels'; did you mean 'rules'?"]
    assert messages(tmp_path / "absent.yaml", vocabulary) == ["cannot be read: No such file or directory"]


def test_faults_of_all_files_come_at_once_and_in_order(write: Write, vocabulary: Vocabulary) -> None:
    write("rules: 1\nx: 1\n", "set/b.yaml", header="")
    folder = write("rules: 2\n", "set/a.yaml").parent
    places = [(Path(fault.path).name, fault.line) for fault in lint(folder, vocabulary=vocabulary)]
    assert places == [("a.yaml", 2), ("b.yaml", 1), ("b.yaml", 2)]


def test_a_policy_without_rules(write: Write, vocabulary: Vocabulary) -> None:
    (only,) = messages(write(CLOUD), vocabulary)
    assert only.startswith("a policy without rules")


@pytest.mark.parametrize(
    "when",
    [
        "{all: [{tenant: a}, {tenant: b}]}",
        "{all: [{purpose: a}, {all: [{purpose: [b, c]}, {category: phi}]}]}",
        "{all: [{model: gpt-4o}, {model: qwen}]}",
        "{any: [{all: [{tenant: a}, {tenant: b}]}, {all: [{tenant: c}, {tenant: d}]}]}",
    ],
)
def test_a_rule_that_can_never_match(write: Write, vocabulary: Vocabulary, when: str) -> None:
    path = write(rules(f"{when} | onprem"))
    (only,) = lint(path, vocabulary=vocabulary, now_us=NOW_US)
    assert "can never match" in only.message
    assert (only.line, only.column) == (4, len("  - {id: a, title: t, when: ") + 1)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("{always: true} | onprem", "{category: phi} | onprem"),
        ("{category: [phi, pii]} | onprem", "{category: phi} | onprem"),
        ("{sensitivity: {at_least: internal}} | onprem", "{sensitivity: {at_least: restricted}} | onprem"),
        (
            "{finding: {types: [EMAIL, US_SSN]}} | reject",
            "{finding: {type: EMAIL, min_count: 2, min_score: 0.5}} | onprem",
        ),
        ("{category: phi} | onprem", "{all: [{category: phi}, {tenant: a}]} | onprem"),
        ("{any: [{category: phi}, {tenant: a}]} | onprem", "{category: phi} | onprem"),
        ("{size_at_least_bytes: 5} | {edits: {EMAIL: redact}}", "{size_at_least_bytes: 9} | {edits: {EMAIL: mask}}"),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_shadowed_rule_changes_nothing(
    write: Write, vocabulary: Vocabulary, wide: str, narrow: str, reverse: bool
) -> None:
    path = write(rules(narrow, wide) if reverse else rules(wide, narrow))
    shadowed, shadow = ("a", "b") if reverse else ("b", "a")
    (only,) = messages(path, vocabulary)
    assert only.startswith(f"rule '{shadowed}' changes nothing: rule '{shadow}' matches whenever it does")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{category: phi} | onprem", "{category: pii} | onprem"),
        ("{category: phi} | onprem", "{category: phi} | reject"),
        ("{always: true} | onprem", "{category: phi} | onprem | reference: HIPAA"),
        ("{always: true} | onprem", "{category: phi} | onprem | obligations: [notify]"),
        ("{always: true} | {edits: {EMAIL: mask}}", "{category: pii} | {edits: {EMAIL: redact}}"),
        ("{category: phi} | onprem", "{any: [{category: phi}, {tenant: a}]} | {edits: {EMAIL: mask}}"),
    ],
)
def test_rules_that_both_matter(write: Write, vocabulary: Vocabulary, one: str, other: str) -> None:
    named = [m for m in messages(write(rules(one, other)), vocabulary) if "rule 'b'" in m]
    assert [m for m in named if "'a' changes" not in m] == []


def test_twins_are_named_once(write: Write, vocabulary: Vocabulary) -> None:
    (only,) = messages(write(rules("{category: phi} | onprem", "{category: phi} | onprem")), vocabulary)
    assert only.startswith("rule 'b' changes nothing")


def test_a_rule_that_an_exception_holds_back_shadows_no_other(write: Write, vocabulary: Vocabulary) -> None:
    exception = (
        "exceptions: [{id: w, rule: a, tenant: t, approvers: [x, y], reason: r, from: 2026-06-01, expires: 2026-06-30, "
        "when: {findings: {nothing_outside: EMAIL}}}]\n"
    )
    path = write(rules("{always: true} | onprem", "{category: phi} | onprem") + exception)
    assert messages(path, vocabulary) == []


def test_a_rule_meant_to_let_out_under_a_default_of_onprem(write: Write, vocabulary: Vocabulary) -> None:
    (only,) = messages(write(rules("{category: pii} | cloud").replace(CLOUD, "")), vocabulary)
    assert only.startswith("rule 'a' lets nothing out: the default is onprem")


def test_what_has_run_out_or_is_incomplete(write: Write, vocabulary: Vocabulary) -> None:
    path = write(
        rules("{category: phi} | onprem")
        + """\
exceptions:
  - {id: w, rule: a, tenant: t, approvers: [x, y], reason: r, from: 2026-05-01, expires: 2026-05-31, when: {findings: {nothing_outside: EMAIL}}}
recipients:
  - {id: half, country: DE, regions: [x], retention_days: 0}
  - {id: old, legal_entity: l, country: DE, regions: x, transfer_mechanism: m, retention_days: 0, training_use: false, expires: 2026-06-15}
"""
    )
    expired, incomplete, old = lint(path, vocabulary=vocabulary, now_us=NOW_US)
    assert (expired.line, expired.message) == (6, "exception 'w' has expired; remove it, or have it approved anew")
    assert (incomplete.line, incomplete.column) == (8, 5)
    assert incomplete.message == (
        "recipient 'half' gets no route while it lacks legal_entity, transfer_mechanism, training_use, expires; add it"
    )
    assert (old.line, old.message) == (9, "recipient 'old' has expired and gets no route; renew it or remove it")
    assert set(load(path, vocabulary=vocabulary).recipients) == {"old"}
