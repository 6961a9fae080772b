"""Tables inside text, read as lines of ``column: value``: CSV, TSV and the like with a header row, Markdown tables.

    ssn,name          ──▶  ssn: 536904399
    536904399,Roe

So that a column's name is context for every value below it, however many rows down. A table may stand anywhere in the text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from classifiers.structure import Field, write_fields
from classifiers.text import Reading

PROBES = (
    # A number beside a delimiter, a column that is named for a secret, Markdown's rule below a header.
    r"[0-9]{3}[0-9A-Za-z \-]{0,12}[\"']?[ ]{0,2}[,;|\t]",
    r"[,;|\t][ ]{0,2}[\"']?[0-9A-Za-z+()\- ]{0,16}[0-9]{3}",
    r"(?i)(?:passw|pwd|secret|token|api.?key)[\w ]{0,12}[\"']?[ ]{0,2}(?:[,;|\t]|\r?\n)",
    "(?:密码|口令)[\"']?[ ]{0,2}(?:[,;|\t]|\r?\n)",
    r"\|[ ]{0,8}:?-{3}",
)

_DELIMITERS = ("\t", "|", ",", ";")
_MAX_COLUMNS = 256
_MAX_NAME_CHARACTERS = 40
_LINE = re.compile(r"^[^\n]*$", re.MULTILINE)
_RULE = re.compile(r"[\s|:\-]*-[\s|:\-]*")
_NO_NAME = re.compile(r"\d{4}|[.?!:。]$")

Cell = tuple[str, int]
"""A cell's text and where it starts in the source."""


def read_tables(parent: Reading, depth: int) -> Reading | None:
    """The ``column: value`` reading of the tables in ``parent``, or None where there is none."""
    if "\n" not in parent.text:
        return None
    return write_fields(_fields(parent.text), parent=parent, depth=depth, how="table")


def _fields(text: str) -> Iterator[Field]:
    lines = _LINE.finditer(text)
    previous = next(lines, None)
    columns: list[Cell] = []
    delimiter = ""
    second = False
    for line in lines:
        row = _cells(line, delimiter) if columns else []
        if len(row) < 2:
            delimiter, columns = _header(previous, line) if previous is not None else ("", [])
            row = _cells(line, delimiter) if columns else []
            second = True
        previous = line
        if row and not _RULE.fullmatch(line[0]):
            for (name, at), (value, start) in zip(columns, row, strict=False):
                yield Field(name, (at, at + 1), value, start)
            if second and _are_names(row) and not any(map(str.isdigit, line[0])):
                # The first line may have been a sentence above the header: both name the columns.
                columns = [(f"{name} {cell[0]}", cell[1]) for (name, _), cell in zip(columns, row, strict=False)]
        second = False


def _header(first: re.Match[str], second: re.Match[str]) -> tuple[str, list[Cell]]:
    """The delimiter and the columns' names where two lines begin a table; nothing where they do not."""
    for delimiter in _DELIMITERS:
        if delimiter in first[0] and delimiter in second[0]:
            names = _cells(first, delimiter)
            if len(names) == len(_cells(second, delimiter)) and _are_names(names):
                return delimiter, names
    return "", []


def _are_names(cells: list[Cell]) -> bool:
    named = [name for name, _ in cells if name]
    return len(named) > 1 and all(len(name) <= _MAX_NAME_CHARACTERS and not _NO_NAME.search(name) for name in named)


def _cells(line: re.Match[str], delimiter: str) -> list[Cell]:
    """A row's cells without quotes and outer spaces; Markdown's outer bars enclose no cell."""
    start = line.start()
    text = line[0]
    if delimiter == "|":
        stripped = text.strip(" \t\r|")
        start += text.find(stripped)
        text = stripped
    cells: list[Cell] = []
    for found in _cell_pattern(delimiter).finditer(text):
        group = "quoted" if found["quoted"] is not None else "plain"
        value = found[group]
        cells.append((value.strip(), start + found.start(group) + len(value) - len(value.lstrip())))
        if len(cells) == _MAX_COLUMNS or not found["more"]:
            break
    return cells


@functools.cache
def _cell_pattern(delimiter: str) -> re.Pattern[str]:
    mark = re.escape(delimiter)
    quoted = r"[ \t]*+\"(?P<quoted>(?:[^\"]|\"\")*+)\"[ \t\r]*+" if delimiter != "\t" else r'"(?P<quoted>[^"]*+)"\r?'
    return re.compile(rf"(?:{quoted}(?={mark}|$)|(?P<plain>[^{mark}]*+))(?P<more>{mark})?")
