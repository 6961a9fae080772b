"""A small vocabulary of its own, so that these tests stand when the classifiers' grows."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from classifiers.label import Sensitivity
from policies.vocabulary import EntityFacts, Vocabulary

HEADER = 'policy: {name: trial, version: "1"}\n'

Write = Callable[..., Path]


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(
        entities={
            "EMAIL": EntityFacts("pii", Sensitivity.CONFIDENTIAL),
            "CN_MOBILE": EntityFacts("pii", Sensitivity.CONFIDENTIAL),
            "US_SSN": EntityFacts("pii", Sensitivity.RESTRICTED),
            "MEDICAL_RECORD": EntityFacts("phi", Sensitivity.RESTRICTED),
            "API_KEY": EntityFacts("credential", Sensitivity.RESTRICTED),
        },
        categories=frozenset({"pii", "phi", "pci", "credential"}),
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a document (the header line first unless ``header=""``) and returns its path."""

    def write(body: str, name: str = "policy.yaml", header: str = HEADER) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(header + textwrap.dedent(body).lstrip("\n"), encoding="utf-8")
        return path

    return write
