"""What is wrong with a policy document, and where.

PolicyError (ConfigurationError)
└── faults: Fault(path, line, column, message) …      printed as ``file:line:column: message``
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import msgspec

from runtime.errors import ConfigurationError


class Fault(msgspec.Struct, frozen=True, order=True):
    """One fault in one document.

    Attributes:
        path: the document's file, as it was named by the caller.
        line, column: where, counted from 1; the column in Unicode code points.
        message: what is wrong and what to write instead.
    """

    path: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.message}"


class PolicyError(ConfigurationError):
    """A policy was refused whole; ``faults`` (at least one, in reading order) say why."""

    default_code = "policy_invalid"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("the policy is refused:\n" + "\n".join(map(str, faults)))
        self.faults = list(faults)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the nearest known word, or nothing."""
    candidates = sorted(known)
    folded = {candidate.casefold(): candidate for candidate in reversed(candidates)}
    near = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean '{folded[near[0]]}'?" if near else ""
