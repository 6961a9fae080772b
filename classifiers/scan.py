"""One pass over a text for all expressions of all detectors and decoders, through Hyperscan.

    text ──UTF-8──▶ Hyperscan ──(pattern, end in bytes)──▶ ranges of ends ──▶ windows in code points, an owner

Hyperscan reports where a match ends. Starts are not asked for (they cost speed and limit the expressions); an owner says
how far around an end its values can reach, and looks there itself.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import cast

import hyperscan
import msgspec

_COALESCE_BYTES = 64
_CONTINUATION = bytes(range(0x80, 0xC0))

Window = tuple[int, int]


class Probe(msgspec.Struct, frozen=True):
    """What to look for on someone's behalf.

    Attributes:
        expressions: Hyperscan expressions; over bytes where they are ASCII, else over characters.
        before, after: code points around the end of a match that its window covers.
        once: the first match is enough; its window is the whole text.
    """

    expressions: tuple[str, ...]
    before: int = 64
    after: int = 64
    once: bool = False


class Scanner:
    """All probes in one Hyperscan database. Any number of threads may scan at once: each has its own scratch space."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        """Raises ``hyperscan.error`` where an expression does not compile."""
        self._probes = tuple(probes)
        expressions = [(owner, text) for owner, probe in enumerate(self._probes) for text in probe.expressions]
        self._owners = [owner for owner, _ in expressions]
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._database.compile(
            expressions=[text.encode() for _, text in expressions],
            ids=list(range(len(expressions))),
            elements=len(expressions),
            flags=[_flags(text, self._probes[owner]) for owner, text in expressions],
        )
        self._threads = threading.local()

    def scan(self, text: str) -> dict[int, list[Window]]:
        """Windows to look at, for each probe (by index) with a match: sorted, disjoint, in code points.

        ``text`` must encode to UTF-8. Raises ``hyperscan.error`` when the scan fails.
        """
        data = text.encode()
        scratch = getattr(self._threads, "scratch", None)
        if scratch is None:
            scratch = self._threads.scratch = hyperscan.Scratch(self._database)
        ends: dict[int, list[int]] = {}
        self._database.scan(data, match_event_handler=_collect, scratch=scratch, context=ends)
        return self._windows(text, data, ends) if ends else {}

    def _windows(self, text: str, data: bytes, ends: dict[int, list[int]]) -> dict[int, list[Window]]:
        to_character = _offsets(data, ends) if len(data) != len(text) else None
        windows: dict[int, list[Window]] = {}
        for pattern, bounds in ends.items():
            owner = self._owners[pattern]
            probe = self._probes[owner]
            if probe.once:
                windows[owner] = [(0, len(text))]
                continue
            places = bounds if to_character is None else [to_character[bound] for bound in bounds]
            windows.setdefault(owner, []).extend(
                (max(0, first - probe.before), min(len(text), last + probe.after))
                for first, last in zip(places[::2], places[1::2], strict=True)
            )
        return {owner: _merged(spans) for owner, spans in windows.items()}


def _flags(expression: str, probe: Probe) -> int:
    # UTF-8 mode makes every negated class a large automaton: only for expressions that name other characters.
    utf8 = 0 if expression.isascii() else hyperscan.HS_FLAG_UTF8
    return utf8 | (hyperscan.HS_FLAG_SINGLEMATCH if probe.once else 0)


def _collect(pattern: int, _start: int, end: int, _flags: int, context: object) -> None:
    """Keep ``first, last, first, last …`` ends for a pattern; near ones are one range, so that a hostile text costs no
    memory. Ends mostly come in order; one that does not begins a range of its own."""
    ends = cast("dict[int, list[int]]", context)
    bounds = ends.get(pattern)
    if bounds is None:
        ends[pattern] = [end, end]
    elif bounds[-2] <= end <= bounds[-1] + _COALESCE_BYTES:
        bounds[-1] = max(end, bounds[-1])
    else:
        bounds += (end, end)


def _offsets(data: bytes, ends: dict[int, list[int]]) -> dict[int, int]:
    """Code-point offsets of the given byte offsets, in one walk over ``data``."""
    offsets: dict[int, int] = {}
    position = characters = 0
    for end in sorted({end for bounds in ends.values() for end in bounds}):
        # An end can lie inside a character: it then counts as whole.
        characters += len(data[position:end].translate(None, _CONTINUATION))
        offsets[end] = characters
        position = end
    return offsets


def _merged(spans: list[Window]) -> list[Window]:
    if len(spans) == 1:
        return spans
    spans.sort()
    merged = [spans[0]]
    for start, end in spans[1:]:
        if start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
