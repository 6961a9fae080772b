"""Text as detectors read it, and the way back to the text as it was written.

    original ──normalise──▶ Reading ──decode──▶ Reading …
        ▲                      │                   │
        └──────── locate ──────┴────── locate ─────┘

Detectors look at one spelling only: full-width and styled characters become plain ones (NFKC), look-alikes of other scripts
Latin, unusual spaces and dashes ``' '`` and ``'-'``, and invisible characters vanish. A reading keeps where each of its characters came from, so that a
finding always points into the original text, in Unicode code points.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable

from classifiers.confusables import LOOK_ALIKES

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63\uff0d"
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_INVISIBLE = (
    "\u00ad\u0300-\u036f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
# Blocks in which one character stands for several plain ones: ⑩, ⒈, ㏂, ﬁ, 🄀.
_COMPATIBILITY_BLOCKS = ((0x2100, 0x2200), (0x2460, 0x2500), (0x3200, 0x3400), (0xFB00, 0xFB07), (0x1F100, 0x1F200))
_REPLACEMENT = "\ufffd"


class _Table(dict[int, str]):
    """``str.translate`` table, filled as characters are met: one plain character for each code point."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if 0xD800 <= code <= 0xDFFF:
            plain = _REPLACEMENT
        else:
            folded = unicodedata.normalize("NFKC", character)
            plain = folded if len(folded) == 1 else character
            decimal = unicodedata.decimal(plain, None)
            plain = str(decimal) if decimal is not None else LOOK_ALIKES.get(ord(plain), plain)
        # The higher planes are large: a hostile text must not fill the table with what maps to itself.
        if code <= 0xFFFF or plain != character:
            self[code] = plain
        return plain


_TABLE = _Table({**dict.fromkeys(map(ord, _DASHES), "-"), **dict.fromkeys(map(ord, _SPACES), " ")})


def _expansions() -> dict[str, str]:
    folded = (
        (chr(code), unicodedata.normalize("NFKC", chr(code)))
        for first, last in _COMPATIBILITY_BLOCKS
        for code in range(first, last)
    )
    return {character: plain for character, plain in folded if len(plain) > 1 and plain.isascii()}


_EXPANSIONS = _expansions()
# What is neither ASCII nor common Chinese text; looking for it first is five times as fast as translating everything.
_UNPLAIN = re.compile(r"[^\x00-\x7f\u3001-\u3003\u3008-\u3011\u4e00-\u9fff]+")
_IRREGULAR = re.compile(f"[{_INVISIBLE}{''.join(_EXPANSIONS)}]")


class Reading:
    """One spelling of a text, tied to the spelling that it was made from.

    Attributes:
        text: what to scan.
        parent: the reading that this one was made from; None for one made from the original text.
        depth: how many decodings lie between this reading and the original.
        how: what made it, for explanations: ``""`` (as written), ``json``, ``base64`` …
    """

    __slots__ = ("_ends", "_starts", "depth", "how", "parent", "text")

    def __init__(
        self,
        text: str,
        *,
        parent: Reading | None = None,
        starts: array[int] | None = None,
        ends: array[int] | None = None,
        depth: int = 0,
        how: str = "",
    ) -> None:
        """``starts`` and ``ends`` give, for each character, its extent in the parent's text; None maps one to one."""
        self.text = text
        self.parent = parent
        self.depth = depth
        self.how = how
        self._starts = starts
        self._ends = ends

    def locate(self, start: int, end: int) -> tuple[int, int]:
        """The extent in the original text of this reading's characters ``start`` to ``end`` (exclusive, not empty)."""
        if self._starts is not None and self._ends is not None:
            # A decoding may rearrange its source, so the extremes need not stand at the ends.
            start, end = min(self._starts[start:end]), max(self._ends[start:end])
        return self.parent.locate(start, end) if self.parent is not None else (start, end)

    def respelt(self, text: str) -> Reading:
        """This reading with another text, character for character."""
        return Reading(text, parent=self.parent, starts=self._starts, ends=self._ends, depth=self.depth, how=self.how)


class ReadingBuilder:
    """Writes a reading piece by piece and keeps where each piece came from."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._starts = array("L")
        self._ends = array("L")

    def copied(self, text: str, start: int) -> None:
        """``text`` as it stands in the source from ``start`` on."""
        self._parts.append(text)
        self._starts.extend(range(start, start + len(text)))
        self._ends.extend(range(start + 1, start + len(text) + 1))

    def decoded(self, text: str, start: int, end: int) -> None:
        """``text``, every character of which points at the source's whole extent ``start`` to ``end``."""
        self._parts.append(text)
        self._starts.extend([start] * len(text))
        self._ends.extend([end] * len(text))

    def reading(self, *, parent: Reading | None, depth: int = 0, how: str = "") -> Reading:
        return Reading("".join(self._parts), parent=parent, starts=self._starts, ends=self._ends, depth=depth, how=how)


def normalise(reading: Reading) -> Reading:
    """The normal spelling of a reading; never raises. Lone surrogates become U+FFFD, so that it encodes to UTF-8."""
    if reading.text.isascii():
        return reading
    unplain = "".join(_UNPLAIN.findall(reading.text))
    if not unplain:
        return reading
    text = _UNPLAIN.sub(lambda found: found[0].translate(_TABLE), reading.text)
    if _IRREGULAR.search(unplain) is None:
        return reading.respelt(text)
    return substitute(
        reading.respelt(text),
        _IRREGULAR,
        lambda found: _EXPANSIONS.get(found, ""),
        depth=reading.depth,
        how=reading.how,
    )


def substitute(
    parent: Reading, pattern: re.Pattern[str], decode: Callable[[str], str], *, depth: int, how: str
) -> Reading:
    """A reading of ``parent`` in which each match of ``pattern`` is replaced by its decoding; ``decode`` must not raise."""
    builder = ReadingBuilder()
    position = 0
    for found in pattern.finditer(parent.text):
        start, end = found.span()
        builder.copied(parent.text[position:start], position)
        builder.decoded(decode(found[0]), start, end)
        position = end
    builder.copied(parent.text[position:], position)
    return builder.reading(parent=parent, depth=depth, how=how)
