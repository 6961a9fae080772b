"""The repository's Markdown files, and what the tests read from them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced code block; ``line`` is that of its fence, from 1."""

    path: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks(path: Path, language: str | None = None) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    found = [Block(path, text.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in _FENCE.finditer(text)]
    return [block for block in found if language is None or block.language == language]


def all_blocks(language: str) -> list[Block]:
    return [block for path in DOCUMENTS for block in blocks(path, language)]


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def inline_code(path: Path) -> Iterator[str]:
    return (found[1] for found in _INLINE.finditer(prose(path)))


def table(path: Path, start: str, end: str) -> list[list[str]]:
    """The rows of the table between two HTML comments, without its head; cells stripped."""
    text = path.read_text(encoding="utf-8")
    section = text.partition(f"<!-- {start}")[2].partition(f"<!-- {end} -->")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 2, f"{path.name} has no table '{start}'"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def code_words(cell: str) -> list[str]:
    """What stands in backquotes in a cell."""
    return _INLINE.findall(cell)
