"""A policy's own tests: synthetic requests, and the route, sensitivity and rules that must come of them.

tests ──▶ segments ──classify──▶ Label ──decide──▶ Decision ──▶ CaseResult … ──▶ TestReport (with rule coverage)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from classifiers.label import Label, Segment
from policies.bundle import STARTUP, Source, compile_draft, read_draft
from policies.decision import CallFacts
from policies.engine import PolicyEngine
from policies.faults import Fault
from policies.model import Expectation, Recipient, TestCase
from policies.references import Entry, read_tests
from policies.vocabulary import Vocabulary, of_classifiers
from runtime.ids import now_us as wall_clock_us

Classify = Callable[[Sequence[Segment]], Label]


class Outcome(msgspec.Struct, frozen=True):
    """What came of a case: the decision's route word, its sensitivity's word, and all its rules."""

    route: str
    sensitivity: str
    rules: tuple[str, ...]


class CaseResult(msgspec.Struct, frozen=True):
    """One case. ``faults`` say where it differs from what was expected; empty is a pass."""

    name: str
    expected: Expectation
    got: Outcome
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        return not self.faults

    @property
    def rules(self) -> tuple[str, ...]:
        return self.got.rules


class TestReport(msgspec.Struct, frozen=True):
    """All cases of a policy, in reading order.

    Attributes:
        policy_version: the version tested.
        cases: each with what was expected and what came.
        rules: ids of all rules, sorted.
        covered: those that fired in at least one case.
    """

    __test__ = False  # not pytest's

    policy_version: str
    cases: tuple[CaseResult, ...]
    rules: tuple[str, ...]
    covered: frozenset[str]

    @property
    def ok(self) -> bool:
        return all(case.ok for case in self.cases)

    @property
    def faults(self) -> list[Fault]:
        return [fault for case in self.cases for fault in case.faults]

    @property
    def uncovered(self) -> tuple[str, ...]:
        return tuple(rule for rule in self.rules if rule not in self.covered)

    @property
    def coverage(self) -> float:
        """Part of the rules, 0 … 1, that fired in at least one case; 1 without rules."""
        return len(self.covered) / len(self.rules) if self.rules else 1.0


def run_tests(
    path: Path | None,
    classify: Classify,
    *,
    extra_recipients: Sequence[Recipient] = (),
    vocabulary: Vocabulary | None = None,
    now_us: int | None = None,
) -> TestReport:
    """Run the ``tests`` of a policy through ``classify`` and the compiled policy.

    Args:
        path: a file or a folder; None is the shipped start-up set.
        classify: segments in, label out; the shipped classifier's method, or a stand-in.
        extra_recipients, vocabulary: as for ``policies.bundle.load``.
        now_us: microseconds since the Unix epoch at which the requests are made; None is the wall clock.

    Raises:
        PolicyError: the policy cannot be loaded.
    """
    now_us = wall_clock_us() if now_us is None else now_us
    vocabulary = vocabulary or of_classifiers()
    source = Source.read(path or STARTUP)
    plan = read_draft(source, vocabulary, extra_recipients)
    engine = compile_draft(plan, source.path, extra_recipients=extra_recipients, vocabulary=vocabulary)
    cases = tuple(_run(case, entry, engine, classify, now_us) for case, entry in read_tests(plan))
    rules = tuple(sorted(rule.id for rule in engine.policy.rules))
    fired = {name for case in cases for name in case.rules}
    return TestReport(engine.version, cases, rules, frozenset(fired.intersection(rules)))


def _run(case: TestCase, entry: Entry, engine: PolicyEngine, classify: Classify, now_us: int) -> CaseResult:
    call = CallFacts(
        tenant=case.tenant,
        model=case.model,
        purpose=case.purpose,
        sensitivity=case.sensitivity,
        kinds=frozenset(segment.kind for segment in case.segments),
        size_bytes=sum(len(segment.text.encode("utf-8", "surrogatepass")) for segment in case.segments),
    )
    decision = engine.decide(classify(case.segments), call, decision_id="test", now_us=now_us)
    got = Outcome(decision.route.word, decision.sensitivity.word, decision.rules)
    return CaseResult(case.name, case.expect, got, tuple(_differences(case, entry, got)))


def _differences(case: TestCase, entry: Entry, got: Outcome) -> list[Fault]:
    expect = case.expect
    differences = []
    if got.route != expect.route:
        differences.append(("route", f"expected route {expect.route}, got {got.route}"))
    if expect.sensitivity is not None and got.sensitivity != expect.sensitivity:
        differences.append(("sensitivity", f"expected sensitivity {expect.sensitivity}, got {got.sensitivity}"))
    if expect.rules is not None and set(got.rules) != expect.rules:
        differences.append(("rules", f"expected rules {_listed(expect.rules)}, got {_listed(got.rules)}"))
    return [entry.fault(f"{case.name}: {message}", "expect", key) for key, message in differences]


def _listed(names: Sequence[str] | frozenset[str]) -> str:
    return f"[{', '.join(sorted(names))}]"
