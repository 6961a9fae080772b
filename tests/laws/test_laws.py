"""The laws of the design, driven over HTTP; what the recording upstreams received is the oracle."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.event import DecisionEvent
from tests.laws import checks
from tests.laws.checks import GENERAL, RESIDENT_ID, SSN
from tests.support.recorder import Received, answer_chat, respond, send_event, start_stream
from tests.support.running import Running, running

ROUTES = ["cloud", "cloud_pseudonymised", "onprem", "reject"]


def test_a_control_canary_crosses(gateway: Running) -> None:
    checks.control_canary_crosses(gateway)


def test_sensitive_data_stay(gateway: Running) -> None:
    checks.sensitive_stays(gateway)


# --- law 1: strictest wins ---------------------------------------------------------------------------------------------


def strictness(gateway: Running, body: dict[str, Any], headers: dict[str, str] | None = None) -> int:
    response = gateway.chat(headers={"x-watershed-dry-run": "true"} | (headers or {}), **body)
    assert response.status_code == 200, response.text
    return ROUTES.index(response.json()["route"])


_sentences = st.sampled_from([
    GENERAL, "Write a haiku about autumn rain.", f"My SSN is {SSN}.", f"身份证号 {RESIDENT_ID}", "password: hunter2-Zq9!x",
    "INTERNAL ONLY", "Translate this text into Chinese.", "请写一首关于春天的诗。",
])  # fmt: skip


@settings(max_examples=60)
@given(
    st.lists(_sentences, min_size=1, max_size=3),
    _sentences,
    st.sampled_from(["public", "internal", "confidential", "restricted"]),
)
def test_more_text_or_a_hint_never_loosens(gateway: Running, texts: list[str], more: str, hint: str) -> None:
    less = {"messages": [{"role": "user", "content": text} for text in texts]}
    extended = {"messages": [*less["messages"], {"role": "user", "content": more}]}
    base = strictness(gateway, less)
    assert strictness(gateway, extended) >= base
    assert strictness(gateway, less, {"x-watershed-sensitivity": hint}) >= base


@settings(max_examples=30)
@given(st.lists(_sentences, min_size=2, max_size=4), st.randoms())
def test_the_order_of_messages_does_not_matter(gateway: Running, texts: list[str], random: Any) -> None:
    shuffled = list(texts)
    random.shuffle(shuffled)
    results = {
        strictness(gateway, {"messages": [{"role": "user", "content": t} for t in order]})
        for order in (texts, shuffled)
    }
    assert len(results) == 1


def test_a_dry_run_sends_nothing(gateway: Running) -> None:
    before = (len(gateway.cloud.calls), len(gateway.onprem.calls))
    strictness(gateway, {"messages": [{"role": "user", "content": GENERAL}]})
    assert (len(gateway.cloud.calls), len(gateway.onprem.calls)) == before


# --- law 2: fail closed ------------------------------------------------------------------------------------------------


def test_an_unknown_field_stays(gateway: Running) -> None:
    checks.unknown_field_stays(gateway)


def test_an_image_stays(gateway: Running) -> None:
    pixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    part = {"type": "image_url", "image_url": {"url": pixel}}
    checks.stays(gateway, {"messages": [{"role": "user", "content": [part]}]}, pixel)


def test_a_policy_source_lost_for_longer_than_its_lease_keeps_everything(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "policy: {name: open, version: '1'}\ndefaults: {outcome: cloud}\n"
        "rules:\n  - {id: r, title: Restricted data stay., when: {sensitivity: {at_least: restricted}}, outcome: onprem}\n"
    )
    with running(tmp_path / "state", policy=policy, policy_lease_s=3) as gateway:
        assert gateway.chat(GENERAL).headers["x-watershed-route"] == "cloud"
        policy.unlink()
        checks.wait_for(lambda: gateway.client.get("/readyz").status_code == 503)
        gateway.cloud.clear()
        response = gateway.chat(GENERAL)
        assert response.headers["x-watershed-route"] == "onprem"
        assert response.headers["x-watershed-sensitivity"] == "restricted"
        assert not gateway.cloud.calls


# --- law 3: nothing widens ---------------------------------------------------------------------------------------------


async def _unavailable(request: Received, receive: Any, send: Any) -> None:
    await respond(send, 503, {"error": {"message": "busy", "type": "x", "param": None, "code": None}})


def test_with_the_cloud_down_general_traffic_is_answered_at_home(tmp_path: Path) -> None:
    with running(tmp_path, cloud_url="http://127.0.0.1:1/v1") as gateway:
        response = gateway.chat(GENERAL)
        assert response.status_code == 200
        assert response.headers["x-watershed-target"].startswith("onprem/")
        assert len(gateway.onprem.calls) == 1


def test_a_cloud_that_answers_503_is_tried_again_with_a_clearance_of_its_own(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        gateway.cloud.behaviour = _unavailable
        response = gateway.chat(GENERAL)
        assert response.status_code == 200
        assert response.headers["x-watershed-target"].startswith("onprem/")
        clearances = [
            e for e in gateway.events(response.headers["x-request-id"]) if type(e).__name__ == "ClearanceEvent"
        ]
        assert len(gateway.cloud.calls) == 2
        assert len({c.clearance_id for c in clearances}) == 2
        assert [c.attempt for c in clearances] == [1, 2]


def test_with_the_on_prem_zone_down_what_must_stay_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, onprem_url="http://127.0.0.1:1/v1") as gateway:
        checks.control_canary_crosses(gateway)
        checks.nothing_widens(gateway)


@pytest.mark.parametrize("model", ["gpt-4o", "cloud", "auto", "deepseek-chat"])
def test_a_model_pin_widens_nothing(gateway: Running, model: str) -> None:
    checks.stays(gateway, {"model": model, "messages": [{"role": "user", "content": f"SSN {SSN}"}]}, SSN)


# --- law 4: no clearance, no crossing ----------------------------------------------------------------------------------


def test_each_crossing_has_its_clearance(gateway: Running) -> None:
    checks.nothing_crosses_uncleared(gateway)


def test_only_what_the_caller_wrote_crosses(gateway: Running) -> None:
    checks.headers_stay(gateway)


def test_a_body_without_identifiers_crosses_byte_for_byte(gateway: Running) -> None:
    raw = ('{ "model":"some-model",\n  "messages":[{"role":"user","content":"caf\\u00e9 ' + GENERAL + '"}]}').encode()
    assert gateway.post(raw).status_code == 200
    assert gateway.cloud.calls[-1].body == raw


# --- law 5: taint persists ---------------------------------------------------------------------------------------------


def test_taint_survives_a_dropped_turn(gateway: Running) -> None:
    checks.taint_persists(gateway)


def test_taint_survives_a_restart(tmp_path: Path) -> None:
    answer = "I can certainly help with that tax form of yours."
    with running(tmp_path) as gateway:
        gateway.onprem.answer = answer
        assert gateway.chat(f"My SSN is {SSN}.").headers["x-watershed-route"] == "onprem"
    history = [{"role": "assistant", "content": answer}, {"role": "user", "content": "Go on, please, I am listening."}]
    with running(tmp_path) as gateway:
        assert gateway.chat(messages=history).headers["x-watershed-route"] == "onprem"
        assert not gateway.cloud.calls


def test_taint_reaches_streamed_answers(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        gateway.onprem.answer = "Here is how such a number is usually checked"
        assert gateway.chat(f"My SSN is {SSN}.", stream=True).status_code == 200
        history = [
            {"role": "assistant", "content": gateway.onprem.answer + " "},
            {"role": "user", "content": "Thanks!"},
        ]
        assert gateway.chat(messages=history).headers["x-watershed-route"] == "onprem"


def test_a_conversation_that_was_never_sensitive_stays_general(gateway: Running) -> None:
    history = [
        {"role": "user", "content": GENERAL},
        {"role": "assistant", "content": "It is Paris, known for its museums."},
        {"role": "user", "content": "Which museum should I see first?"},
    ]
    assert gateway.chat(messages=history).headers["x-watershed-route"] == "cloud"


def test_tenants_do_not_taint_each_other(tmp_path: Path) -> None:
    from gateway.tenants import create_key
    from runtime.database import open_engine, sqlite_url

    with running(tmp_path) as gateway:
        engine = open_engine(sqlite_url(tmp_path))
        keys = {tenant: create_key(engine, tenant)[0] for tenant in ("red", "blue")}
        engine.dispose()
        bearer = {tenant: {"authorization": f"Bearer {key}"} for tenant, key in keys.items()}
        answer = gateway.chat(f"My SSN is {SSN}.", headers=bearer["red"]).json()["choices"][0]["message"]["content"]
        history = [{"role": "assistant", "content": answer}, {"role": "user", "content": "What else do you know?"}]
        assert gateway.chat(messages=history, headers=bearer["red"]).headers["x-watershed-route"] == "onprem"
        assert gateway.chat(messages=history, headers=bearer["blue"]).headers["x-watershed-route"] == "cloud"


# --- law 6: every request ends -----------------------------------------------------------------------------------------


def test_every_request_ends_once(gateway: Running) -> None:
    checks.ends_once(gateway)


def test_a_caller_who_leaves_stops_the_work(tmp_path: Path) -> None:
    left = threading.Event()

    async def trickle(request: Received, receive: Any, send: Any) -> None:
        import asyncio

        await start_stream(send)
        gone = asyncio.create_task(_disconnected(receive))
        while not gone.done():
            await send_event(send, {"content": "drip "})
            await asyncio.wait({gone}, timeout=0.02)
        left.set()

    with running(tmp_path) as gateway:
        for recorder, text in ((gateway.cloud, GENERAL), (gateway.onprem, f"SSN {SSN}")):
            left.clear()
            recorder.behaviour = trickle
            body = {"model": "auto", "messages": [{"role": "user", "content": text}], "stream": True}
            with gateway.client.stream("POST", "/v1/chat/completions", json=body) as response:
                request_id = response.headers["x-request-id"]
                next(response.iter_bytes())
            assert left.wait(5), "the upstream was not told"
            checks.wait_for(lambda request_id=request_id: len(gateway.closings(request_id)) == 1)
            assert gateway.closings(request_id)[0].outcome == "cancelled"


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def test_a_caller_who_leaves_a_whole_answer_stops_the_work_too(tmp_path: Path) -> None:
    asked, left = threading.Event(), threading.Event()

    async def silent(request: Received, receive: Any, send: Any) -> None:
        asked.set()
        await _disconnected(receive)
        left.set()

    with running(tmp_path) as gateway:
        for recorder, text in ((gateway.cloud, GENERAL), (gateway.onprem, f"SSN {SSN}")):
            asked.clear(), left.clear()
            recorder.behaviour = silent
            before = len(gateway.closings())
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(
                    f"{gateway.url}/v1/chat/completions",
                    json={"model": "auto", "messages": [{"role": "user", "content": text}]},
                    timeout=1.0,
                )
            assert asked.is_set()
            assert left.wait(5), "the upstream was not told"
            checks.wait_for(lambda before=before: len(gateway.closings()) == before + 1)
            assert gateway.closings()[-1].outcome == "cancelled"


def test_a_deadline_is_kept(tmp_path: Path) -> None:
    async def silent(request: Received, receive: Any, send: Any) -> None:
        await _disconnected(receive)

    with running(tmp_path) as gateway:
        gateway.onprem.behaviour = silent
        response = gateway.chat(f"SSN {SSN}", headers={"x-watershed-deadline-ms": "300"})
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline_exceeded"
        (closing,) = gateway.closings(response.headers["x-request-id"])
        assert closing.outcome == "expired"


def test_a_stream_that_breaks_ends_with_an_error_event(tmp_path: Path) -> None:
    async def broken(request: Received, receive: Any, send: Any) -> None:
        await start_stream(send)
        await send_event(send, {"content": "half "})
        raise ConnectionResetError

    with running(tmp_path) as gateway:
        gateway.cloud.behaviour = gateway.onprem.behaviour = broken
        for text in (GENERAL, f"SSN {SSN}"):
            response = gateway.chat(text, stream=True)
            assert response.status_code == 200
            last = [line for line in response.text.splitlines() if line.startswith("data:")][-1]
            assert json.loads(last[5:])["error"]["code"] == "answer_broken"


# --- law 7: the audit --------------------------------------------------------------------------------------------------


def test_the_decision_is_durable_before_the_cloud_is_called(tmp_path: Path) -> None:
    seen: list[int] = []
    with running(tmp_path) as gateway:

        async def look(request: Received, receive: Any, send: Any) -> None:
            seen.append(len([e for e in gateway.events() if type(e).__name__ in {"DecisionEvent", "ClearanceEvent"}]))
            await answer_chat(request, send, "x")

        gateway.cloud.behaviour = look
        gateway.chat(GENERAL)
    assert seen == [2]


def test_the_audit_says_what_was_found_and_not_what_was_said(gateway: Running) -> None:
    response = gateway.chat(f"My SSN is {SSN}, my note is plover-quartz.")
    (decision,) = gateway.decisions(response.headers["x-request-id"])
    assert isinstance(decision, DecisionEvent)
    assert (decision.route, decision.decision_id) == ("onprem", response.headers["x-watershed-decision"])
    assert {span.entity_type for span in decision.spans} == {"US_SSN"}
    stored = b"".join(p.read_bytes() for p in gateway.settings.state_dir.rglob("*") if p.is_file())
    assert SSN.encode() not in stored
    assert b"plover-quartz" not in stored
    assert decision.decision_id.encode() in stored


def test_a_callers_own_mark_taints_its_conversation(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        gateway.onprem.answer = "A rather private matter, I understand that."
        marked = gateway.chat("A matter between us two.", headers={"x-watershed-sensitivity": "confidential"})
        assert marked.headers["x-watershed-route"] == "onprem"
        history = [{"role": "assistant", "content": gateway.onprem.answer}, {"role": "user", "content": "And now?"}]
        assert gateway.chat(messages=history).headers["x-watershed-route"] == "onprem"


def test_a_stream_that_began_in_time_outlives_the_deadline(tmp_path: Path) -> None:
    async def slow(request: Received, receive: Any, send: Any) -> None:
        import asyncio

        await start_stream(send)
        for word in ("one ", "two ", "three "):
            await send_event(send, {"content": word})
            await asyncio.wait([asyncio.create_task(_disconnected(receive))], timeout=0.25)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    with running(tmp_path) as gateway:
        gateway.cloud.behaviour = gateway.onprem.behaviour = slow
        for text in (GENERAL, f"SSN {SSN}"):
            response = gateway.chat(text, stream=True, headers={"x-watershed-deadline-ms": "400"})
            assert response.text.count("data:") == 4
            assert "error" not in response.text


def test_without_an_audit_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit.log import AuditLog
    from runtime.errors import AuditError

    async def full(self: AuditLog, events: Any) -> Any:
        raise AuditError("the disk is full", retry_after_s=5)

    with running(tmp_path) as gateway:
        monkeypatch.setattr(AuditLog, "append_all", full)
        for text in (GENERAL, f"SSN {SSN}"):
            response = gateway.chat(text)
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "audit_unavailable"
        assert not gateway.cloud.calls
        assert not gateway.onprem.calls
        monkeypatch.undo()
        assert gateway.chat(GENERAL).status_code == 200


def test_a_language_that_was_not_evaluated_stays_and_taints(tmp_path: Path) -> None:
    question = "Как работает водораздел и почему реки текут в разные стороны от него?"
    with running(tmp_path) as gateway:
        gateway.onprem.answer = "A watershed parts the waters of two river basins."
        response = gateway.chat(question)
        assert response.headers["x-watershed-route"] == "onprem"
        assert response.headers["x-watershed-sensitivity"] == "restricted"
        history = [
            {"role": "assistant", "content": gateway.onprem.answer},
            {"role": "user", "content": "And in Europe?"},
        ]
        assert gateway.chat(messages=history).headers["x-watershed-route"] == "onprem"
        assert not gateway.cloud.calls
