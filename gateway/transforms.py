"""The transform stage: edits that a decision asks for, as new values by JSON pointer.

``redact`` puts the entity type in a value's place, ``mask`` keeps its last four characters. Only whole string values can be
edited: a finding in a name, a number or a JSON text inside a string cannot, and then nothing crosses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set

import msgspec

from classifiers import Finding, Label
from gateway.wire import Call
from policies.decision import Decision, Edit

_EDITABLE = frozenset({"text", "tool_result", "tool_definition", "metadata", "schema", "name"})


def edits_for(call: Call, label: Label, decision: Decision) -> dict[str, str] | None:
    """New values by pointer for each finding that the decision edits; None where one cannot be edited."""
    wanted = dict(decision.edits)
    segments = {segment.pointer: segment for segment in call.segments if segment.kind in _EDITABLE}
    by_pointer: dict[str, list[Finding]] = defaultdict(list)
    for finding in label.findings:
        if finding.entity_type in wanted:
            if finding.pointer not in segments:
                return None
            by_pointer[finding.pointer].append(finding)
    return {pointer: _rewrite(segments[pointer].text, findings, wanted) for pointer, findings in by_pointer.items()}


def narrowed(decision: Decision, recipients: Set[str]) -> Decision:
    """The decision with fewer recipients, never with more."""
    return msgspec.structs.replace(decision, recipients=decision.recipients & recipients)


def _rewrite(text: str, findings: list[Finding], wanted: dict[str, Edit]) -> str:
    """Replace spans from the end on; overlapping ones as one, by the strictest edit among them."""
    spans: list[tuple[int, int, Edit, str]] = []
    for finding in sorted(findings, key=lambda f: (f.start, -f.end)):
        edit = wanted[finding.entity_type]
        if spans and finding.start < spans[-1][1]:
            start, end, earlier, name = spans[-1]
            strictest = Edit.REDACT if Edit.REDACT in (edit, earlier) else Edit.MASK
            spans[-1] = (start, max(end, finding.end), strictest, name)
        else:
            spans.append((finding.start, finding.end, edit, finding.entity_type))
    for start, end, edit, name in reversed(spans):
        text = text[:start] + _replacement(text[start:end], edit, name) + text[end:]
    return text


def _replacement(value: str, edit: Edit, entity_type: str) -> str:
    if edit is Edit.REDACT or len(value) <= 8:
        return f"[{entity_type}]"
    return "".join("*" if c.isalnum() else c for c in value[:-4]) + value[-4:]
