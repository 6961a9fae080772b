"""YAML text ──▶ plain values, with the line and column of every key and value.

One reading only: scalars by YAML 1.2's core schema (``no`` and ``on`` are words, dates stay text), duplicate keys, tags
and merge keys refused, aliases expanded within bounds, nothing ever constructed but dict, list, str, int, float, bool, None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import yaml

from policies.faults import Fault, PolicyError

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
MAX_DEPTH = 32
MAX_ALIASES = 256

Pointer = tuple[str | int, ...]
Mark = tuple[int, int]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CORE: Mapping[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


class Document(msgspec.Struct, frozen=True):
    """One YAML document.

    Attributes:
        path: its file, as named by the caller.
        value: the document as plain values.
        marks: line and column, from 1, of the value at each path.
        key_marks: the same of the key that a path ends in.
    """

    path: str
    value: Any
    marks: Mapping[Pointer, Mark]
    key_marks: Mapping[Pointer, Mark]

    def fault(self, pointer: Pointer, message: str, *, at_key: bool = False) -> Fault:
        """A fault at the value (or key) of ``pointer``, or at the nearest value around it."""
        marks = self.key_marks if at_key and pointer in self.key_marks else self.marks
        while pointer not in marks:
            pointer, marks = pointer[:-1], self.marks
        return Fault(self.path, *marks[pointer], message)


def parse(text: bytes, path: str) -> list[Document]:
    """The documents of one file; those without content are left out.

    Raises:
        PolicyError: not UTF-8, over ``MAX_BYTES``, not YAML, or more than plain values.
    """
    if len(text) > MAX_BYTES:
        raise PolicyError([Fault(path, 1, 1, f"the document is over {MAX_BYTES} bytes; split it into several files")])
    try:
        source = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = text[: error.start].decode("utf-8")
        raise PolicyError([Fault(path, *_position(before), "not UTF-8; save the file as UTF-8")]) from None
    try:
        return list(_Reader(source, path).documents())
    except yaml.reader.ReaderError as error:
        position = _position(source[: error.position])
        raise PolicyError([Fault(path, *position, "a control character; remove it")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise PolicyError([Fault(path, line, column, f"not YAML: {error.problem or error.context}")]) from None


def _position(before: str) -> Mark:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


class _Reader:
    """Builds values from the parser's events, which never recurse, so that depth and size are checked as they come."""

    def __init__(self, source: str, path: str) -> None:
        self._path = path
        self._events: Iterator[Any] = iter(yaml.parse(source, Loader=_Loader))
        self._nodes = 0
        self._aliases = 0

    def documents(self) -> Iterator[Document]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                builder = _Builder(self._refuse, self._count)
                value = builder.value(self._collect(next(self._events), 0, {}), ())
                if value is not None:
                    yield Document(self._path, value, builder.marks, builder.key_marks)

    def _refuse(self, event: Any, message: str) -> PolicyError:
        return PolicyError([Fault(self._path, event.start_mark.line + 1, event.start_mark.column + 1, message)])

    def _count(self, event: Any) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._refuse(event, f"more than {MAX_NODES} values, aliases expanded; split the policy")

    def _collect(self, event: Any, depth: int, anchors: dict[str, _Node]) -> _Node:
        if depth > MAX_DEPTH:
            raise self._refuse(event, f"nested deeper than {MAX_DEPTH}")
        if isinstance(event, yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                raise self._refuse(event, f"more than {MAX_ALIASES} aliases; write the values out")
            if event.anchor not in anchors:  # unknown, or the alias stands inside its own anchor
                raise self._refuse(event, f"the alias '*{event.anchor}' names no finished anchor")
            return anchors[event.anchor]
        if event.tag not in (None, "!"):
            raise self._refuse(event, f"the tag '{event.tag}' is refused; write a plain value")
        node = _Node(event)
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            end = yaml.MappingEndEvent if isinstance(event, yaml.MappingStartEvent) else yaml.SequenceEndEvent
            while not isinstance(child := next(self._events), end):
                node.children.append(self._collect(child, depth + 1, anchors))
        if event.anchor is not None:
            anchors[event.anchor] = node
        return node


class _Node:
    __slots__ = ("children", "event")

    def __init__(self, event: Any) -> None:
        self.event = event
        self.children: list[_Node] = []


class _Builder:
    def __init__(self, refuse: Callable[[Any, str], PolicyError], count: Callable[[Any], None]) -> None:
        self._refuse = refuse
        self._count = count
        self.marks: dict[Pointer, Mark] = {}
        self.key_marks: dict[Pointer, Mark] = {}

    def value(self, node: _Node, pointer: Pointer) -> Any:
        event = node.event
        self._count(event)
        if len(pointer) > MAX_DEPTH:  # aliases can nest deeper than the text does
            raise self._refuse(event, f"nested deeper than {MAX_DEPTH}")
        self.marks[pointer] = (event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.ScalarEvent):
            plain = event.implicit[0] and event.tag is None  # not quoted, not marked as text by "!"
            return _scalar(event.value) if plain else event.value
        if isinstance(event, yaml.SequenceStartEvent):
            return [self.value(child, (*pointer, index)) for index, child in enumerate(node.children)]
        result: dict[str, Any] = {}
        for key_node, child in zip(node.children[::2], node.children[1::2], strict=True):
            key = self._key(key_node)
            if key in result:
                raise self._refuse(key_node.event, f"the key '{key}' stands here twice; keep one")
            at = (*pointer, key)
            self.key_marks[at] = (key_node.event.start_mark.line + 1, key_node.event.start_mark.column + 1)
            result[key] = self.value(child, at)
        return result

    def _key(self, node: _Node) -> str:
        key = node.event
        if not isinstance(key, yaml.ScalarEvent) or (key.implicit[0] and not isinstance(_scalar(key.value), str)):
            raise self._refuse(key, "a key must be a word; put it in quotes")
        return str(key.value)


def _scalar(text: str) -> Any:
    if text in _CORE:
        return _CORE[text]
    if _INT.fullmatch(text) and len(text) <= 18:
        return int(text)
    if _FLOAT.fullmatch(text) and len(text) <= 32:
        return float(text)
    return text
