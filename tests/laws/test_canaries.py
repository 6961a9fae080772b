"""A canary in every field of a chat request, streamed and not: none reaches the cloud; a control canary is found there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway.wire.test_chat import CANARY, SCANNED, UNSCANNABLE
from tests.laws import checks
from tests.support.running import Running

FIELDS = SCANNED | {name: fields for name, fields in UNSCANNABLE.items() if CANARY in json.dumps(fields)}


def with_canary(fields: dict[str, Any], canary: str) -> dict[str, Any]:
    filled: dict[str, Any] = json.loads(json.dumps(fields).replace(CANARY, canary))
    return filled


@pytest.fixture(autouse=True, scope="module")
def control(gateway: Running) -> None:
    checks.control_canary_crosses(gateway)


@pytest.mark.parametrize("canary", [checks.SSN, checks.RESIDENT_ID], ids=["ssn", "resident id"])
@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS.keys())
def test_a_canary_in_this_field_stays(gateway: Running, fields: dict[str, Any], canary: str) -> None:
    checks.stays(gateway, with_canary(fields, canary), canary)


TOOLS = [
    {
        "type": "function",
        "function": {"name": "lookup", "description": "Look up", "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}},
    }
]  # fmt: skip


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS.keys())
def test_the_same_with_tools(gateway: Running, fields: dict[str, Any]) -> None:
    filled = with_canary(fields, checks.SSN)
    checks.stays(gateway, {"tools": TOOLS, "tool_choice": "auto", "parallel_tool_calls": True} | filled, checks.SSN)


def test_numbers_that_are_accounts_stay(gateway: Running) -> None:
    for fields in (
        {"seed": 4111111111111111},
        {"max_tokens": 4111111111111111},
        {"logit_bias": {"50256": 4111111111111111}},
    ):
        checks.stays(gateway, fields, "4111111111111111")


def test_no_canary_is_in_logs_metrics_or_errors(gateway: Running, capfd: pytest.CaptureFixture[str]) -> None:
    for fields in FIELDS.values():
        filled = with_canary(fields, checks.SSN)
        body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]} | filled
        for broken in (json.dumps(body).encode(), json.dumps(body).encode()[:-1], json.dumps([body]).encode()):
            response = gateway.post(broken)
            if response.status_code >= 400:
                assert checks.SSN not in response.text
            assert checks.SSN not in str(response.headers)
    import httpx

    assert checks.SSN not in httpx.get(f"{gateway.admin_url}/metrics").text
    output = capfd.readouterr()
    assert checks.SSN not in output.out + output.err
