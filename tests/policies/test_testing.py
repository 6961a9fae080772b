"""A policy's own tests: what passes, what fails and where, and which rules no test reaches."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from classifiers.label import Finding, Label, Segment, Sensitivity, Unscanned
from policies.bundle import SHIPPED
from policies.faults import PolicyError
from policies.lint import lint
from policies.model import micros
from policies.testing import run_tests
from policies.vocabulary import Vocabulary

Write = Callable[..., Path]
RULES = """
defaults: {outcome: cloud}
recipients:
  - id: cloud
    legal_entity: L
    country: DE
    regions: [eu]
    transfer_mechanism: clauses
    retention_days: 0
    training_use: false
    expires: 2036-01-01
rules:
  - {id: mail-masked, title: t, when: {finding: {type: EMAIL}}, outcome: {edits: {EMAIL: mask}}}
  - {id: acme-stays, title: t, when: {all: [{tenant: acme}, {purpose: hr}, {model: "gpt-*"}]}, outcome: onprem}
  - {id: large-refused, title: t, when: {size_at_least_bytes: 30}, outcome: reject}
tests:
"""


def classify(segments: Sequence[Segment]) -> Label:
    """A stand-in: an ``@`` is an e-mail address, an unscannable segment is unscanned."""
    found = tuple(Finding("EMAIL", 0, 1, 1.0, "stand-in", s.pointer) for s in segments if "@" in s.text)
    unscanned = tuple(Unscanned(s.pointer, s.unscannable) for s in segments if s.unscannable)
    level = Sensitivity.CONFIDENTIAL if found else Sensitivity.PUBLIC
    return Label(sensitivity=level, categories=frozenset({"pii"} if found else ()), findings=found).joined(
        unscanned=unscanned
    )


def test_cases_pass_and_rules_are_covered(write: Write, vocabulary: Vocabulary) -> None:
    path = write(
        RULES
        + """\
  - {name: plain, text: hello, expect: {route: cloud, sensitivity: public, rules: []}}
  - {name: 电邮, text: 写信给 @, expect: {route: cloud_pseudonymised, sensitivity: confidential, rules: [mail-masked]}}
  - {name: by caller, text: x, tenant: acme, purpose: HR, model: GPT-4o, expect: {route: onprem, rules: [acme-stays]}}
  - {name: hint, text: x, sensitivity: internal, expect: {route: cloud, sensitivity: internal}}
  - {name: image, segments: [{text: x}, {unscannable: image}], expect: {route: onprem, rules: ["floor:unscanned"]}}
  - {name: bytes count, text: 长江长江长江长江长江, expect: {route: reject, rules: [large-refused]}}
"""
    )
    report = run_tests(path, classify, vocabulary=vocabulary)
    assert report.faults == []
    assert report.ok
    assert [case.name for case in report.cases] == ["plain", "电邮", "by caller", "hint", "image", "bytes count"]
    assert report.coverage == 1
    assert report.uncovered == ()
    assert report.policy_version.startswith("unsigned:trial@1+")


def test_a_failing_case_says_what_where(write: Write, vocabulary: Vocabulary) -> None:
    path = write(
        RULES
        + """\
  - name: wrong in all
    text: write to @
    expect: {route: onprem, sensitivity: public, rules: [acme-stays]}
  - {name: right, text: x, expect: {route: cloud}}
"""
    )
    report = run_tests(path, classify, vocabulary=vocabulary)
    wrong, right = report.cases
    assert right.ok
    assert not wrong.ok
    assert not report.ok
    assert wrong.rules == ("mail-masked",)
    line = len(path.read_text(encoding="utf-8").splitlines()) - 1
    assert [str(fault) for fault in report.faults] == [
        f"{path}:{line}:21: wrong in all: expected route onprem, got cloud_pseudonymised",
        f"{path}:{line}:42: wrong in all: expected sensitivity public, got confidential",
        f"{path}:{line}:57: wrong in all: expected rules [acme-stays], got [mail-masked]",
    ]


def test_rules_that_no_test_reaches_are_named(write: Write, vocabulary: Vocabulary) -> None:
    report = run_tests(
        write(RULES + "  - {name: n, text: '@', expect: {route: cloud_pseudonymised}}\n"),
        classify,
        vocabulary=vocabulary,
    )
    assert report.ok
    assert report.uncovered == ("acme-stays", "large-refused")
    assert report.coverage == pytest.approx(1 / 3)


def test_time_is_given_so_that_expiry_can_be_tested(write: Write, vocabulary: Vocabulary) -> None:
    path = write(RULES + "  - {name: n, text: x, expect: {route: cloud}}\n")
    for year, ok in ((2035, True), (2036, False)):
        at = micros(datetime.datetime(year, 6, 1, tzinfo=datetime.UTC))
        assert run_tests(path, classify, vocabulary=vocabulary, now_us=at).ok is ok


def test_a_policy_that_cannot_be_loaded_is_not_tested(write: Write, vocabulary: Vocabulary) -> None:
    with pytest.raises(PolicyError):
        run_tests(write("rules: 1\n"), classify, vocabulary=vocabulary)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_set_is_clean_and_passes_its_own_tests(path: Path) -> None:
    from classifiers.cascade import Classifier

    assert lint(path) == []
    report = run_tests(path, Classifier().classify)
    assert report.faults == []
    assert report.cases
    assert report.uncovered == ()


def test_the_startup_set_says_that_it_defaults_to_the_cloud() -> None:
    text = (SHIPPED / "startup.yaml").read_text(encoding="utf-8")
    assert "THIS SET DEFAULTS TO THE CLOUD" in text
    assert "not legal advice" in text
