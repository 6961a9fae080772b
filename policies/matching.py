"""Which rules match a request: every condition of every rule, compiled into a few lookups.

    label, call ──▶ features ──▶ reach (one integer) ──▶ candidate rules ──tests──▶ mask of matching rules

An *atom* is one distinct condition that is neither `all` nor `any`; equal conditions of many rules share it. Each feature of
a request (a category, a tenant, a sensitivity …) looks up its *reach*, an integer of three bit fields, least first:

    atoms that are true │ rules that match for certain │ rules that may match and need their tree tested

so that a request pays for the rules that speak of it and hardly for the others.
"""

from __future__ import annotations

import fnmatch
import functools
import itertools
import operator
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from classifiers.label import Finding, Label, Sensitivity
from policies.decision import CallFacts
from policies.model import (
    All,
    Always,
    Any_,
    CategoryPresent,
    Condition,
    FindingPresent,
    KindPresent,
    ModelLike,
    PurposeAmong,
    SensitivityAtLeast,
    SizeAtLeast,
    TenantAmong,
)

Mask = int
Test = Callable[[Mask], bool]
_DIGITS_TO_BYTES = bytes.maketrans(b"01", b"\x00\x01")


def flags(mask: Mask) -> bytes:
    """The bits of a mask from the least on, one byte (0 or 1) each: selectors for ``itertools.compress``."""
    return bin(mask)[:1:-1].encode().translate(_DIGITS_TO_BYTES)


class Matcher:
    """Conditions by position, compiled. Immutable."""

    __slots__ = ("_certain_from", "_features", "_possible_from", "_rules_mask", "_tests")

    def __init__(self, conditions: Sequence[Condition]) -> None:
        atoms = {
            atom: position for position, atom in enumerate(dict.fromkeys(itertools.chain(*map(_atoms, conditions))))
        }
        self._certain_from = len(atoms)
        self._possible_from = len(atoms) + len(conditions)
        self._rules_mask = (1 << len(conditions)) - 1
        reach = [1 << position for position in range(len(atoms))]
        tests: list[tuple[Mask, Test]] = []
        for position, condition in enumerate(conditions):
            sufficient = _sufficient(condition)
            triggers, field = (
                (sufficient, self._certain_from) if sufficient else (_necessary(condition), self._possible_from)
            )
            for atom in triggers:
                reach[atoms[atom]] |= 1 << field + position
            tests.append((1 << position, _test(condition, atoms)))
        self._tests = tuple(tests)
        self._features = _Features({atom: reach[position] for atom, position in atoms.items()})

    def matching(self, label: Label, call: CallFacts, sensitivity: Sensitivity) -> Mask:
        """The positions of the conditions that hold, as a mask."""
        reach = self._features.reach(label, call, sensitivity)
        matched = reach >> self._certain_from & self._rules_mask
        candidates = reach >> self._possible_from
        if candidates:
            for rule, test in itertools.compress(self._tests, flags(candidates)):
                if test(reach):
                    matched |= rule
        return matched


class _Features:
    """For each feature a request can have, the reach of the atoms it makes true."""

    __slots__ = ("_always", "_categories", "_counted", "_findings", "_globs", "_kinds", "_models", "_purposes",
                 "_sensitivities", "_size_reaches", "_sizes", "_tenants")  # fmt: skip

    def __init__(self, reaches: Mapping[Condition, Mask]) -> None:
        self._always: Mask = 0
        self._findings: dict[str, list[tuple[int, float]]] = {}  # by type: position in _counted, lowest score
        self._counted: list[tuple[int, Mask]] = []  # lowest count, reach
        self._categories: dict[str, Mask] = {}
        self._sensitivities = [0] * len(Sensitivity)
        self._tenants: dict[str, Mask] = {}
        self._models: dict[str, Mask] = {}
        self._globs: list[tuple[Callable[[str], object], Mask]] = []
        self._kinds: dict[str, Mask] = {}
        self._purposes: dict[str, Mask] = {}
        self._sizes = sorted({atom.size_bytes for atom in reaches if isinstance(atom, SizeAtLeast)})
        self._size_reaches = [0] * (len(self._sizes) + 1)
        for atom, reach in reaches.items():
            self._index(atom, reach)

    def _index(self, atom: Condition, reach: Mask) -> None:
        match atom:
            case Always():
                self._always |= reach
            case FindingPresent(types=types, min_count=min_count, min_score=min_score):
                for name in types:
                    self._findings.setdefault(name, []).append((len(self._counted), min_score))
                self._counted.append((min_count, reach))
            case CategoryPresent(categories=names):
                _add(self._categories, names, reach)
            case SensitivityAtLeast(level=level):
                for position in range(level, len(Sensitivity)):
                    self._sensitivities[position] |= reach
            case TenantAmong(tenants=names):
                _add(self._tenants, names, reach)
            case ModelLike(globs=globs):
                _add(self._models, (glob for glob in globs if not _is_wild(glob)), reach)
                self._globs += [(re.compile(fnmatch.translate(glob)).match, reach) for glob in globs if _is_wild(glob)]
            case KindPresent(kinds=names):
                _add(self._kinds, names, reach)
            case PurposeAmong(purposes=names):
                _add(self._purposes, names, reach)
            case SizeAtLeast(size_bytes=size_bytes):
                for position in range(bisect_right(self._sizes, size_bytes), len(self._size_reaches)):
                    self._size_reaches[position] |= reach
            case _:
                raise AssertionError(atom)

    def reach(self, label: Label, call: CallFacts, sensitivity: Sensitivity) -> Mask:
        reach = self._always | self._sensitivities[sensitivity] | self._tenants.get(call.tenant, 0)
        for category in label.categories:
            reach |= self._categories.get(category, 0)
        if self._findings and label.findings:
            reach |= self._found(label.findings)
        if self._models or self._globs:
            reach |= self._model(call.model.casefold())
        if self._kinds:
            for kind in call.kinds:
                reach |= self._kinds.get(kind, 0)
        if self._purposes and call.purpose is not None:
            reach |= self._purposes.get(call.purpose.casefold(), 0)
        return reach | self._size_reaches[bisect_right(self._sizes, call.size_bytes)]

    def _found(self, findings: Iterable[Finding]) -> Mask:
        counts: dict[int, int] = {}
        for finding in findings:
            for atom, min_score in self._findings.get(finding.entity_type, ()):
                if finding.score >= min_score:
                    counts[atom] = counts.get(atom, 0) + 1
        found = 0
        for atom, count in counts.items():
            min_count, reach = self._counted[atom]
            if count >= min_count:
                found |= reach
        return found

    def _model(self, model: str) -> Mask:
        reach = self._models.get(model, 0)
        for matches, of_glob in self._globs:
            if matches(model):
                reach |= of_glob
        return reach


def _add(index: dict[str, Mask], names: Iterable[str], reach: Mask) -> None:
    for name in names:
        index[name] = index.get(name, 0) | reach


def _is_wild(glob: str) -> bool:
    return "*" in glob or "?" in glob


def _atoms(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, All | Any_):
        for part in condition.parts:
            yield from _atoms(part)
    else:
        yield condition


def _sufficient(condition: Condition) -> frozenset[Condition]:
    """Atoms of which any one makes ``condition`` true and without which it is false; empty where it is no plain `any`."""
    if isinstance(condition, All):
        return _sufficient(condition.parts[0]) if len(condition.parts) == 1 else frozenset()
    if isinstance(condition, Any_):
        parts = [_sufficient(part) for part in condition.parts]
        return frozenset().union(*parts) if all(parts) else frozenset()
    return frozenset({condition})


def _necessary(condition: Condition) -> frozenset[Condition]:
    """Atoms of which at least one is true whenever ``condition`` is: the rarest of those that are easy to find."""
    if isinstance(condition, All):
        return _necessary(min(condition.parts, key=_commonness))
    return (
        frozenset().union(*map(_necessary, condition.parts)) if isinstance(condition, Any_) else frozenset({condition})
    )


_COMMONNESS: Mapping[type[Condition], int] = {
    FindingPresent: 0, CategoryPresent: 1, TenantAmong: 2, PurposeAmong: 2, ModelLike: 2, KindPresent: 3,
    SensitivityAtLeast: 4, SizeAtLeast: 5, Always: 6,
}  # fmt: skip


def _commonness(condition: Condition) -> int:
    """How often a condition is true, roughly."""
    if isinstance(condition, All):
        return min(map(_commonness, condition.parts))
    if isinstance(condition, Any_):
        return max(map(_commonness, condition.parts))
    return _COMMONNESS[type(condition)]


def _test(condition: Condition, atoms: Mapping[Condition, int]) -> Test:
    """``condition`` as a function of the reach, of which it reads the true atoms."""
    if not isinstance(condition, All | Any_):
        condition = All((condition,))
    plain = functools.reduce(
        operator.or_, (1 << atoms[part] for part in condition.parts if not isinstance(part, All | Any_)), 0
    )
    nested = tuple(_test(part, atoms) for part in condition.parts if isinstance(part, All | Any_))
    if isinstance(condition, All):
        if not nested:
            return lambda reach: reach & plain == plain
        return lambda reach: reach & plain == plain and all(test(reach) for test in nested)
    if not nested:
        return lambda reach: reach & plain != 0
    return lambda reach: reach & plain != 0 or any(test(reach) for test in nested)
