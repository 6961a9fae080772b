"""The language's JSON Schema (2020-12), and faults that say what to write instead.

``policy.schema.json`` beside this file is this schema, published for editors; ``python -m policies.schema`` writes it.
What the schema cannot say (unknown names, limits between fields) stands in ``policies/references.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator, FormatChecker

from classifiers.label import Segment, Sensitivity
from policies.decision import Edit, Route
from policies.document import Document, Pointer
from policies.faults import Fault, did_you_mean
from policies.model import SHORTHANDS, instant

PUBLISHED: Final = Path(__file__).with_name("policy.schema.json")
_SENSITIVITIES = [level.word for level in Sensitivity]

Schema = dict[str, Any]


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "minLength": 1, "description": description, **more}


def _object(description: str, properties: Schema, *required: str, **more: Any) -> Schema:
    closed = {"type": "object", "description": description, "properties": properties, "additionalProperties": False}
    return closed | ({"required": list(required)} if required else {}) | more


def _list(description: str, items: Schema, **more: Any) -> Schema:
    return {"type": "array", "description": description, "items": items, "minItems": 1, **more}


def _words(description: str, item: Schema) -> Schema:
    """One word, or a list of different words."""
    several = {"items": item, "minItems": 1, "uniqueItems": True}
    return {
        "type": ["string", "array"],
        "description": description,
        "if": {"type": "string"},
        "then": item,
        "else": several,
    }


_ID = _text("lower-case letters, digits, '.', '_' and '-'", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
_ENTITY = _text("an entity type, in capitals, such as CN_RESIDENT_ID", pattern=r"^[A-Z][A-Z0-9_]*$")
_CATEGORY = _text("a category, such as phi", pattern=r"^[a-z][a-z0-9_]*$")
_SENSITIVITY: Schema = {"type": "string", "enum": _SENSITIVITIES}
_MOMENT = _text(
    "a date (00:00 UTC of that day) or a time with its offset, such as 2026-06-30T18:00:00+08:00", format="moment"
)
_GLOB = _text(
    "a model's name; '*' stands for any characters and '?' for one, nothing else is special", pattern=r"^[^\[\]]+$"
)

_FINDING = _object(
    "Findings of these types: at least `min_count` of them, each with at least `min_score`.",
    {
        "type": _ENTITY,
        "types": _list("entity types, any of which counts", _ENTITY, uniqueItems=True),
        "min_count": {"type": "integer", "minimum": 1, "default": 1},
        "min_score": {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
    },
    oneOf=[{"required": ["type"]}, {"required": ["types"]}],
)

_CONDITION = _object(
    "One condition. Conditions are positive and lower bounds, so that more findings never loosen a decision.",
    {
        "all": _list("every one of these holds", {"$ref": "#/$defs/condition"}),
        "any": _list("at least one of these holds", {"$ref": "#/$defs/condition"}),
        "finding": _FINDING,
        "category": _words("the label has one of these categories", _CATEGORY),
        "sensitivity": _object("the label, joined with the caller's hint", {"at_least": _SENSITIVITY}, "at_least"),
        "tenant": _words("the caller is one of these tenants", _text("a tenant")),
        "model": _words("the model asked for is one of these", _GLOB),
        "kind": _words("a segment of one of these kinds is present", _text("a segment's kind, such as tool_arguments")),
        "purpose": _words("the caller states one of these purposes", _text("a purpose")),
        "size_at_least_bytes": {
            "type": "integer",
            "minimum": 0,
            "description": "the request's body is this long or longer",
        },
        "always": {"const": True, "description": "every request"},
    },
    minProperties=1,
    maxProperties=1,
)

_OUTCOME: Schema = {
    "description": "A route word, or recipients and edits in full. On-prem stays allowed unless the outcome is `reject`.",
    "type": ["string", "object"],
    "if": {"type": "string"},
    "then": {"enum": list(SHORTHANDS)},
    "else": {
        "properties": {
            "recipients": _list("those who may see the request; absent: every registered one", _ID, uniqueItems=True),
            "edits": {
                "type": "object",
                "description": "the edit each entity type needs before it crosses",
                "propertyNames": _ENTITY,
                "additionalProperties": {"type": "string", "enum": [edit.value for edit in Edit]},
                "minProperties": 1,
            },
        },
        "additionalProperties": False,
        "minProperties": 1,
    },
}

_RULE = _object(
    "What one kind of request may do. Rules only narrow; their order never matters.",
    {
        "id": _ID,
        "title": _text("what the rule says, in a sentence"),
        "reference": _text("the regulation or internal rule it comes from"),
        "remedy": _text("what a refused caller can do instead"),
        "when": {"$ref": "#/$defs/condition"},
        "outcome": _OUTCOME,
        "obligations": _list("what else must be done, by name", _ID, uniqueItems=True),
    },
    "id", "title", "when", "outcome",
)  # fmt: skip

_EXCEPTION = _object(
    "The only way down: for one tenant, for at most 30 days, one rule does not contribute.",
    {
        "id": _ID,
        "rule": _text("the id of the one rule"),
        "tenant": _text("the one tenant"),
        "approvers": _list("two different persons", _text("a person"), minItems=2, maxItems=2, uniqueItems=True),
        "reason": _text("why"),
        "from": _MOMENT,
        "expires": _MOMENT,
        "when": _object(
            "An upper bound on what was found.",
            {
                "findings": _object(
                    "Nothing outside these types was found.",
                    {"nothing_outside": _words("entity types", _ENTITY)},
                    "nothing_outside",
                )
            },
            "findings",
        ),
    },
    "id", "rule", "tenant", "approvers", "reason", "from", "expires", "when",
)  # fmt: skip

_RECIPIENT = _object(
    "A provider that may receive data. One that lacks a field, or has expired, is no route.",
    {
        "id": _ID,
        "legal_entity": _text("who receives the data"),
        "country": _text("ISO 3166-1 alpha-2, in capitals, such as CN", pattern="^[A-Z]{2}$"),
        "regions": _words("where it is processed", _text("a region")),
        "transfer_mechanism": _text("the ground on which data may go there, or a consent reference"),
        "retention_days": {"type": "integer", "minimum": 0, "description": "how long it keeps prompts and answers"},
        "training_use": {"type": "boolean", "description": "whether it may train on them"},
        "expires": _MOMENT,
    },
    "id",
)

_SEGMENT = _object(
    "One piece of a request.",
    {
        "pointer": {"type": "string", "description": "JSON pointer into the body"},
        "text": {"type": "string"},
        "role": {"type": "string"},
        "kind": {"type": "string"},
        "unscannable": _text("why silence means nothing, such as image"),
    },
)
assert set(_SEGMENT["properties"]) == set(Segment.__struct_fields__)

_TEST = _object(
    "A request in synthetic wording, and what must become of it.",
    {
        "name": _text("what the test shows"),
        "text": {"type": "string"},
        "segments": _list("several pieces", _SEGMENT),
        "tenant": _text("the caller's tenant", default="default"),
        "model": _text("the model asked for"),
        "purpose": _text("the purpose that the caller states"),
        "sensitivity": _SENSITIVITY | {"description": "the caller's hint"},
        "expect": _object(
            "What must come out.",
            {
                "sensitivity": _SENSITIVITY,
                "route": {"type": "string", "enum": [route.word for route in Route]},
                "rules": {
                    "type": "array",
                    "items": _text("a rule's id, or exception:<id>, or floor:unscanned"),
                    "uniqueItems": True,
                    "description": "exactly these rules fire",
                },
            },
            "route",
        ),
    },
    "name", "expect",
    oneOf=[{"required": ["text"]}, {"required": ["segments"]}],
)  # fmt: skip

SCHEMA: Final[Schema] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Watershed policy",
    "$defs": {"condition": _CONDITION},
    **_object(
        "A policy: one document, or several in a file or folder; `policy` stands once.",
        {
            "policy": _object(
                "What this policy is.",
                {
                    "name": _ID,
                    "version": _text("any text; put numbers in quotes"),
                    "description": _text("what it is for"),
                },
                "name", "version",
            ),
            "defaults": _object(
                "Where every decision starts; absent: onprem.",
                {"outcome": {"type": "string", "enum": ["onprem", "cloud"], "default": "onprem"}},
                "outcome",
            ),
            "rules": _list("rules", _RULE),
            "exceptions": _list("exceptions", _EXCEPTION),
            "recipients": _list("recipients", _RECIPIENT),
            "tests": _list("tests", _TEST),
        },
        minProperties=1,
    ),
}  # fmt: skip

_formats = FormatChecker(formats=())


@_formats.checks("moment", raises=ValueError)
def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or bool(instant(value))


_VALIDATOR = Draft202012Validator(SCHEMA, format_checker=_formats)

_NEGATIONS = frozenset({"not", "none", "no", "unless", "except", "absent", "without", "nothing_outside", "findings"})
_UPPER_BOUNDS = frozenset(
    {"max_count", "max_score", "at_most", "below", "less_than", "under", "size_at_most_bytes", "equals", "is"}
)
_FOUND: dict[type, str] = {
    dict: "keys and values", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number",
    type(None): "nothing",
}  # fmt: skip
_EXPECTED = {
    "object": "keys and values", "array": "a list", "string": "text", "boolean": "true or false", "number": "a number",
    "integer": "a whole number",
}  # fmt: skip
_PLAIN = {
    "const": "write true, or leave the condition out",
    "uniqueItems": "an entry stands here twice; keep one",
    "minLength": "empty text; write something or leave the key out",
    "minimum": "write {} or more",
    "maximum": "write {} or less",
}


class _Breach(msgspec.Struct, frozen=True):
    """One keyword of the schema that a value does not satisfy."""

    at: Pointer
    keyword: str
    value: Any
    rule: Any
    schema: Any


def schema_faults(document: Document) -> list[Fault]:
    """Where ``document`` does not fit the language, in reading order."""
    faults: set[Fault] = set()
    for error in _VALIDATOR.iter_errors(document.value):
        at = tuple(error.absolute_path)
        breach = _Breach(at, str(error.validator), error.instance, error.validator_value, error.schema)
        faults.update(_faults(document, breach))
    return sorted(faults)


def _faults(document: Document, breach: _Breach) -> Iterator[Fault]:
    at, value, rule = breach.at, breach.value, breach.rule
    match breach.keyword:
        case "additionalProperties":
            known = breach.schema["properties"]
            for key in value:
                if key not in known:
                    yield document.fault((*at, key), _unknown_key(at, key, known), at_key=True)
        case "required":
            for key in rule:
                if key not in value:
                    yield document.fault(at, f"'{key}' is missing; add it here")
        case "oneOf" if not isinstance(value, dict):
            return  # the type is the fault
        case "pattern" if at[-1:] == ("edits",):  # a name of a property, not a value
            yield document.fault((*at, value), _message(breach), at_key=True)
        case _:
            yield document.fault(at, _message(breach))


def _unknown_key(at: Pointer, key: str, known: Schema) -> str:
    if at[:1] == ("exceptions",) and "when" in at:
        return (
            f"'{key}' is refused in an exception: no caller-supplied field and no other condition loosens; "
            "write findings: {nothing_outside: [...]}"
        )
    if at[:1] == ("rules",) and "when" in at and key in _NEGATIONS:
        return f"'{key}' is refused: conditions in rules are positive, so that more findings never loosen; write an exception"
    if at[:1] == ("rules",) and "when" in at and key in _UPPER_BOUNDS:
        return (
            f"'{key}' is refused: conditions in rules are lower bounds, so that more findings never loosen; "
            "write at_least, min_count, min_score or size_at_least_bytes"
        )
    return f"unknown key '{key}'{did_you_mean(key, known) or '; write one of ' + ', '.join(known)}"


def _message(breach: _Breach) -> str:
    value, rule = breach.value, breach.rule
    match breach.keyword:
        case "type":
            expected = " or ".join(_EXPECTED[name] for name in ([rule] if isinstance(rule, str) else rule))
            quotes = "; put it in quotes" if "text" in expected and isinstance(value, bool | int | float) else ""
            return f"expected {expected}, found {_FOUND[type(value)]}{quotes}"
        case "enum":
            if breach.at[-1:] == ("outcome",) and value == Route.CLOUD_PSEUDONYMISED.word:
                return "write the edits in full instead: {edits: {ENTITY_TYPE: mask}}"
            return f"'{value}' is not one of {', '.join(rule)}{did_you_mean(str(value), rule)}"
        case "pattern" | "format":
            return f"'{value}' does not fit; write {breach.schema['description']}"
        case "oneOf":
            choices = " or ".join(f"'{choice['required'][0]}'" for choice in rule)
            return f"write either {choices}, and only one of them"
        case "maxProperties":
            return "several conditions in one place; list them under 'all' (every one) or 'any' (one is enough)"
        case "minProperties":
            return f"nothing here; write one of {', '.join(breach.schema.get('properties', ())) or 'ENTITY_TYPE: mask'}"
        case "minItems":
            return "an empty list; leave the key out" if rule == 1 else f"write {rule} entries"
        case "maxItems":
            return f"write {rule} entries, no more"
    return _PLAIN[breach.keyword].format(rule)


def render() -> str:
    """The published form."""
    return json.dumps(SCHEMA, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PUBLISHED.write_text(render(), encoding="utf-8")
