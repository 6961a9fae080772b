"""All detectors and entity types. Importing it compiles nothing: a ``Classifier`` prepares the detectors that it uses."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from classifiers.base import Detector, Entity, registered
from classifiers.detectors import FAMILIES


def _entities() -> dict[str, Entity]:
    for family in FAMILIES:
        importlib.import_module(f"classifiers.detectors.{family}")
    entities: dict[str, Entity] = {}
    for detector in registered():
        for entity in detector.entities:
            if entities.setdefault(entity.entity_type, entity) != entity:
                raise ValueError(f"entity type {entity.entity_type} is declared in two ways")
    return entities


ENTITIES: Mapping[str, Entity] = MappingProxyType(_entities())
"""Entity type → what it means."""

# Categories without a detector yet are part of the vocabulary all the same: policies may name them.
CATEGORIES: frozenset[str] = frozenset(entity.category for entity in ENTITIES.values()) | {
    "pii",
    "phi",
    "pci",
    "credential",
    "source_code",
    "legal",
    "financial",
    "corporate",
}


def detectors() -> tuple[Detector, ...]:
    """A new instance of every detector, in registration order."""
    return tuple(detector() for detector in registered())
