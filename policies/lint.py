"""What a careful colleague would say of a policy before it goes live.

``lint`` reports what makes ``load`` refuse a policy and, where nothing does, what is legal but surely not meant: rules that
can never match or change nothing, exceptions and recipients that have run out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from policies.bundle import STARTUP, Source, read_draft
from policies.decision import ONPREM
from policies.faults import Fault, PolicyError
from policies.model import (
    SHORTHANDS,
    All,
    Always,
    Any_,
    CategoryPresent,
    Condition,
    FindingPresent,
    KindPresent,
    ModelLike,
    Policy,
    PurposeAmong,
    Recipient,
    Rule,
    SensitivityAtLeast,
    SizeAtLeast,
    TenantAmong,
    micros,
    missing_of_recipient,
)
from policies.references import Draft, policy_of
from policies.vocabulary import Vocabulary, of_classifiers
from runtime.ids import now_us as wall_clock_us


def lint(
    path: Path | None = None,
    *,
    extra_recipients: Sequence[Recipient] = (),
    vocabulary: Vocabulary | None = None,
    now_us: int | None = None,
) -> list[Fault]:
    """All faults of a policy, in reading order; empty for a good one. Never raises for a bad document.

    Args:
        path: a file or a folder; None is the shipped start-up set.
        extra_recipients: recipients registered outside the document.
        vocabulary: entity types and categories; None is the shipped classifiers'.
        now_us: microseconds since the Unix epoch by which things expire; None is the wall clock.
    """
    now_us = wall_clock_us() if now_us is None else now_us
    try:
        plan = read_draft(Source.read(path or STARTUP), vocabulary or of_classifiers(), extra_recipients)
    except PolicyError as error:
        return error.faults
    policy = policy_of(plan, extra_recipients)
    return sorted(
        (
            *_rule_faults(plan, policy),
            *_exception_faults(plan, policy, now_us),
            *_recipient_faults(plan, policy, now_us),
        )
    )


def _rule_faults(plan: Draft, policy: Policy) -> Iterator[Fault]:
    if not policy.rules:
        yield plan.headers[0].fault(
            "a policy without rules: every request gets the default; write at least one under 'rules'"
        )
    held_back = {waiver.rule for waiver in policy.exceptions}
    lasting = [rule for rule in policy.rules if rule.id not in held_back]
    for entry, rule in zip(plan.rules, policy.rules, strict=True):
        if _impossible(rule.when):
            yield entry.fault(f"rule '{rule.id}' can never match: its conditions exclude each other", "when")
        elif policy.default == SHORTHANDS[ONPREM] and _names_outsiders(rule):
            yield entry.fault(
                f"rule '{rule.id}' lets nothing out: the default is onprem and rules only narrow it; "
                "write defaults: {outcome: cloud} and rules for what must stay",
                "outcome",
            )
        elif (stricter := next((other for other in lasting if _shadows(other, rule)), None)) is not None:
            yield entry.fault(
                f"rule '{rule.id}' changes nothing: rule '{stricter.id}' matches whenever it does and is at least as strict"
            )


def _names_outsiders(rule: Rule) -> bool:
    recipients = rule.outcome.recipients
    return recipients is None or bool(recipients - {ONPREM})


def _exception_faults(plan: Draft, policy: Policy, now_us: int) -> Iterator[Fault]:
    for entry, waiver in zip(plan.exceptions, policy.exceptions, strict=True):
        if micros(waiver.expires) <= now_us:
            yield entry.fault(f"exception '{waiver.id}' has expired; remove it, or have it approved anew", "expires")


def _recipient_faults(plan: Draft, policy: Policy, now_us: int) -> Iterator[Fault]:
    by_id = {recipient.id: recipient for recipient in policy.recipients}
    for entry in plan.recipients:
        name = entry.value["id"]
        if name in policy.incomplete:
            missing = ", ".join(missing_of_recipient(entry.value))
            yield entry.fault(f"recipient '{name}' gets no route while it lacks {missing}; add it")
        elif micros(by_id[name].expires) <= now_us:
            yield entry.fault(f"recipient '{name}' has expired and gets no route; renew it or remove it", "expires")


def _impossible(condition: Condition) -> bool:
    """Whether no request can satisfy ``condition``, in the plain cases: one value asked to be two."""
    if isinstance(condition, Any_):
        return all(map(_impossible, condition.parts))
    if not isinstance(condition, All):
        return False
    parts = list(_flattened(condition))
    exact = (
        [part.tenants for part in parts if isinstance(part, TenantAmong)],
        [part.purposes for part in parts if isinstance(part, PurposeAmong)],
        [
            part.globs
            for part in parts
            if isinstance(part, ModelLike) and not any({"*", "?"} & set(g) for g in part.globs)
        ],
    )
    disjoint = any(sets and not functools.reduce(frozenset.intersection, sets) for sets in exact)
    return disjoint or any(map(_impossible, condition.parts))


def _flattened(condition: All) -> Iterator[Condition]:
    for part in condition.parts:
        if isinstance(part, All):
            yield from _flattened(part)
        else:
            yield part


def _shadows(other: Rule, rule: Rule) -> bool:
    """Whether ``rule`` changes nothing beside ``other``. A reference of its own is reason enough for a rule to stand."""
    if other is rule or rule.reference not in ("", other.reference):
        return False
    if not (implies(rule.when, other.when) and _as_strict(other, rule)):
        return False
    equal = implies(other.when, rule.when) and _as_strict(rule, other) and other.reference == rule.reference
    return not equal or other.id < rule.id


def _as_strict(other: Rule, rule: Rule) -> bool:
    allowed, others = rule.outcome.recipients, other.outcome.recipients
    narrower = allowed is None or (others is not None and others <= allowed)
    edits = all(
        name in other.outcome.edits and other.outcome.edits[name].strictness >= edit.strictness
        for name, edit in rule.outcome.edits.items()
    )
    return narrower and edits and rule.obligations <= other.obligations


def implies(stronger: Condition, weaker: Condition) -> bool:
    """Whether ``weaker`` surely holds whenever ``stronger`` does, judged by their form; False where that does not show."""
    if stronger == weaker or isinstance(weaker, Always):
        return True
    if isinstance(stronger, Any_):
        return all(implies(part, weaker) for part in stronger.parts)
    if isinstance(weaker, All):
        return all(implies(stronger, part) for part in weaker.parts)
    if isinstance(stronger, All) and any(implies(part, weaker) for part in stronger.parts):
        return True
    if isinstance(weaker, Any_):
        return any(implies(stronger, part) for part in weaker.parts)
    match stronger, weaker:
        case FindingPresent(), FindingPresent():
            at_least = stronger.min_count >= weaker.min_count and stronger.min_score >= weaker.min_score
            return at_least and stronger.types <= weaker.types
        case CategoryPresent(), CategoryPresent():
            return stronger.categories <= weaker.categories
        case SensitivityAtLeast(), SensitivityAtLeast():
            return stronger.level >= weaker.level
        case TenantAmong(), TenantAmong():
            return stronger.tenants <= weaker.tenants
        case ModelLike(), ModelLike():
            return stronger.globs <= weaker.globs or "*" in weaker.globs
        case KindPresent(), KindPresent():
            return stronger.kinds <= weaker.kinds
        case PurposeAmong(), PurposeAmong():
            return stronger.purposes <= weaker.purposes
        case SizeAtLeast(), SizeAtLeast():
            return stronger.size_bytes >= weaker.size_bytes
    return False
