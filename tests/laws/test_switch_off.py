"""With a control removed, the check that guards it turns red; so a green run says that the controls work.

Each mutant is a running gateway with one control patched out from here. What is asserted is that the check *fails*.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifiers import Label
from classifiers.cascade import Classifier
from cloud_bridge.clearance import ClearanceAuthority, ClearanceVerifier
from gateway.authority import Recheck
from gateway.lineage import Lineage, Taint
from gateway.record import Recorder
from gateway.wire import chat, fields
from gateway.zones import Zones
from policies.engine import PolicyEngine
from tests.laws import checks
from tests.support.running import Running, running

Mutant = Callable[[pytest.MonkeyPatch], None]


def blind_classifier(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Classifier, "classify", lambda self, segments: Label(classifier=self.version))


def unknown_fields_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fields, "_unknown", lambda *args: None)
    real = fields._record

    def tolerant(record: Any, value: Any, *rest: Any) -> None:
        real(record, {k: v for k, v in value.items() if k in record.fields}, *rest)

    patch.setattr(fields, "_record", tolerant)


def arguments_of_tool_calls_not_scanned(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(chat._FUNCTION_CALL.fields, "arguments", fields.Text(safe=_Everything()))  # type: ignore[arg-type]


class _Everything(frozenset[str]):
    def __contains__(self, item: object) -> bool:
        return True


def every_recipient_allowed(patch: pytest.MonkeyPatch) -> None:
    """The decision is made and recorded, and then the zones are tried without asking it; the authority does not look."""

    async def anywhere(self: Zones, decision: Any, model: str) -> list[Any]:
        return list(self.targets)

    patch.setattr(Zones, "order", anywhere)
    authority_signs_anything(patch)


def authority_signs_anything(patch: pytest.MonkeyPatch) -> None:
    async def nothing(self: Recheck, crossing: Any, proof: Any) -> None:
        return None

    patch.setattr(Recheck, "__call__", nothing)


def clearances_not_recorded(patch: pytest.MonkeyPatch) -> None:
    async def silent(self: Recorder, *args: Any, **kwargs: Any) -> None:
        return None

    patch.setattr(Recorder, "clearance", silent)


def lineage_forgotten(patch: pytest.MonkeyPatch) -> None:
    async def clean(self: Lineage, call: Any, tenant: str) -> Taint:
        return Taint()

    patch.setattr(Lineage, "taint_of", clean)


def identifiers_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(chat.ChatCompletions, "crossing_edits", lambda self, call, token: {})


def closings_not_written(patch: pytest.MonkeyPatch) -> None:
    async def silent(self: Recorder, *args: Any, **kwargs: Any) -> None:
        return None

    patch.setattr(Recorder, "close", silent)


def policy_without_rules(patch: pytest.MonkeyPatch) -> None:
    real = PolicyEngine.decide

    def lax(self: PolicyEngine, label: Label, call: Any, **rest: Any) -> Any:
        return real(self, Label(classifier=label.classifier), call, **rest)

    patch.setattr(PolicyEngine, "decide", lax)


def tool_arguments_stay(gateway: Running) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": f'{{"ssn": "{checks.SSN}"}}'}}
    messages = [
        {"role": "user", "content": "look it up"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ]
    checks.stays(gateway, {"messages": messages}, checks.SSN)


SWITCHED_OFF: dict[str, tuple[Mutant, Callable[[Running], None]]] = {
    "classifier": (blind_classifier, checks.sensitive_stays),
    "policy rules": (policy_without_rules, checks.sensitive_stays),
    "routing by decision": (every_recipient_allowed, checks.sensitive_stays),
    "unknown fields unscannable": (unknown_fields_ignored, checks.unknown_field_stays),
    "scan of tool arguments": (arguments_of_tool_calls_not_scanned, tool_arguments_stay),
    "clearance events": (clearances_not_recorded, checks.nothing_crosses_uncleared),
    "lineage": (lineage_forgotten, checks.taint_persists),
    "identifiers replaced": (identifiers_kept, checks.headers_stay),
    "closing events": (closings_not_written, checks.ends_once),
}


@pytest.mark.parametrize(("mutant", "check"), SWITCHED_OFF.values(), ids=SWITCHED_OFF.keys())
def test_without_the_control_its_check_fails(
    mutant: Mutant, check: Callable[[Running], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path / "intact") as gateway:
        check(gateway)
    mutant(monkeypatch)
    with running(tmp_path / "mutant") as gateway, pytest.raises(AssertionError):
        check(gateway)


def test_failover_widened_alone_is_stopped_by_the_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two controls stand behind each other: zones that try everything still cross nothing, for want of a clearance."""

    async def anywhere(self: Zones, decision: Any, model: str) -> list[Any]:
        return list(self.targets)

    monkeypatch.setattr(Zones, "order", anywhere)
    with running(tmp_path) as gateway:
        checks.sensitive_stays(gateway)


def test_without_a_clearance_the_bridge_and_the_worker_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 4 and its switch: a gateway that forges its clearances crosses nothing, until both verifiers look away."""
    real = ClearanceAuthority.clear

    async def forged(self: ClearanceAuthority, crossing: Any, receipt: Any) -> Any:
        import msgspec

        cleared = await real(self, crossing, receipt)
        return msgspec.structs.replace(cleared, body_digest=b"\0" * 32)

    monkeypatch.setattr(ClearanceAuthority, "clear", forged)
    with running(tmp_path / "intact") as gateway:
        response = gateway.chat(checks.GENERAL)
        assert not gateway.cloud.calls
        assert response.headers["x-watershed-target"].startswith("onprem/")
    monkeypatch.setattr(ClearanceVerifier, "verify", lambda self, clearance, crossing: None)
    with running(tmp_path / "mutant") as gateway:
        gateway.chat(checks.GENERAL)
        assert gateway.cloud.calls
