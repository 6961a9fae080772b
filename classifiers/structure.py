"""JSON inside text (tool-call arguments above all), read as lines of ``key: value``.

    {"patient": {"ssn": "\\u0035…"}}  ──▶  patient ssn: 5…

So that a field's name is context for its value, however deep it stands, and escapes are read as the receiver reads them.
Fragments count too: the text need not be one valid document, and what stands around it changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from classifiers.text import Reading, ReadingBuilder

PROBES = (r'"\s{0,8}:',)

# A string that never ends runs to the end of the text, so that no quote is tried twice and time stays linear.
_TOKEN = re.compile(
    r'"(?P<string>(?:[^"\\]|\\.)*+)(?:"(?P<key>\s{0,32}:)?|\\?\Z)|(?P<number>-?\d[\d.eE+-]*+)|(?P<bracket>[{}\[\]])',
    re.DOTALL,
)
_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|(["\\/bfnrt]))')
_PLAIN = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORD_BREAK = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_.\-]+")
# Without a number in it a value is told by its own words, except for secrets.
_DIGIT = re.compile(r"\d")
_SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|credential|密码|密碼|口令|密钥", re.IGNORECASE)
_KEYS_IN_CONTEXT = 2
_MAX_DEPTH = 128


def unescape(escape: str) -> str:
    r"""One JSON escape (``\u0031``, ``\/``, ``\n``) decoded; anything else comes back as it is."""
    found = _ESCAPE.fullmatch(escape)
    if found is None:
        return escape
    return chr(int(found[1], 16)) if found[1] else _PLAIN.get(found[2], found[2])


def read_json(parent: Reading, depth: int) -> Reading | None:
    """The ``key: value`` reading of the JSON in ``parent``, or None where there is no key with a value."""
    builder = ReadingBuilder()
    open_keys: list[str] = []
    key, key_extent = "", (0, 0)
    empty = True
    for found in _TOKEN.finditer(parent.text):
        kind = found.lastgroup
        if kind == "bracket":
            if found[0] in "{[":
                if len(open_keys) < _MAX_DEPTH:
                    open_keys.append(key)
            else:
                key = open_keys.pop() if open_keys else ""
        elif kind == "key":
            key, key_extent = _words(found["string"]), found.span("string")
        elif key:
            outer = [name for name in open_keys[-_KEYS_IN_CONTEXT:] if name and name != key]
            builder.decoded(" ".join([*outer[-1:], key]) + ": ", *key_extent)
            _write_value(builder, found[kind or 0], found.start(kind or 0))
            builder.decoded("\n", found.end(), found.end())
            empty = False
    return None if empty else builder.reading(parent=parent, depth=depth, how="json")


class Field(NamedTuple):
    """A value and what it is called.

    Attributes:
        name: as written; its extent in the source is ``extent``.
        value: as written, from ``start`` on in the source.
    """

    name: str
    extent: tuple[int, int]
    value: str
    start: int


def write_fields(fields: Iterable[Field], *, parent: Reading, depth: int, how: str) -> Reading | None:
    """A reading with a line ``name: value`` for each field that could say more so, or None where there is none."""
    builder = ReadingBuilder()
    empty = True
    for name, extent, value, start in fields:
        if value and (_DIGIT.search(value) or _SECRET_NAME.search(name)):
            builder.decoded(words(name) + ": ", *extent)
            builder.copied(value, start)
            builder.decoded("\n", start + len(value) - 1, start + len(value))
            empty = False
    return None if empty else builder.reading(parent=parent, depth=depth, how=how)


def words(name: str) -> str:
    """A field's name as words: ``customerSSN`` and ``customer_ssn`` are both ``customer ssn`` to a reader."""
    return _WORD_BREAK.sub(" ", name)


def _words(raw: str) -> str:
    return words(_ESCAPE.sub(lambda found: unescape(found[0]), raw) if "\\" in raw else raw)


def _write_value(builder: ReadingBuilder, raw: str, start: int) -> None:
    position = 0
    for found in _ESCAPE.finditer(raw):
        builder.copied(raw[position : found.start()], start + position)
        builder.decoded(unescape(found[0]), start + found.start(), start + found.end())
        position = found.end()
    builder.copied(raw[position:], start + position)
