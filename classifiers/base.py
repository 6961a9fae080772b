"""What a detector is, and the two ways to write one.

    prefilters ──(one scan for all detectors)──▶ hits ──▶ windows ──▶ Detector.find ──▶ Match …
                                                                      pattern · check · context

A detector is one small class in a family file, registered by ``@register``. It carries its source, its context words, and
its own examples and near-misses, which one test runs for all.
"""

from __future__ import annotations

import abc
import enum
import functools
import importlib
import re
from collections.abc import Iterator
from typing import ClassVar, Protocol, TypeVar

import msgspec

from classifiers.label import Sensitivity

CONTEXT_BEFORE, CONTEXT_AFTER = 60, 24
"""How far around a value context words count, in code points."""

_DECOY_SCORE = 0.3
_FAILED_SCORE = 0.2


class Entity(msgspec.Struct, frozen=True):
    """A type of thing that can be found, and what finding one means in the neutral profile.

    Attributes:
        entity_type: upper-case name, such as ``CN_RESIDENT_ID``.
        category: ``pii``, ``phi``, ``pci``, ``credential``, ``financial``, ``legal``, ``corporate`` …
        sensitivity: what one counted finding makes of the text.
        title: what it is, for people.
        threshold: the least score at which a finding counts.
    """

    entity_type: str
    category: str
    sensitivity: Sensitivity
    title: str
    threshold: float = 0.5


class Verdict(enum.Enum):
    """What checking a value by itself says."""

    VALID = "valid"
    """A checksum or a structure holds."""
    UNCHECKED = "unchecked"
    """There is nothing to check beyond the shape."""
    FAILED = "failed"
    """The checksum fails: counts in context only (people mistype, and test data is invented)."""
    PLACEHOLDER = "placeholder"
    """A documented example, a mask or a template: nothing."""


class Match(msgspec.Struct, frozen=True):
    """What one detector saw: extent in the text it was given, and why it believes it.

    Attributes:
        raw_score, score: before and after context.
        context: the context words that counted.
        validation: a ``Verdict``'s value, or ``decoy`` where the words around say that it is something else.
    """

    entity_type: str
    start: int
    end: int
    score: float
    raw_score: float
    context: tuple[str, ...]
    validation: str


class Detector(abc.ABC):
    """Base of all detectors. Instances are immutable once ``prepare`` has run, and are used by many threads.

    Attributes:
        name: unique; stands in findings.
        source: standard or specification that defines the value.
        entities: the entity types it can report.
        prefilters: Hyperscan expressions, of which one must match (end) near every value.
        reach: how many code points before and after the end of such a match a value can extend.
        examples: texts with each value marked, ``⟦like this⟧``, and found exactly.
        near_misses: texts in which nothing of the detector's types counts.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    entities: ClassVar[tuple[Entity, ...]]
    prefilters: ClassVar[tuple[str, ...]]
    reach: ClassVar[tuple[int, int]] = (64, 64)
    examples: ClassVar[tuple[str, ...]] = ()
    near_misses: ClassVar[tuple[str, ...]] = ()

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Compile and import what ``find`` needs, once, before the first text."""

    def fingerprint(self) -> tuple[str, ...]:
        """What identifies the detector's behaviour, for the classifier's version."""
        return (self.name, *self.prefilters)

    @abc.abstractmethod
    def find(self, text: str, start: int, end: int) -> Iterator[Match]:
        """Matches that begin in ``text[start:end]``; what stands outside may be read as context.

        Takes time linear in ``end - start``. May raise anything: the cascade then fails closed.
        """


class PatternDetector(Detector):
    """A detector of one entity type: a regular expression, a check of the value, and words around it.

    Attributes:
        expression: ``re`` expression; its group ``v``, where it took part, is the value. Bounded quantifiers only.
        words: context words. Latin ones match whole words, with any of space, ``_`` and ``-`` (or none) for a space.
        alone, in_context: scores of a value without and with context words; see ``score_alone``.
        failed_in_context: score in context of a value whose check fails; without context it does not count.
        heeds_decoys: whether "order number" and the like, right before the value, say that it is something else.
    """

    expression: ClassVar[str]
    words: ClassVar[tuple[str, ...]] = ()
    alone: ClassVar[float] = 0.85
    in_context: ClassVar[float] = 0.99
    failed_in_context: ClassVar[float] = 0.6
    heeds_decoys: ClassVar[bool] = False

    def prepare(self) -> None:
        _ = self.pattern, self.context

    def fingerprint(self) -> tuple[str, ...]:
        scores = (self.alone, self.in_context, self.failed_in_context)
        return (*super().fingerprint(), self.expression, *self.words, repr(scores), repr(self.heeds_decoys))

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(self.expression)

    @functools.cached_property
    def context(self) -> re.Pattern[str] | None:
        return context_pattern(self.words) if self.words else None

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        """Judge a value by itself; ``found`` is the whole match."""
        return Verdict.UNCHECKED

    def score_alone(self, value: str) -> float:
        """The score of a value that is not wrong, without context: lower for shapes that many things have."""
        return self.alone

    def find(self, text: str, start: int, end: int) -> Iterator[Match]:
        named = "v" in self.pattern.groupindex
        for found in matches(self.pattern, text, start, end):
            group = "v" if named and found["v"] is not None else 0
            verdict = self.check(found[group], found)
            if verdict is not Verdict.PLACEHOLDER:
                yield self.weigh(text, *found.span(group), verdict)

    def weigh(self, text: str, start: int, end: int, verdict: Verdict) -> Match:
        """The match for a value at ``text[start:end]``, scored by its verdict and the words around it."""
        words, decoy = surroundings(text, start, end, self.context, heed_decoys=self.heeds_decoys)
        raw = _FAILED_SCORE if verdict is Verdict.FAILED else self.score_alone(text[start:end])
        if decoy:
            score = min(raw, _DECOY_SCORE)
        elif not words:
            score = raw
        else:
            score = self.failed_in_context if verdict is Verdict.FAILED else self.in_context
        validation = "decoy" if decoy else verdict.value
        return Match(self.entities[0].entity_type, start, end, score, raw, words, validation)


class ValidityCheck(Protocol):
    """The shape of ``stdnum``'s ``is_valid``."""

    def __call__(self, number: str) -> bool: ...


class NumberDetector(PatternDetector):
    """A number that ``python-stdnum`` can check.

    Attributes:
        stdnum: module below ``stdnum``, such as ``us.ssn``.
    """

    stdnum: ClassVar[str]
    heeds_decoys = True

    def prepare(self) -> None:
        super().prepare()
        _ = self.is_valid

    def fingerprint(self) -> tuple[str, ...]:
        return (*super().fingerprint(), self.stdnum)

    @functools.cached_property
    def is_valid(self) -> ValidityCheck:
        check: ValidityCheck = importlib.import_module(f"stdnum.{self.stdnum}").is_valid
        return check

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        return Verdict.VALID if self.is_valid(_SEPARATORS.sub("", value)) else Verdict.FAILED


_SEPARATORS = re.compile(r"[ .\-]")


def matches(pattern: re.Pattern[str], text: str, start: int, end: int) -> Iterator[re.Match[str]]:
    """Matches of ``pattern`` in a window of ``text``, none of them cut short by the window's end."""
    for found in pattern.finditer(text, start, end):
        if found.end() == end < len(text):
            whole = pattern.match(text, found.start(), min(len(text), end + 8192))
            if whole is not None:
                yield whole
        else:
            yield found


_LATIN = re.compile(r"[ -~]+")


def context_pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for all ``words``, case-insensitive, longest first."""

    def expression(word: str) -> str:
        if _LATIN.fullmatch(word) is None:
            return re.escape(word)
        body = r"[\s_-]?".join(re.escape(part) for part in word.split(" "))
        return f"(?<![a-z]){body}(?:s|es)?(?![a-z])"

    return re.compile("|".join(expression(word) for word in sorted(words, key=len, reverse=True)), re.IGNORECASE)


# Words which say that the number right behind them is no identifier of a person: "order number: …". Some do so alone, some
# only as a number's name. Between them and the number stand only words and marks that tie the two together, so that text
# elsewhere never hides a finding (law 1).
_DECOY = re.compile(
    r"(?:(?<![a-z])(?:order|tracking|invoice|shipment|waybill|parcel|timestamp|serial|sku|upc|ean|isbn|imei|uuid|epoch|unix\s?time"
    r"|barcode|batch|lot|purchase\s?order|part|model"
    r"|(?:trace|request|session|message|product|item|asset|build|transaction|confirmation|booking|ticket|case|receipt|reference|job)"
    r"[\s_\-]?(?:id|no|num|number|code))(?![a-z])"
    r"|订单|运单|快递|物流|单号|流水|时间戳|序列号|批次|批号|条码|货号|商品编号|工单|交易号|物料|参考号|发票)"
    r"(?:[\s_\-:=#.()\"']|(?<![a-z])(?:id|no|num|number|code|ref|is|was)(?![a-z])|号码|编号|单号|号|码|为|是){0,12}\Z",
    re.IGNORECASE,
)
# The end of a text, back to the last digit or the last mark that ends a clause: only there can a decoy stand, and looking
# no further keeps the search short.
_CLAUSE_REVERSED = re.compile(r"[^0-9\n,;!?。，；！？]{0,48}")


def surroundings(
    text: str, start: int, end: int, context: re.Pattern[str] | None, *, heed_decoys: bool
) -> tuple[tuple[str, ...], bool]:
    """The context words around a value, lower-cased, and whether a decoy word stands nearer before it than any of them."""
    before = text[max(0, start - CONTEXT_BEFORE) : start]
    words: list[str] = []
    nearest = -1
    if context is not None:
        for found in context.finditer(before):
            words.append(found[0].lower())
            nearest = found.end()
        after = text[end : end + CONTEXT_AFTER].partition("\n")[0]
        behind = [found[0].lower() for found in context.finditer(after)]
        words += behind
    else:
        behind = []
    if not heed_decoys or behind:
        return tuple(words), False
    clause = _CLAUSE_REVERSED.match(before[::-1])
    decoy = _DECOY.search(before, len(before) - clause.end()) if clause is not None else None
    if decoy is not None and decoy.start() >= nearest:
        return (), True
    return tuple(words), False


_registered: list[type[Detector]] = []

D = TypeVar("D", bound=type[Detector])


def register(detector: D) -> D:
    """Class decorator: makes a detector part of the registry. Raises ValueError for a name that is taken."""
    if any(other.name == detector.name for other in _registered):
        raise ValueError(f"detector {detector.name} is registered twice")
    _registered.append(detector)
    return detector


def registered() -> tuple[type[Detector], ...]:
    """The detectors registered so far, in order; ``classifiers.registry`` loads all families first."""
    return tuple(_registered)
