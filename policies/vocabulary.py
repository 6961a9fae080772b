"""The words a policy may use for what was found: entity types and categories."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from classifiers.label import Sensitivity


class EntityFacts(msgspec.Struct, frozen=True):
    """What a policy needs to know of an entity type: its category, and the sensitivity that a finding of it gives."""

    category: str
    sensitivity: Sensitivity


class Vocabulary(msgspec.Struct, frozen=True):
    """Entity types by name, and categories."""

    entities: Mapping[str, EntityFacts]
    categories: frozenset[str]


def of_classifiers() -> Vocabulary:
    """The vocabulary of the shipped classifiers."""
    # Imported on first need: deciding needs no detector.
    from classifiers.registry import CATEGORIES, ENTITIES

    entities = {name: EntityFacts(entity.category, entity.sensitivity) for name, entity in ENTITIES.items()}
    return Vocabulary(entities, frozenset(CATEGORIES))
