"""Detectors, one file a family. Each detector is a small class that carries its source, examples and near-misses."""

FAMILIES = (
    "identity",
    "national_ids",
    "contact",
    "addresses",
    "finance",
    "health",
    "credentials",
    "secrets_in_text",
    "corporate",
)
"""The family modules, in the order in which their detectors are registered."""
