"""What must hold of a running gateway, as functions that raise AssertionError where it does not.

The tests call them on the real gateway; the switch-off tests call them on gateways with one control removed, and demand
that they fail. Their oracle is what the upstreams received.
"""

from __future__ import annotations

import json
import time
from typing import Any

from runtime.ids import new_id
from tests.support.running import Running

SSN = "536-22-8726"
RESIDENT_ID = "11010519491231002X"
GENERAL = "What is the capital of France, and what is it known for?"


def control_canary_crosses(gateway: Running) -> None:
    """A text that may cross does, and is found at the cloud: without this the other checks prove nothing."""
    control = f"control {new_id('x')} about rivers"
    response = gateway.chat(control)
    assert response.status_code == 200
    assert response.headers["x-watershed-route"] == "cloud"
    assert gateway.cloud.saw(control)


def stays(gateway: Running, fields: dict[str, Any], secret: str) -> None:
    """A request with ``secret`` in it is answered at home or refused, and the cloud sees nothing of it."""
    for stream in (False, True):
        before = len(gateway.cloud.calls)
        body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]} | fields | {"stream": stream}
        response = gateway.post(json.dumps(body).encode())
        assert response.status_code in {200, 400, 403}, response.text
        assert not gateway.cloud.saw(secret)
        assert len(gateway.cloud.calls) == before
        if response.status_code == 200:
            assert response.headers["x-watershed-route"] == "onprem"
            assert response.headers["x-watershed-sensitivity"] in {"confidential", "restricted"}


def sensitive_stays(gateway: Running) -> None:
    stays(gateway, {"messages": [{"role": "user", "content": f"My SSN is {SSN}."}]}, SSN)


def unknown_field_stays(gateway: Running) -> None:
    stays(gateway, {"a_field_of_tomorrow": {"note": "nothing special"}}, "nothing special")


def nothing_crosses_uncleared(gateway: Running) -> None:
    """Each request that the cloud received has an issued clearance, durable before it was sent, and no other has."""
    from audit.event import ClearanceEvent

    before = len(gateway.cloud.calls)
    response = gateway.chat(GENERAL)
    assert response.status_code == 200
    received = len(gateway.cloud.calls) - before
    events = gateway.events(response.headers["x-request-id"])
    issued = [e for e in events if isinstance(e, ClearanceEvent) and e.outcome == "issued"]
    assert received == len(issued)


def taint_persists(gateway: Running) -> None:
    """The sensitive turn is dropped from the history; its answer alone keeps the conversation at home."""
    first = gateway.chat(f"My SSN is {SSN}. Please advise me.")
    assert first.headers["x-watershed-route"] == "onprem"
    answer = first.json()["choices"][0]["message"]["content"]
    gateway.cloud.clear()
    follow_up = gateway.chat(
        messages=[
            {"role": "assistant", "content": answer},
            {"role": "user", "content": "And what should I do next about it?"},
        ]
    )
    assert follow_up.status_code == 200
    assert follow_up.headers["x-watershed-route"] == "onprem"
    assert not gateway.cloud.calls


def nothing_widens(gateway: Running) -> None:
    """The on-prem zone cannot answer: a request that may only go there is refused with 503, and never crosses."""
    before = len(gateway.cloud.calls)
    response = gateway.chat(f"My SSN is {SSN}.", headers={"x-watershed-deadline-ms": "1500"})
    assert response.status_code in {503, 504}
    if response.status_code == 503:
        assert int(response.headers["retry-after"]) > 0
    assert len(gateway.cloud.calls) == before


def ends_once(gateway: Running) -> None:
    """Each request has one decision and one closing event, also the refused and the unreadable ones."""
    ids = [
        gateway.chat(GENERAL).headers["x-request-id"],
        gateway.chat(f"SSN {SSN}").headers["x-request-id"],
        gateway.chat(GENERAL, stream=True).headers["x-request-id"],
        gateway.post(b'{"model": "auto"').headers["x-request-id"],
        gateway.chat([{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]).headers["x-request-id"],
    ]
    for request_id in ids:
        wait_for(lambda request_id=request_id: len(gateway.closings(request_id)) == 1)


def headers_stay(gateway: Running) -> None:
    """No header, query or cookie of the caller crosses; identifiers in the body are replaced."""
    secret = "carried-along-9d1c"
    before = len(gateway.cloud.calls)
    response = gateway.client.post(
        f"/v1/chat/completions?trace={secret}",
        json={
            "model": "auto",
            "messages": [{"role": "user", "content": GENERAL}],
            "user": secret,
            "safety_identifier": secret,
            "prompt_cache_key": secret,
            "metadata": {"trace": secret},
            "store": True,
        },
        headers={
            "cookie": f"session={secret}",
            "baggage": f"user={secret}",
            "tracestate": f"x={secret}",
            "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
            "x-forwarded-for": "198.51.100.77",
            "x-custom": secret,
            "user-agent": secret,
            "openai-organization": secret,
        },
    )
    assert response.status_code == 200
    assert response.headers["x-watershed-route"] == "cloud"
    assert len(gateway.cloud.calls) == before + 1
    received = gateway.cloud.calls[-1]
    assert secret.encode() not in received.everything
    assert b"198.51.100.77" not in received.everything
    assert b"a" * 32 not in received.everything
    assert received.json["store"] is False


def wait_for(condition: Any, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
