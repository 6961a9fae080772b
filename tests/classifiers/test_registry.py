"""The registry: what exists, and how one adds to it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from classifiers import Sensitivity
from classifiers.base import Detector, Entity, register, registered
from classifiers.registry import CATEGORIES, ENTITIES, detectors


def test_names_are_unique_and_entities_known() -> None:
    names = [detector.name for detector in detectors()]
    assert len(names) == len(set(names))
    assert {entity.entity_type for detector in detectors() for entity in detector.entities} == set(ENTITIES)


def test_categories_cover_the_vocabulary() -> None:
    assert {entity.category for entity in ENTITIES.values()} <= CATEGORIES
    assert {"pii", "phi", "pci", "credential", "source_code", "legal", "financial", "corporate"} <= CATEGORIES


@pytest.mark.parametrize(
    ("entity_type", "sensitivity"),
    [
        ("CN_RESIDENT_ID", Sensitivity.RESTRICTED),
        ("US_SSN", Sensitivity.RESTRICTED),
        ("BANK_CARD", Sensitivity.RESTRICTED),
        ("MEDICAL_RECORD", Sensitivity.RESTRICTED),
        ("EMAIL", Sensitivity.CONFIDENTIAL),
        ("CN_MOBILE", Sensitivity.CONFIDENTIAL),
        ("IBAN", Sensitivity.CONFIDENTIAL),
        ("INTERNAL_MARKING", Sensitivity.INTERNAL),
        ("CONFIDENTIAL_MARKING", Sensitivity.CONFIDENTIAL),
        ("SECRET_MARKING", Sensitivity.RESTRICTED),
        ("PRIVILEGE_MARKING", Sensitivity.RESTRICTED),
    ],
)
def test_neutral_profile(entity_type: str, sensitivity: Sensitivity) -> None:
    assert ENTITIES[entity_type].sensitivity is sensitivity


def test_every_credential_is_restricted() -> None:
    assert {e.sensitivity for e in ENTITIES.values() if e.category == "credential"} == {Sensitivity.RESTRICTED}


def test_a_name_can_be_registered_once() -> None:
    class Twin(Detector):
        name = registered()[0].name
        entities = (Entity("TWIN", "pii", Sensitivity.PUBLIC, "twin"),)

    with pytest.raises(ValueError, match="registered twice"):
        register(Twin)


def test_importing_the_registry_loads_no_heavy_library() -> None:
    code = "import sys, classifiers.registry; print(sorted({'hyperscan', 'phonenumbers', 'stdnum'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"
