"""What a wire format's file says of each field, and the walk that turns a body into segments by it.

    field table (chat.py) ──┐
    JSON value ─────────────┴─▶ walk ──▶ Segment, Segment, …

The table is data, so that the coverage ledger can be read off it and so that a field which nobody wrote down has one
treatment only: it is scanned, and unscannable all the same, and so the request stays.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from classifiers import Segment
from gateway.wire.pointer import child
from runtime.errors import InvalidRequestError

LONG_NUMBER = 100_000
"""Numbers from here on are scanned as text: an account number needs no quotes."""


class Treatment(enum.StrEnum):
    SCANNED = "scanned"
    REPLACED = "replaced"  # scanned, and replaced at the crossing (docs/threat-model.md, rules 3 and 5)
    UNSCANNABLE = "unscannable"  # the request stays on-prem
    REFUSED = "refused"  # 400 (docs/threat-model.md, rule 4)


class Text(msgspec.Struct, frozen=True):
    """A string; ``safe`` are values that say nothing and need no scan. Any other type in its place is walked freely."""

    kind: str = "text"
    treatment: Treatment = Treatment.SCANNED
    safe: frozenset[str] = frozenset()


class Free(msgspec.Struct, frozen=True):
    """Any JSON: every name, string and long number in it is scanned."""

    kind: str = "metadata"
    treatment: Treatment = Treatment.SCANNED


class Binary(msgspec.Struct, frozen=True):
    """Content no detector can read; ``check`` may refuse it."""

    reason: str
    check: Callable[[str, Any], None] | None = None
    treatment: Treatment = Treatment.UNSCANNABLE


class Refused(msgspec.Struct, frozen=True):
    """A field that this gateway will not carry; null counts as absent."""

    code: str
    message: str
    treatment: Treatment = Treatment.REFUSED


class Record(msgspec.Struct, frozen=True):
    """An object with known fields; any other is unscannable. ``role_from`` names the field that says who speaks."""

    fields: Mapping[str, Field]
    role_from: str | None = None


class Tagged(msgspec.Struct, frozen=True):
    """An object whose ``tag`` field says which record it is; ``otherwise`` refuses unknown tags (None: unscannable)."""

    tag: str
    records: Mapping[str, Record]
    otherwise: Refused | None = None


class Items(msgspec.Struct, frozen=True):
    """An array."""

    item: Field


class Either(msgspec.Struct, frozen=True):
    """A string, an array or an object, each with a treatment of its own."""

    text: Text | None = None
    items: Items | None = None
    record: Record | Tagged | None = None


Field = Text | Free | Binary | Refused | Record | Tagged | Items | Either

_UNKNOWN = Free(kind="unknown")


def walk(field: Field, value: Any, pointer: str, out: list[Segment], role: str = "", mark: str | None = None) -> None:
    """Append to ``out`` a segment for everything in ``value`` that could say something.

    Args:
        mark: why the text cannot be trusted to be all there is; None where it can.

    Raises:
        InvalidRequestError: a refused field is there.
    """
    if value is None:
        return
    if isinstance(field, Refused):
        raise InvalidRequestError(field.message, code=field.code, param=pointer)
    if value is True or value is False:
        return
    if isinstance(field, Either):
        walk(_alternative(field, value), value, pointer, out, role, mark)
    elif isinstance(field, Text):
        if isinstance(value, str):
            if value and value not in field.safe:
                out.append(Segment(pointer, value, role, field.kind, mark))
        elif type(value) in (int, float):
            _number(value, pointer, out, role, mark)
        else:
            _unknown(value, pointer, out, role)
    elif isinstance(field, Record):
        if not isinstance(value, dict):
            _unknown(value, pointer, out, role)
            return
        _record(field, value, pointer, out, role, mark)
    elif isinstance(field, Items):
        if not isinstance(value, list):
            _unknown(value, pointer, out, role)
            return
        for i, item in enumerate(value):
            walk(field.item, item, f"{pointer}/{i}", out, role, mark)
    elif isinstance(field, Tagged):
        _tagged(field, value, pointer, out, role, mark)
    elif isinstance(field, Binary):
        if field.check is not None:
            field.check(pointer, value)
        out.append(Segment(pointer, "", role, "binary", field.reason))
    else:
        _free(field, value, pointer, out, role, mark)


def _alternative(field: Either, value: Any) -> Field:
    if isinstance(value, str) and field.text is not None:
        return field.text
    if isinstance(value, list) and field.items is not None:
        return field.items
    if isinstance(value, dict) and field.record is not None:
        return field.record
    return Record({}) if isinstance(value, dict) else field.text or Items(Record({}))


def _record(
    record: Record, value: dict[str, Any], pointer: str, out: list[Segment], role: str, mark: str | None
) -> None:
    if record.role_from is not None:
        said = value.get(record.role_from)
        role = said if isinstance(said, str) else role
    fields = record.fields
    for name, item in value.items():
        known = fields.get(name)
        if known is None:
            out.append(Segment(pointer, name, role, "key", "unknown_field"))
            _unknown(item, child(pointer, name), out, role)
        else:
            walk(known, item, f"{pointer}/{name}", out, role, mark)


def _tagged(field: Tagged, value: Any, pointer: str, out: list[Segment], role: str, mark: str | None) -> None:
    tag = value.get(field.tag) if isinstance(value, dict) else None
    record = field.records.get(tag) if isinstance(tag, str) else None
    if record is not None:
        _record(record, value, pointer, out, role, mark)
    elif field.otherwise is not None:
        raise InvalidRequestError(field.otherwise.message, code=field.otherwise.code, param=f"{pointer}/{field.tag}")
    else:
        _unknown(value, pointer, out, role)


def _unknown(value: Any, pointer: str, out: list[Segment], role: str) -> None:
    out.append(Segment(pointer, "", role, "unknown", "unknown_field"))
    _free(_UNKNOWN, value, pointer, out, role, "unknown_field")


def _free(field: Free, value: Any, pointer: str, out: list[Segment], role: str, mark: str | None) -> None:
    if isinstance(value, str):
        if value:
            out.append(Segment(pointer, value, role, field.kind, mark))
    elif isinstance(value, dict):
        for name, item in value.items():
            out.append(Segment(pointer, name, role, "key", mark))
            _free(field, item, child(pointer, name), out, role, mark)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _free(field, item, f"{pointer}/{i}", out, role, mark)
    elif type(value) in (int, float):
        _number(value, pointer, out, role, mark)


def _number(value: float, pointer: str, out: list[Segment], role: str, mark: str | None) -> None:
    if abs(value) >= LONG_NUMBER or isinstance(value, float):
        text = repr(value)
        if len(text) > 5:
            out.append(Segment(pointer, text, role, "number", mark))
