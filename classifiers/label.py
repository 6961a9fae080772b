"""The classifiers' vocabulary: segments in; findings and one label out. All values are frozen.

Segment ──▶ detectors ──▶ Finding … ──▶ Label(sensitivity, categories, findings, …)
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Self

import msgspec


class Sensitivity(enum.IntEnum):
    """How far data may go, a total order (docs/architecture.md, vocabulary)."""

    PUBLIC = 0
    INTERNAL = 1
    CONFIDENTIAL = 2
    RESTRICTED = 3

    @property
    def word(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, word: str) -> Self:
        """Raises ValueError, without the word, for anything but the four."""
        try:
            return cls[word.upper()]
        except KeyError:
            raise ValueError("sensitivity must be one of public, internal, confidential, restricted") from None


class Segment(msgspec.Struct, frozen=True):
    """One piece of text in a request, and where it stands.

    Attributes:
        pointer: JSON pointer (RFC 6901) into the body.
        text: what to scan; empty for pure binary content.
        role: ``system``, ``user``, ``assistant``, ``tool`` … or empty outside messages.
        kind: ``text``, ``tool_definition``, ``tool_arguments``, ``tool_result``, ``schema``, ``name``, ``metadata``,
            ``key``, ``number``, ``control`` or ``binary``.
        unscannable: why a detector's silence would mean nothing (``image``, ``audio``, ``file``, ``unknown_field``);
            None where the text is all there is. Text of an unscannable segment is scanned all the same.
    """

    pointer: str
    text: str
    role: str = ""
    kind: str = "text"
    unscannable: str | None = None


class Finding(msgspec.Struct, frozen=True):
    """One thing found in one segment.

    Attributes:
        entity_type: upper-case name, such as ``CN_RESIDENT_ID``.
        start, end: offsets into the segment's original text, in Unicode code points, end exclusive.
        score: 0 … 1, how sure the detector is.
        detector: the detector's name.
        pointer: the segment's JSON pointer.
    """

    entity_type: str
    start: int
    end: int
    score: float
    detector: str
    pointer: str = ""


class Unscanned(msgspec.Struct, frozen=True):
    """A segment, or a detector's work on it, of which silence means nothing: the label becomes ``restricted``.

    Attributes:
        pointer: JSON pointer of the segment; empty for the request as a whole.
        reason: ``image``, ``audio``, ``file``, ``unknown_field``, ``detector_failed``, ``over_budget``, ``undecoded``,
            ``lineage_lost``, ``policy_lease_lost``.
    """

    pointer: str
    reason: str


class Label(msgspec.Struct, frozen=True):
    """What the classifier says of a request. Labels only ever join upwards (laws 1 and 5)."""

    sensitivity: Sensitivity = Sensitivity.PUBLIC
    categories: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = ()
    ran: frozenset[str] = frozenset()
    gated: frozenset[str] = frozenset()
    unscanned: tuple[Unscanned, ...] = ()
    unverified_language: bool = False
    classifier: str = ""

    def joined(
        self,
        *,
        sensitivity: Sensitivity = Sensitivity.PUBLIC,
        categories: Iterable[str] = (),
        unscanned: Iterable[Unscanned] = (),
    ) -> Label:
        """This label raised: the higher sensitivity, all categories; ``restricted`` where anything is unscanned."""
        extra = tuple(unscanned)
        raised = max(self.sensitivity, sensitivity, Sensitivity.RESTRICTED if extra else Sensitivity.PUBLIC)
        return msgspec.structs.replace(
            self,
            sensitivity=raised,
            categories=self.categories | frozenset(categories),
            unscanned=self.unscanned + extra,
        )
