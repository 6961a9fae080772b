"""The compiled policy: one label and one call in, the meet of all matching rules out (law 1).

    label, call ──▶ matching rules ── exceptions ──▶ meet of their outcomes ── floor ──▶ Decision

Sets of rules and of recipients are bit masks in Python integers. The order in which documents give rules, exceptions and
recipients has no influence: ids are sorted when compiling.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from classifiers.label import Finding, Label, Sensitivity
from policies.decision import ONPREM, CallFacts, Decision, Edit
from policies.matching import Mask, Matcher, flags
from policies.model import SHORTHANDS, Outcome, Policy, Recipient, Waiver, micros
from policies.references import CREDENTIAL, EXCEPTION_PREFIX, FLOOR_UNSCANNED
from policies.vocabulary import Vocabulary

T = TypeVar("T")


class PolicyEngine:
    """A policy in force. Immutable and safe to share between threads.

    Attributes:
        version: ``<name>@<version>+<12 hex digits>``, after ``unsigned:`` for anything but a shipped set.
        policy: the model it was compiled from.
        recipients: complete recipients by id, ``onprem`` not among them; an expired one is never in a decision.
    """

    __slots__ = ("_default", "_edits", "_expiries", "_matcher", "_obligations", "_onprem", "_outcomes", "_recipients",
                 "_rule_ids", "_rules", "_waivers", "policy", "recipients", "version")  # fmt: skip

    def __init__(self, policy: Policy, *, version: str, vocabulary: Vocabulary) -> None:
        """Compile ``policy``, whose names ``policies.references`` has checked against ``vocabulary``."""
        self.version = version
        self.policy = policy
        self.recipients: Mapping[str, Recipient] = {each.id: each for each in policy.recipients}
        self._recipients = (ONPREM, *sorted(self.recipients))
        bits = {name: 1 << position for position, name in enumerate(self._recipients)}
        self._onprem = bits[ONPREM]
        self._default = _allowed(policy.default, bits)
        self._expiries = tuple((micros(each.expires), ~bits[each.id]) for each in policy.recipients)
        rules = self._rules = tuple(sorted(policy.rules, key=lambda rule: rule.id))
        self._rule_ids = tuple(rule.id for rule in rules)
        self._matcher = Matcher([rule.when for rule in rules])
        self._outcomes = tuple(
            (mask, allowed) for allowed, mask in _grouped((_allowed(rule.outcome, bits),) for rule in rules).items()
        )
        self._edits = tuple(
            (mask, name, edit) for (name, edit), mask in _grouped(rule.outcome.edits.items() for rule in rules).items()
        )
        self._obligations = tuple(
            (mask, obligation) for obligation, mask in _grouped(rule.obligations for rule in rules).items()
        )
        positions = {rule.id: 1 << position for position, rule in enumerate(rules)}
        self._waivers = tuple(
            _CompiledWaiver.of(waiver, positions[waiver.rule], vocabulary)
            for waiver in sorted(policy.exceptions, key=lambda waiver: waiver.id)
        )

    def decide(self, label: Label, call: CallFacts, *, decision_id: str, now_us: int) -> Decision:
        """The decision on a request.

        Args:
            label: what the classifier found, lineage joined in.
            call: the caller's facts; its hint joins upward with the label.
            decision_id: the id to give it.
            now_us: microseconds since the Unix epoch, by which recipients and exceptions expire.
        """
        unknown = bool(label.unscanned) or label.unverified_language
        sensitivity = Sensitivity.RESTRICTED if unknown else max(label.sensitivity, call.sensitivity)
        matched = self._matcher.matching(label, call, sensitivity)
        waived: tuple[str, ...] = ()
        if self._waivers and not unknown:
            matched, waived = self._waive(matched, label, call.tenant, sensitivity, now_us)

        allowed = self._default
        for expires_us, others in self._expiries:
            if now_us >= expires_us:
                allowed &= others
        for mask, of_outcome in self._outcomes:
            if matched & mask:
                allowed &= of_outcome
        fired = tuple(itertools.compress(self._rule_ids, flags(matched))) + waived
        if unknown:
            allowed &= self._onprem
            fired += (FLOOR_UNSCANNED,)
        return Decision(
            id=decision_id,
            recipients=frozenset(name for position, name in enumerate(self._recipients) if allowed >> position & 1),
            edits=self._strictest(matched, label.findings) if self._edits else {},
            obligations=frozenset(each for mask, each in self._obligations if matched & mask),
            rules=fired,
            policy_version=self.version,
            sensitivity=sensitivity,
            reason="" if allowed else self._reason(matched),
        )

    def _waive(
        self, matched: Mask, label: Label, tenant: str, sensitivity: Sensitivity, now_us: int
    ) -> tuple[Mask, tuple[str, ...]]:
        held_back, used = 0, []
        for waiver in self._waivers:
            if matched & waiver.rule and waiver.holds(label, tenant, sensitivity, now_us):
                held_back |= waiver.rule
                used.append(EXCEPTION_PREFIX + waiver.id)
        return matched & ~held_back, tuple(used)

    def _strictest(self, matched: Mask, findings: Sequence[Finding]) -> dict[str, Edit]:
        found = {finding.entity_type for finding in findings}
        edits: dict[str, Edit] = {}
        for mask, name, edit in self._edits:
            if matched & mask and name in found and (name not in edits or edit.strictness > edits[name].strictness):
                edits[name] = edit
        return edits

    def _reason(self, matched: Mask) -> str:
        """Title and remedy of the first rule, by id, that rejects; only a rule can."""
        rejecting = (
            rule for rule in itertools.compress(self._rules, flags(matched)) if rule.outcome == SHORTHANDS["reject"]
        )
        rule = next(rejecting)
        return f"{rule.title} {rule.remedy}".rstrip()


def _allowed(outcome: Outcome, bits: Mapping[str, Mask]) -> Mask:
    names = bits.keys() if outcome.recipients is None else outcome.recipients & bits.keys()
    return sum(bits[name] for name in names)


def _grouped(of_rules: Iterable[Iterable[T]]) -> dict[T, Mask]:
    """Each distinct thing, and the mask of the rules that say it."""
    masks: dict[T, Mask] = {}
    for position, things in enumerate(of_rules):
        for thing in things:
            masks[thing] = masks.get(thing, 0) | 1 << position
    return masks


class _CompiledWaiver(msgspec.Struct, frozen=True):
    """An exception holds while every bound on the label does: findings, and the categories and the sensitivity that
    findings of those types account for. So taint from earlier turns, or a caller's hint above that, keeps the rule.
    """

    id: str
    rule: Mask
    tenant: str
    starts_us: int
    expires_us: int
    allowed: frozenset[str]
    categories: frozenset[str]
    ceiling: Sensitivity

    @classmethod
    def of(cls, waiver: Waiver, rule: Mask, vocabulary: Vocabulary) -> _CompiledWaiver:
        facts = [vocabulary.entities[name] for name in waiver.allowed]
        return cls(
            id=waiver.id,
            rule=rule,
            tenant=waiver.tenant,
            starts_us=micros(waiver.starts),
            expires_us=micros(waiver.expires),
            allowed=waiver.allowed,
            categories=frozenset(each.category for each in facts) - {CREDENTIAL},
            ceiling=max(each.sensitivity for each in facts),
        )

    def holds(self, label: Label, tenant: str, sensitivity: Sensitivity, now_us: int) -> bool:
        return (
            tenant == self.tenant
            and self.starts_us <= now_us < self.expires_us
            and sensitivity <= self.ceiling
            and label.categories <= self.categories
            and all(finding.entity_type in self.allowed for finding in label.findings)
        )
