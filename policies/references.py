"""From documents to one policy: every name it uses must exist, every id be its own, every exception keep its limits.

documents ──▶ Draft (values with their positions) ──▶ faults, or Policy
"""

from __future__ import annotations

import datetime
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from policies.decision import ONPREM
from policies.document import Document, Pointer
from policies.faults import Fault, did_you_mean
from policies.model import (
    MAX_WAIVER_DAYS,
    SHORTHANDS,
    Policy,
    Recipient,
    TestCase,
    instant,
    read_outcome,
    read_recipient,
    read_rule,
    read_test,
    read_waiver,
    words,
)
from policies.schema import schema_faults
from policies.vocabulary import Vocabulary

CREDENTIAL = "credential"
FLOOR_UNSCANNED = "floor:unscanned"
EXCEPTION_PREFIX = "exception:"

T = TypeVar("T")


class Entry(msgspec.Struct, frozen=True):
    """One rule, exception, recipient or test as it stands in its document."""

    document: Document
    pointer: Pointer
    value: Mapping[str, Any]

    def fault(self, message: str, *below: str | int, at_key: bool = False) -> Fault:
        return self.document.fault((*self.pointer, *below), message, at_key=at_key)


class Draft(msgspec.Struct, frozen=True):
    """Documents that fit the schema, by section."""

    headers: tuple[Entry, ...]
    defaults: tuple[Entry, ...]
    rules: tuple[Entry, ...]
    exceptions: tuple[Entry, ...]
    recipients: tuple[Entry, ...]
    tests: tuple[Entry, ...]


def draft(documents: Sequence[Document], path: str) -> tuple[Draft | None, list[Fault]]:
    """The documents as one draft, or the faults that stand in its way. ``path`` is the file or folder they came from."""
    faults = [fault for document in documents for fault in schema_faults(document)]
    if faults:
        return None, faults
    result = Draft(
        headers=tuple(_once(documents, "policy")),
        defaults=tuple(_once(documents, "defaults")),
        rules=tuple(_each(documents, "rules")),
        exceptions=tuple(_each(documents, "exceptions")),
        recipients=tuple(_each(documents, "recipients")),
        tests=tuple(_each(documents, "tests")),
    )
    if not result.headers:
        return None, [Fault(path, 1, 1, "no 'policy' here; write policy: {name: ..., version: ...} in one document")]
    doubled = [
        entry.fault(f"'{entry.pointer[0]}' stands in more than one document; keep one")
        for section in (result.headers, result.defaults)
        for entry in section[1:]
    ]
    return (None, doubled) if doubled else (result, [])


def _once(documents: Sequence[Document], section: str) -> Iterator[Entry]:
    for document in documents:
        if section in document.value:
            yield Entry(document, (section,), document.value[section])


def _each(documents: Sequence[Document], section: str) -> Iterator[Entry]:
    for document in documents:
        for index, value in enumerate(document.value.get(section, ())):
            yield Entry(document, (section, index), value)


def reference_faults(plan: Draft, vocabulary: Vocabulary, extra_recipients: Sequence[Recipient] = ()) -> list[Fault]:
    """Names that do not exist, ids that stand twice, and exceptions beyond their limits."""
    recipients = {ONPREM, *(entry.value["id"] for entry in plan.recipients), *(each.id for each in extra_recipients)}
    rules = {entry.value["id"] for entry in plan.rules}
    faults: list[Fault] = []
    for entries in (plan.rules, plan.exceptions, plan.recipients):
        faults += _doubled(entries)
    for entry in plan.rules:
        faults += _rule_faults(entry, vocabulary, recipients)
    for entry in plan.exceptions:
        faults += _exception_faults(entry, vocabulary, rules)
    for entry in plan.recipients:
        if entry.value["id"] == ONPREM:
            faults.append(entry.fault(f"'{ONPREM}' is the built-in recipient; choose another id", "id"))
    exceptions = {EXCEPTION_PREFIX + entry.value["id"] for entry in plan.exceptions}
    for entry in plan.tests:
        known = rules | exceptions | {FLOOR_UNSCANNED}
        for index, name in enumerate(entry.value["expect"].get("rules", ())):
            if name not in known:
                faults.append(entry.fault(_unknown("rule", name, known), "expect", "rules", index))
    return sorted(faults)


def _unknown(kind: str, name: str, known: set[str] | frozenset[str] | Mapping[str, object]) -> str:
    listed = f"; known: {', '.join(sorted(known))}" if len(known) <= 12 else ""
    return f"unknown {kind} '{name}'{did_you_mean(name, known) or listed}"


def _doubled(entries: Sequence[Entry]) -> Iterator[Fault]:
    seen: set[str] = set()
    for entry in entries:
        if entry.value["id"] in seen:
            yield entry.fault(f"the id '{entry.value['id']}' is taken; choose another", "id")
        seen.add(entry.value["id"])


def _rule_faults(entry: Entry, vocabulary: Vocabulary, recipients: set[str]) -> Iterator[Fault]:
    for name, content, at in _conditions(entry.value["when"], ("when",)):
        if name == "finding":
            key = "types" if "types" in content else "type"
            yield from _word_faults(entry, content[key], (*at, key), "entity type", vocabulary.entities)
        elif name == "category":
            yield from _word_faults(entry, content, at, "category", vocabulary.categories)
    outcome = entry.value["outcome"]
    if isinstance(outcome, str):
        return
    yield from _word_faults(entry, outcome.get("recipients", ()), ("outcome", "recipients"), "recipient", recipients)
    for name in outcome.get("edits", ()):
        if name not in vocabulary.entities:
            yield entry.fault(_unknown("entity type", name, vocabulary.entities), "outcome", "edits", name, at_key=True)


def _conditions(when: Mapping[str, Any], at: Pointer) -> Iterator[tuple[str, Any, Pointer]]:
    for name, content in when.items():
        if name in ("all", "any"):
            for index, part in enumerate(content):
                yield from _conditions(part, (*at, name, index))
        else:
            yield name, content, (*at, name)


def _word_faults(
    entry: Entry, value: Any, at: Pointer, kind: str, known: set[str] | frozenset[str] | Mapping[str, object]
) -> Iterator[Fault]:
    for index, word in enumerate(words(value)):
        if word not in known:
            yield entry.fault(_unknown(kind, word, known), *(at if isinstance(value, str) else (*at, index)))


def _exception_faults(entry: Entry, vocabulary: Vocabulary, rules: set[str]) -> Iterator[Fault]:
    value = entry.value
    if value["rule"] not in rules:
        yield entry.fault(_unknown("rule", value["rule"], rules), "rule")
    if len({_person(name) for name in value["approvers"]}) < 2:
        yield entry.fault("both approvers are the same person; an exception needs two", "approvers")
    starts, expires = instant(value["from"]), instant(value["expires"])
    if expires <= starts:
        yield entry.fault("expires before it begins; write a later date", "expires")
    elif expires - starts > datetime.timedelta(days=MAX_WAIVER_DAYS):
        yield entry.fault(f"runs over {MAX_WAIVER_DAYS} days after 'from'; write an earlier date", "expires")
    allowed = value["when"]["findings"]["nothing_outside"]
    at = ("when", "findings", "nothing_outside")
    yield from _word_faults(entry, allowed, at, "entity type", vocabulary.entities)
    for index, name in enumerate(words(allowed)):
        if name in vocabulary.entities and vocabulary.entities[name].category == CREDENTIAL:
            yield entry.fault(
                f"'{name}' is a credential; no exception covers those",
                *at,
                *(() if isinstance(allowed, str) else (index,)),
            )


def _person(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()


def policy_of(plan: Draft, extra_recipients: Sequence[Recipient] = ()) -> Policy:
    """The policy that a draft without faults describes. A document's own recipient stands before an extra one's."""
    header = plan.headers[0].value
    known = {entry.value["id"] for entry in plan.recipients}
    read = {entry.value["id"]: read_recipient(entry.value) for entry in plan.recipients}
    complete = [recipient for recipient in read.values() if recipient is not None]
    return Policy(
        name=header["name"],
        version=header["version"],
        description=header.get("description", ""),
        default=read_outcome(plan.defaults[0].value["outcome"]) if plan.defaults else SHORTHANDS[ONPREM],
        rules=tuple(read_rule(entry.value) for entry in plan.rules),
        exceptions=tuple(read_waiver(entry.value) for entry in plan.exceptions),
        recipients=(*complete, *(each for each in extra_recipients if each.id not in known)),
        incomplete=frozenset(name for name, recipient in read.items() if recipient is None),
    )


def read_tests(plan: Draft) -> tuple[tuple[TestCase, Entry], ...]:
    """The draft's tests, each with its place."""
    return tuple((read_test(entry.value), entry) for entry in plan.tests)
