"""Edits by pointer: what is found is rewritten, and nothing else."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from classifiers import Finding, Label
from gateway.transforms import edits_for, narrowed
from gateway.wire import Call, ChatCompletions
from policies.decision import Decision, Edit, Route

EMAIL = "ann.lee@corp.example"


def call(**fields: Any) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": f"Write to {EMAIL} today."}]} | fields
    return ChatCompletions().receive(json.dumps(body).encode())


def decision(**edits: Edit) -> Decision:
    return Decision("dec-1", frozenset({"onprem", "cloud"}), edits, frozenset(), (), "p@1", 2)  # type: ignore[arg-type]


def found(start: int, end: int, entity_type: str = "EMAIL", pointer: str = "/messages/0/content") -> Finding:
    return Finding(entity_type, start, end, 0.9, "d", pointer)


def test_a_redacted_value_gives_way_to_its_type() -> None:
    label = Label(findings=(found(9, 9 + len(EMAIL)),))
    assert edits_for(call(), label, decision(EMAIL=Edit.REDACT)) == {"/messages/0/content": "Write to [EMAIL] today."}


def test_a_masked_value_keeps_its_end() -> None:
    label = Label(findings=(found(9, 9 + len(EMAIL)),))
    edits = edits_for(call(), label, decision(EMAIL=Edit.MASK))
    assert edits == {"/messages/0/content": "Write to ***.***@****.***mple today."}


def test_overlapping_findings_are_one_and_the_strictest_edit_wins() -> None:
    label = Label(findings=(found(9, 20, "EMAIL"), found(15, 9 + len(EMAIL), "PERSON")))
    edits = edits_for(call(), label, decision(EMAIL=Edit.MASK, PERSON=Edit.REDACT))
    assert edits == {"/messages/0/content": "Write to [EMAIL] today."}


def test_findings_that_the_decision_does_not_edit_are_left() -> None:
    label = Label(findings=(found(9, 20, "OTHER"),))
    assert edits_for(call(), label, decision(EMAIL=Edit.REDACT)) == {}


def test_what_cannot_be_edited_stops_the_crossing() -> None:
    asked = call(metadata={EMAIL: "x"}, seed=4111111111111111)
    for pointer in ("/metadata", "/seed", "/messages"):
        label = Label(findings=(found(0, 5, pointer=pointer),))
        assert edits_for(asked, label, decision(EMAIL=Edit.REDACT)) is None


def test_a_narrowed_decision_never_gains_a_recipient() -> None:
    wide = decision()
    assert narrowed(wide, {"onprem", "elsewhere"}).recipients == {"onprem"}
    assert narrowed(wide, {"onprem"}).route is Route.ONPREM
    assert narrowed(wide, set()).route is Route.REJECT


@given(
    st.text(max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.sampled_from(["A", "B"])), max_size=6),
)
def test_no_character_of_a_redacted_span_is_left(text: str, spans: list[tuple[int, int, str]]) -> None:
    """Marked characters are private-use ones, so that any that is left is one that escaped."""
    marked = list(text)
    findings = []
    for start, length, name in spans:
        end = min(start + length, len(text))
        if start < end:
            marked[start:end] = ["\ue000"] * (end - start)
            findings.append(found(start, end, name))
    asked = call(messages=[{"role": "user", "content": "".join(marked) or "x"}])
    edits = edits_for(asked, Label(findings=tuple(findings)), decision(A=Edit.REDACT, B=Edit.REDACT))
    assert edits is not None
    after = edits.get("/messages/0/content", "".join(marked))
    if findings:
        assert "\ue000" not in after
    plain = "".join(c for c in marked if c != "\ue000")
    assert after.replace("[A]", "").replace("[B]", "") == plain.replace("[A]", "").replace("[B]", "")
