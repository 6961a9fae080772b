"""The policy model: what a document means once it has been read. All values are frozen and without positions.

Policy ── rules ──▶ Rule(when: Condition, outcome: Outcome, obligations)
       ├─ exceptions ─▶ Waiver(rule, tenant, allowed types, from … expires)      the only way down
       └─ recipients ─▶ Recipient
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from classifiers.label import Segment, Sensitivity
from policies.decision import ONPREM, Edit

MAX_WAIVER_DAYS = 30


class Condition(msgspec.Struct, frozen=True, tag=True):
    """A positive statement about a request. More findings, categories, sensitivity or hints never make it false."""


class Always(Condition, frozen=True):
    pass


class All(Condition, frozen=True):
    parts: tuple[Condition, ...]


class Any_(Condition, frozen=True, tag="Any"):  # noqa: N801  `Any` is typing's
    parts: tuple[Condition, ...]


class FindingPresent(Condition, frozen=True):
    """At least ``min_count`` findings of these types, each of at least ``min_score``."""

    types: frozenset[str]
    min_count: int = 1
    min_score: float = 0.0


class CategoryPresent(Condition, frozen=True):
    categories: frozenset[str]


class SensitivityAtLeast(Condition, frozen=True):
    level: Sensitivity


class TenantAmong(Condition, frozen=True):
    tenants: frozenset[str]


class ModelLike(Condition, frozen=True):
    """Globs of ``*`` and ``?``, compared without case."""

    globs: frozenset[str]


class KindPresent(Condition, frozen=True):
    kinds: frozenset[str]


class PurposeAmong(Condition, frozen=True):
    """Compared without case."""

    purposes: frozenset[str]


class SizeAtLeast(Condition, frozen=True):
    size_bytes: int


class Outcome(msgspec.Struct, frozen=True):
    """What one matching rule allows.

    Attributes:
        recipients: those allowed; None is every registered one; empty is ``reject``.
        edits: the edit each entity type needs before it crosses.
    """

    recipients: frozenset[str] | None
    edits: Mapping[str, Edit] = {}


SHORTHANDS: Mapping[str, Outcome] = {
    "cloud": Outcome(None),
    "onprem": Outcome(frozenset({ONPREM})),
    "reject": Outcome(frozenset()),
}


class Rule(msgspec.Struct, frozen=True):
    id: str
    title: str
    when: Condition
    outcome: Outcome
    reference: str = ""
    remedy: str = ""
    obligations: frozenset[str] = frozenset()


class Waiver(msgspec.Struct, frozen=True):
    """An ``exception``: one rule does not contribute for one tenant while nothing but ``allowed`` types is found."""

    id: str
    rule: str
    tenant: str
    approvers: tuple[str, ...]
    reason: str
    starts: datetime.datetime
    expires: datetime.datetime
    allowed: frozenset[str]


class Recipient(msgspec.Struct, frozen=True):
    """Someone outside the on-prem zone who may see data.

    Attributes:
        id: the name by which rules and targets refer to it.
        legal_entity: who receives the data.
        country: ISO 3166-1 alpha-2.
        regions: where it is processed.
        transfer_mechanism: the ground on which data may go there, or a consent reference.
        retention_days: how long it keeps prompts and answers.
        training_use: whether it may train on them.
        expires: end of its registration (aware); from then on it is no route.
    """

    id: str
    legal_entity: str
    country: str
    regions: tuple[str, ...]
    transfer_mechanism: str
    retention_days: int
    training_use: bool
    expires: datetime.datetime


class Expectation(msgspec.Struct, frozen=True):
    """What a test expects: the route, and where given the sensitivity and exactly these rules."""

    route: str
    sensitivity: str | None = None
    rules: frozenset[str] | None = None


class TestCase(msgspec.Struct, frozen=True):
    __test__ = False  # not pytest's

    name: str
    segments: tuple[Segment, ...]
    expect: Expectation
    tenant: str = "default"
    model: str = ""
    purpose: str | None = None
    sensitivity: Sensitivity = Sensitivity.PUBLIC


class Policy(msgspec.Struct, frozen=True):
    """A whole policy.

    Attributes:
        default: the outcome where the meet starts.
        recipients: complete recipients.
        incomplete: ids of those that lack a field and so are no route.
    """

    name: str
    version: str
    description: str
    default: Outcome
    rules: tuple[Rule, ...]
    exceptions: tuple[Waiver, ...]
    recipients: tuple[Recipient, ...]
    incomplete: frozenset[str]


REQUIRED_OF_RECIPIENT = tuple(name for name in Recipient.__struct_fields__ if name != "id")


def instant(text: str) -> datetime.datetime:
    """A date (00:00 UTC of that day) or a time with its offset.

    Raises:
        ValueError: anything else.
    """
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        if len(text) != len("2026-01-31"):
            raise ValueError("a time needs its offset from UTC")
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment


def micros(moment: datetime.datetime) -> int:
    """Microseconds since the Unix epoch."""
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)


def words(value: Any) -> tuple[str, ...]:
    """One word or a list of them, as documents may write it."""
    return (value,) if isinstance(value, str) else tuple(value)


# The readers below take values that the schema has accepted.


def read_condition(value: Mapping[str, Any]) -> Condition:
    ((name, content),) = value.items()
    match name:
        case "always":
            return Always()
        case "all":
            return All(tuple(map(read_condition, content)))
        case "any":
            return Any_(tuple(map(read_condition, content)))
        case "finding":
            types = words(content.get("types", content.get("type")))
            return FindingPresent(frozenset(types), content.get("min_count", 1), float(content.get("min_score", 0)))
        case "category":
            return CategoryPresent(frozenset(words(content)))
        case "sensitivity":
            return SensitivityAtLeast(Sensitivity.parse(content["at_least"]))
        case "tenant":
            return TenantAmong(frozenset(words(content)))
        case "model":
            return ModelLike(frozenset(glob.casefold() for glob in words(content)))
        case "kind":
            return KindPresent(frozenset(words(content)))
        case "purpose":
            return PurposeAmong(frozenset(purpose.casefold() for purpose in words(content)))
        case "size_at_least_bytes":
            return SizeAtLeast(content)
    raise AssertionError(name)


def read_outcome(value: str | Mapping[str, Any]) -> Outcome:
    if isinstance(value, str):
        return SHORTHANDS[value]
    recipients = frozenset(value["recipients"]) | {ONPREM} if "recipients" in value else None
    return Outcome(recipients, {name: Edit(edit) for name, edit in sorted(value.get("edits", {}).items())})


def read_rule(value: Mapping[str, Any]) -> Rule:
    return Rule(
        id=value["id"],
        title=value["title"],
        when=read_condition(value["when"]),
        outcome=read_outcome(value["outcome"]),
        reference=value.get("reference", ""),
        remedy=value.get("remedy", ""),
        obligations=frozenset(value.get("obligations", ())),
    )


def read_waiver(value: Mapping[str, Any]) -> Waiver:
    return Waiver(
        id=value["id"],
        rule=value["rule"],
        tenant=value["tenant"],
        approvers=tuple(value["approvers"]),
        reason=value["reason"],
        starts=instant(value["from"]),
        expires=instant(value["expires"]),
        allowed=frozenset(words(value["when"]["findings"]["nothing_outside"])),
    )


def read_recipient(value: Mapping[str, Any]) -> Recipient | None:
    """None where a field is missing."""
    if missing_of_recipient(value):
        return None
    fields = {name: value[name] for name in Recipient.__struct_fields__}
    return Recipient(**fields | {"regions": words(value["regions"]), "expires": instant(value["expires"])})


def missing_of_recipient(value: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in REQUIRED_OF_RECIPIENT if name not in value)


def read_test(value: Mapping[str, Any]) -> TestCase:
    if "text" in value:
        segments: Iterable[Segment] = (Segment("", value["text"]),)
    else:
        segments = (Segment(**{"pointer": f"/{i}", "text": ""} | part) for i, part in enumerate(value["segments"]))
    expect = value["expect"]
    return TestCase(
        name=value["name"],
        segments=tuple(segments),
        expect=Expectation(
            expect["route"], expect.get("sensitivity"), frozenset(expect["rules"]) if "rules" in expect else None
        ),
        tenant=value.get("tenant", "default"),
        model=value.get("model", ""),
        purpose=value.get("purpose"),
        sensitivity=Sensitivity.parse(value.get("sensitivity", "public")),
    )
