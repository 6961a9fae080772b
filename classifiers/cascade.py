"""The classifier: segments in, one label out.

    segment ──normalise──▶ reading ──one scan──▶ detectors with hits ──▶ matches ──locate──▶ overlaps ──▶ findings ─┐
                              ▲  └──▶ decoders with hits ──▶ reading, one level deeper ─┐                            ├▶ Label
                              └────────────────────────────────────────────────────────┘     next segment ───────────┘

It fails closed (law 2): a detector that raises, or work beyond the budget of thread CPU time, makes the label restricted.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from classifiers import language, registry
from classifiers.base import Detector, Entity, Match, Verdict
from classifiers.decode import DECODERS, MAX_DEPTH, PROOFS, Decoder
from classifiers.label import Finding, Label, Segment, Sensitivity, Unscanned
from classifiers.scan import Probe, Scanner, Window
from classifiers.structure import words
from classifiers.text import Reading, ReadingBuilder, normalise
from classifiers.tokens import UndecodedError

_NAMED_VALUES = frozenset({"metadata", "number"})


class Budget(msgspec.Struct, frozen=True):
    """Thread CPU time for one call: ``base_ms`` and ``per_kb_ms`` for each 1024 characters of text."""

    base_ms: float = 100.0
    per_kb_ms: float = 10.0

    def allowance_ns(self, characters: int) -> int:
        return int((self.base_ms + self.per_kb_ms * characters / 1024) * 1e6)


_STRIDE = 8192
_DEFAULT_BUDGET = Budget()


class Explanation(msgspec.Struct, frozen=True):
    """Why something was, or was not, found.

    Attributes:
        entity_type, start, end, score, detector: as in ``Finding``.
        source: the standard behind the detector.
        context: context words that counted.
        validation: ``valid``, ``unchecked``, ``failed`` or ``decoy``.
        raw_score: the score before context.
        reading: how the text was read: empty for as written, else the decoding.
        counted: whether the score reaches the entity's threshold, and a guessed reading is proved.
    """

    entity_type: str
    start: int
    end: int
    score: float
    detector: str
    source: str
    context: tuple[str, ...]
    validation: str
    raw_score: float
    reading: str
    counted: bool


class _Located(msgspec.Struct, frozen=True):
    """A match, where it stands in the original text."""

    match: Match
    entity: Entity
    detector: Detector
    start: int
    end: int
    reading: Reading

    @property
    def counted(self) -> bool:
        return self.match.score >= self.entity.threshold and self._proved

    @property
    def _proved(self) -> bool:
        proof = PROOFS.get(self.reading.how)
        if proof is None or self.match.context or self.entity.category == "credential":
            return True
        return self.match.validation == Verdict.VALID.value and self.match.raw_score >= proof


class _Pass:
    """The state of one call: what is spent, what ran, what could not be scanned, whether a language is unverified."""

    __slots__ = ("_clock", "_deadline_ns", "ran", "unscanned", "unverified")

    def __init__(self, clock: Callable[[], int], allowance_ns: int) -> None:
        self._clock = clock
        self._deadline_ns = clock() + allowance_ns
        self.ran: set[int] = set()
        self.unscanned: list[Unscanned] = []
        self.unverified = False

    def spent(self, pointer: str) -> bool:
        """Whether the budget is gone; if so the segment is marked."""
        if self._clock() <= self._deadline_ns:
            return False
        self.fail(pointer, "over_budget")
        return True

    def fail(self, pointer: str, reason: str) -> None:
        mark = Unscanned(pointer, reason)
        if mark not in self.unscanned[-4:]:
            self.unscanned.append(mark)


class Classifier:
    """Finds what is sensitive in text. One instance serves any number of threads.

    Attributes:
        version: ``sha256:`` and 16 hex digits over all that decides what is found.
    """

    version: str

    def __init__(
        self,
        *,
        detectors: Sequence[Detector] | None = None,
        budget: Budget = _DEFAULT_BUDGET,
        cpu_clock: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        """Takes some tenths of a second: compiles all patterns.

        Args:
            detectors: which to use; all registered ones by default. Their names must differ.
            budget: CPU time allowed per call.
            cpu_clock: CPU time of the calling thread in nanoseconds.

        Raises ``hyperscan.error`` or ``re.error`` where a detector's pattern does not compile.
        """
        self._detectors = tuple(registry.detectors() if detectors is None else detectors)
        self._budget = budget
        self._clock = cpu_clock
        for detector in self._detectors:
            detector.prepare()
        self._entities: Mapping[str, Entity] = {
            entity.entity_type: entity for detector in self._detectors for entity in detector.entities
        }
        probes = [Probe(detector.prefilters, *detector.reach) for detector in self._detectors]
        probes += [Probe(decoder.probes, once=True) for decoder in DECODERS]
        self._language = len(probes)
        self._scanner = Scanner([*probes, Probe(language.PROBES, once=True)])
        self._names = frozenset(detector.name for detector in self._detectors)
        self._parted = functools.lru_cache(maxsize=1024)(self._part)
        self.version = _version(self._detectors)

    def classify(self, segments: Sequence[Segment]) -> Label:
        """The label of a request's segments together. Never raises for any text."""
        work = _Pass(self._clock, self._budget.allowance_ns(sum(len(segment.text) for segment in segments)))
        findings: list[Finding] = []
        sensitivity = Sensitivity.PUBLIC
        categories: set[str] = set()
        for segment in segments:
            if segment.unscannable is not None:
                work.fail(segment.pointer, segment.unscannable)
            if not segment.text or work.spent(segment.pointer):
                continue
            for found in _resolved(self._examine(segment, work)):
                sensitivity = max(sensitivity, found.entity.sensitivity)
                categories.add(found.entity.category)
                findings.append(_finding(found, segment.pointer))
        ran, gated = self._parted(frozenset(work.ran))
        return Label(
            sensitivity=Sensitivity.RESTRICTED if work.unscanned else sensitivity,
            categories=frozenset(categories),
            findings=tuple(findings),
            ran=ran,
            gated=gated,
            unscanned=tuple(work.unscanned),
            unverified_language=work.unverified,
            classifier=self.version,
        )

    def classify_text(self, text: str) -> Label:
        """The label of one text, as a segment at pointer ``""``."""
        return self.classify((Segment("", text),))

    def explain(self, text: str) -> list[Explanation]:
        """What each detector saw in ``text`` and why it counts or does not, by position; overlaps are not resolved."""
        work = _Pass(self._clock, self._budget.allowance_ns(len(text)))
        seen = sorted(self._examine(Segment("", text), work), key=lambda found: (found.start, found.end))
        return [_explanation(found) for found in seen]

    def _examine(self, segment: Segment, work: _Pass) -> list[_Located]:
        located: list[_Located] = []
        readings = [_first_reading(segment)]
        seen: set[str] = set()
        while readings:
            reading = readings.pop(0)
            if reading.text in seen:
                continue
            seen.add(reading.text)
            try:
                hits = self._scanner.scan(reading.text)
                told = hits.pop(self._language, None) is not None
                if reading.how not in PROOFS and not work.unverified:
                    work.unverified = _is_unverified(reading.text if reading.depth else segment.text, told=told)
            except Exception:
                # Not one detector could look: their silence means nothing.
                work.fail(segment.pointer, "detector_failed")
                continue
            for owner, windows in hits.items():
                if work.spent(segment.pointer):
                    return located
                try:
                    if owner < len(self._detectors):
                        work.ran.add(owner)
                        located += self._found(self._detectors[owner], reading, windows, work, segment.pointer)
                    elif reading.how not in PROOFS:
                        readings += _decoded(DECODERS[owner - len(self._detectors)], reading)
                except UndecodedError:
                    work.fail(segment.pointer, "undecoded")
                except Exception:
                    work.fail(segment.pointer, "detector_failed")
        return located

    def _found(
        self, detector: Detector, reading: Reading, windows: Iterable[Window], work: _Pass, pointer: str
    ) -> Iterator[_Located]:
        """What ``detector`` finds in its windows, taken in strides so that the budget holds inside one detector too."""
        overlap = sum(detector.reach)
        for first, last in windows:
            found_to = first
            for begin in range(first, last, _STRIDE):
                if begin > first and work.spent(pointer):
                    return
                stop = min(last, begin + _STRIDE)
                # What introduces a value may stand before the stride, and the value may end after it.
                start, end = max(found_to, begin - overlap), min(last, stop + overlap)
                for match in detector.find(reading.text, start, end):
                    if match.start >= stop < last:
                        break
                    found_to = match.end
                    extent = reading.locate(match.start, match.end)
                    yield _Located(match, self._entities[match.entity_type], detector, *extent, reading)

    def _part(self, ran: frozenset[int]) -> tuple[frozenset[str], frozenset[str]]:
        names = frozenset(self._detectors[owner].name for owner in ran)
        return names, self._names - names


def _is_unverified(text: str, *, told: bool) -> bool:
    """``told``: the scan met function words of other languages. Letters beyond ASCII are looked at without."""
    return language.in_other_script(text) or (
        (told or language.has_accents(text)) and language.in_other_language(unicodedata.normalize("NFC", text))
    )


def _decoded(decoder: Decoder, reading: Reading) -> Iterator[Reading]:
    """What ``decoder`` reads in ``reading``. Raises UndecodedError where that is closed and lies too deep to be looked at."""
    if reading.how in decoder.skips or (reading.depth >= MAX_DEPTH and not decoder.closed):
        return
    child = decoder.decode(reading, reading.depth + 1)
    if child is not None:
        if child.depth > MAX_DEPTH:
            raise UndecodedError
        yield normalise(child)


def _first_reading(segment: Segment) -> Reading:
    if segment.kind not in _NAMED_VALUES:
        return normalise(Reading(segment.text))
    # A value without words of its own: its field's name is the context.
    name = words(segment.pointer.rpartition("/")[2])
    builder = ReadingBuilder()
    builder.decoded(f"{name}: ", 0, len(segment.text))
    builder.copied(segment.text, 0)
    return normalise(builder.reading(parent=None))


def _resolved(located: list[_Located]) -> list[_Located]:
    """Counted matches by position, without those that say the same again. It never lowers a sensitivity.

    Within one reading a match inside another goes, unless it is more sensitive. Between readings its category must be the
    same too: two things in one encoded token have the token's extent in common, and nothing else.
    """
    counted = [found for found in located if found.counted]
    if len(counted) < 2:
        return counted
    inner: list[_Located] = []
    repeated: set[tuple[str, int, int]] = set()
    for _, group in itertools.groupby(counted, key=lambda found: id(found.reading)):
        kept, covered = _outermost(group, lambda f: (f.match.start, f.match.end), lambda _: "")
        inner += kept
        repeated |= {_place(found) for found in covered}
    # What stood inside something larger in one reading may stand alone in another that was cut there.
    alone = [found for found in inner if _place(found) not in repeated]
    return _outermost(alone, lambda f: (f.start, f.end), lambda f: f.entity.category)[0]


def _place(found: _Located) -> tuple[str, int, int]:
    return found.match.entity_type, found.start, found.end


def _outermost(
    located: Iterable[_Located],
    extent: Callable[[_Located], tuple[int, int]],
    kind: Callable[[_Located], str],
) -> tuple[list[_Located], list[_Located]]:
    """By position, those that lie in no other one of their kind that is as sensitive; of equals the surest.

    Beside them those that lie in one with a larger extent in the original text.
    """

    def order(found: _Located) -> tuple[int, int, int, float]:
        start, end = extent(found)
        return start, -end, -found.entity.sensitivity, -found.match.score

    kept: list[_Located] = []
    covered: list[_Located] = []
    reached: dict[tuple[str, Sensitivity], _Located] = {}
    for found in sorted(located, key=order):
        level = found.entity.sensitivity
        covers = [
            other
            for (of_kind, above), other in reached.items()
            if of_kind == kind(found) and level <= above and extent(found)[1] <= extent(other)[1]
        ]
        if not covers:
            reached[kind(found), level] = found
            kept.append(found)
        elif any((other.start, other.end) != (found.start, found.end) for other in covers):
            covered.append(found)
    return kept, covered


def _finding(found: _Located, pointer: str) -> Finding:
    return Finding(found.match.entity_type, found.start, found.end, found.match.score, found.detector.name, pointer)


def _explanation(found: _Located) -> Explanation:
    match = found.match
    return Explanation(
        entity_type=match.entity_type,
        start=found.start,
        end=found.end,
        score=match.score,
        detector=found.detector.name,
        source=found.detector.source,
        context=match.context,
        validation=match.validation,
        raw_score=match.raw_score,
        reading=found.reading.how,
        counted=found.counted,
    )


def _version(detectors: Iterable[Detector]) -> str:
    digest = hashlib.sha256()
    for decoder in DECODERS:
        digest.update(repr((decoder.name, decoder.probes, decoder.proof, MAX_DEPTH)).encode())
    for detector in detectors:
        digest.update(repr(detector.fingerprint()).encode())
        for entity in detector.entities:
            digest.update(repr(msgspec.structs.astuple(entity)).encode())
    return f"sha256:{digest.hexdigest()[:16]}"
