"""Text in, findings and a sensitivity label out. Pure: no network, no database, no settings."""

from classifiers.label import Finding, Label, Segment, Sensitivity, Unscanned

__all__ = ["Finding", "Label", "Segment", "Sensitivity", "Unscanned"]
