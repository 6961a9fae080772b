"""Every detector's own examples and near-misses, read as text by a classifier with all detectors."""

from __future__ import annotations

import re
from typing import Any

import pytest

from classifiers.base import Detector
from classifiers.cascade import Classifier
from classifiers.registry import detectors

DETECTORS = detectors()
_MARK = re.compile(r"⟦(.*?)⟧", re.DOTALL)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def unmarked(example: str) -> tuple[str, list[tuple[int, int]]]:
    """An example's text without its marks, and the extents marked."""
    spans = []
    for shift, found in enumerate(_MARK.finditer(example)):
        start = found.start() - 2 * shift
        spans.append((start, start + len(found[1])))
    return re.sub("[⟦⟧]", "", example), spans


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(detector, text, id=f"{detector.name}-{number}")
        for detector in DETECTORS
        for number, text in enumerate(getattr(detector, kind))
    ]


@pytest.mark.parametrize(("detector", "example"), cases("examples"))
def test_example_is_found_with_exact_bounds(detector: Detector, example: str, classifier: Classifier) -> None:
    text, spans = unmarked(example)
    seen = {(e.start, e.end) for e in classifier.explain(text) if e.detector == detector.name and e.counted}
    assert seen == set(spans)
    label = classifier.classify_text(text)
    assert label.sensitivity >= max(entity.sensitivity for entity in detector.entities[:1])
    assert detector.name in label.ran
    assert detector.name not in label.gated


@pytest.mark.parametrize(("detector", "text"), cases("near_misses"))
def test_near_miss_is_not_counted(detector: Detector, text: str, classifier: Classifier) -> None:
    assert [e for e in classifier.explain(text) if e.detector == detector.name and e.counted] == []


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: detector.name)
def test_detector_says_where_it_comes_from_and_what_it_finds(detector: Detector) -> None:
    assert detector.source
    assert detector.entities
    assert detector.examples
    assert detector.near_misses
