"""Settings and mark-up inside text, read as lines of ``name: value``: ``key=value``, YAML, XML and HTML.

    <patient><recordNo>7</recordNo></patient>  ──▶  patient record No: 7
    customerSSN=536904399                      ──▶  customer SSN: 536904399

Names are split into words, and a name that stands far above its values (a YAML list, a row of HTML headings) goes with each.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from classifiers.structure import Field, write_fields
from classifiers.text import Reading

LINE_PROBES = (
    # A name of several words; a name whose values stand on the lines below.
    r"[A-Za-z0-9][A-Z_.\-][A-Za-z0-9]{1,24}[\"'`*]{0,2}[ ]{0,2}[:=]",
    r":[ \t]{0,4}\r?\n[ \t]{0,16}[\- \t]",
)
MARKUP_PROBES = (r"=[ ]?[\"'][^\"'<>]{0,80}[\"'] ?/?>", "</")

_LINE = re.compile(
    r"^(?P<indent>[ \t>]{0,64})(?:[-*+][ ])?(?:export[ ])?[\"'`*]{0,2}(?P<key>[^\W\d][\w .\-/()]{0,47}?)[\"'`*]{0,2}[ \t]{0,4}"
    r"[:=][*]{0,2}[ \t]{0,4}(?P<value>[^\n]*+)$",
    re.MULTILINE,
)
_ITEM = re.compile(r"[ \t]{0,64}[-*+][ \t]{1,4}(?P<value>[^\n]+)")
_ANY_LINE = re.compile(r"[^\n]+")
_INLINE = re.compile(r"(?<![\w.\-])(?P<key>[^\W\d][\w.\-]{1,47})=(?P<quote>[\"']?)(?P<value>[^\s\"'&,;]++)")
_MAX_NESTING = 32


def read_lines(parent: Reading, depth: int) -> Reading | None:
    """The reading of ``key: value`` and ``key=value`` lines and of YAML in ``parent``, or None where nothing is gained."""
    return write_fields(_line_fields(parent.text), parent=parent, depth=depth, how="fields")


def _line_fields(text: str) -> Iterator[Field]:
    open_keys: list[tuple[int, str, tuple[int, int]]] = []
    for line in _ANY_LINE.finditer(text):
        found = _LINE.match(text, line.start(), line.end())
        if found is None:
            item = _ITEM.match(text, line.start(), line.end())
            if item is not None and open_keys:
                yield Field(open_keys[-1][1], open_keys[-1][2], item["value"].strip(), item.start("value"))
            elif item is None:
                open_keys.clear()
                yield from _inline_fields(text, *line.span())
            continue
        indent = len(found["indent"])
        while open_keys and open_keys[-1][0] >= indent:
            open_keys.pop()
        key, extent = found["key"], found.span("key")
        if not found["value"].strip():
            open_keys = [*open_keys[1 - _MAX_NESTING :], (indent, key, extent)]
            continue
        name = f"{open_keys[-1][1]} {key}" if open_keys else key
        yield Field(name, extent, found["value"].strip("\"'` \t\r"), _value_start(found))
        yield from _inline_fields(text, *found.span("value"))


def _value_start(found: re.Match[str]) -> int:
    value = found["value"]
    return found.start("value") + len(value) - len(value.lstrip("\"'` \t\r"))


def _inline_fields(text: str, start: int, end: int) -> Iterator[Field]:
    for found in _INLINE.finditer(text, start, end):
        yield Field(found["key"], found.span("key"), found["value"], found.start("value"))


_MARKUP = re.compile(r"<(?P<close>/)?(?P<tag>[^\W\d][\w:.\-]{0,63})(?P<attributes>[^<>]*+)>|(?P<text>[^<]+)|<")
_ATTRIBUTE = re.compile(
    r"(?P<name>[\w:.\-]{1,64})\s{0,4}=\s{0,4}(?:\"(?P<double>[^\"]*+)\"|'(?P<single>[^']*+)'|(?P<bare>[^\s\"'>]++))"
)
_NAMING_ATTRIBUTES = frozenset({"name", "key", "id", "label", "field", "property"})


def read_markup(parent: Reading, depth: int) -> Reading | None:
    """The reading of XML and HTML in ``parent``: elements, attributes and table columns, or None where nothing is gained."""
    return write_fields(_markup_fields(parent.text), parent=parent, depth=depth, how="markup")


def _markup_fields(text: str) -> Iterator[Field]:
    open_tags: list[str] = []
    columns: list[str] = []
    column = 0
    for found in _MARKUP.finditer(text):
        if found.lastgroup == "text":
            value = html.unescape(found["text"]).strip()
            tag = open_tags[-1] if open_tags else ""
            if tag.lower() == "th":
                columns.append(value)
            elif tag and value:
                name = columns[column] if tag.lower() == "td" and column < len(columns) else " ".join(open_tags[-2:])
                lead = len(found["text"]) - len(found["text"].lstrip())
                yield Field(name, (found.start(), found.start() + 1), found["text"].strip(), found.start() + lead)
        elif found["tag"]:
            tag = found["tag"]
            if tag.lower() in ("table", "thead"):
                columns = []
            if tag.lower() == "tr":
                column = 0
            if not found["close"]:
                label, fields = _attributes(text, found)
                yield from fields
                if not found["attributes"].endswith("/"):
                    open_tags = [*open_tags[1 - _MAX_NESTING :], label or tag]
            else:
                column += tag.lower() == "td"
                if open_tags:
                    open_tags.pop()


def _attributes(text: str, found: re.Match[str]) -> tuple[str, list[Field]]:
    """The name that an element's attributes give it, where one does, and their values as fields."""
    attributes = [
        (each["name"], each.span("name"), each[each.lastgroup or 0], each.start(each.lastgroup or 0))
        for each in _ATTRIBUTE.finditer(text, *found.span("attributes"))
    ]
    label = next((value for name, _, value, _ in attributes if name.lower() in _NAMING_ATTRIBUTES), "")
    fields = [
        Field(
            f"{label if name.lower() in ('value', 'content') and label else found['tag']} {name}", extent, value, start
        )
        for name, extent, value, start in attributes
    ]
    return label, fields
