"""JSON with one reading only (docs/threat-model.md, rule 9).

Two parsers that disagree over a body let one see what the other missed. So whatever RFC 8259 leaves open is refused:
duplicate names, a byte order mark, other charsets, NaN and Infinity, lone surrogates, trailing bytes, deep nesting.
"""

from __future__ import annotations

import json
import math
from typing import Any

from runtime.errors import InvalidRequestError

MAX_DEPTH = 64


def read_json(body: bytes) -> Any:
    """The value that ``body`` holds.

    Raises:
        InvalidRequestError: the body has no reading, or more than one; the code says which rule it breaks.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        raise InvalidRequestError("the body starts with a byte order mark: send plain UTF-8", code="byte_order_mark")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequestError("the body is not UTF-8", code="not_utf8") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(text)
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        position = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidRequestError(f"the body is not valid JSON{position}", code="invalid_json") from None
    if b"\\u" in body:
        _check_surrogates(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise InvalidRequestError("an object in the body has the same name twice", code="duplicate_name")
    return result


def _constant(_: str) -> Any:
    raise InvalidRequestError("NaN and Infinity are not JSON", code="invalid_json")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InvalidRequestError("a number in the body is out of range", code="number_out_of_range")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


def _too_deep() -> InvalidRequestError:
    return InvalidRequestError(f"the body nests deeper than {MAX_DEPTH} levels", code="nested_too_deep")


def _check_depth(text: str) -> None:
    """Count brackets outside strings, so that the parser never recurses into a hostile body."""
    depth = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep()
        elif char in "]}":
            depth -= 1


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidRequestError("a string in the body holds half a surrogate pair", code="lone_surrogate") from None


def write_json(value: Any) -> bytes:
    """Compact UTF-8 JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
