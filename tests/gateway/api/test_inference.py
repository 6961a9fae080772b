"""The hot endpoint over HTTP: admission, limits, headers, errors in OpenAI's shape."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.laws.checks import GENERAL, SSN
from tests.support.running import Running, running

OURS = (
    "x-request-id",
    "x-watershed-route",
    "x-watershed-sensitivity",
    "x-watershed-decision",
    "x-watershed-policy",
    "x-watershed-target",
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("state"), max_body_bytes=20_000) as started:
        yield started


def error_of(response: httpx.Response, status: int, code: str) -> dict[str, str | None]:
    """The error, in OpenAI's shape and with the headers of ours."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error: dict[str, str | None] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert all(name in response.headers for name in OURS)
    return error


def test_every_answer_carries_our_headers(gateway: Running) -> None:
    for response in (gateway.chat(GENERAL), gateway.chat(GENERAL, stream=True), gateway.client.get("/v1/models")):
        assert all(response.headers[name] for name in OURS)
    assert gateway.chat(GENERAL).headers["x-watershed-decision"].startswith("dec-")


def test_a_request_id_is_never_given_twice(gateway: Running) -> None:
    assert len({gateway.chat("x").headers["x-request-id"] for _ in range(20)}) == 20


def test_a_body_over_the_limit_is_refused_whether_or_not_its_length_is_stated(gateway: Running) -> None:
    large = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "x" * 30_000}]}).encode()
    error_of(gateway.post(large), 413, "payload_too_large")

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(large), 1000):
            yield large[start : start + 1000]

    response = gateway.client.post(
        "/v1/chat/completions", content=pieces(), headers={"content-type": "application/json"}
    )
    error_of(response, 413, "payload_too_large")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-encoding": "gzip"}, "content_encoding"),
        ({"content-type": "text/plain"}, "content_type"),
        ({"content-type": "application/json; charset=latin-1"}, "not_utf8"),
        ({"x-watershed-deadline-ms": "0"}, "invalid_header"),
        ({"x-watershed-deadline-ms": "soon"}, "invalid_header"),
        ({"x-watershed-deadline-ms": "600001"}, "invalid_header"),
        ({"x-watershed-deadline-ms": "9" * 5000}, "invalid_header"),
        ({"x-watershed-sensitivity": "secret"}, "invalid_header"),
        ({"x-watershed-purpose": "a b"}, "invalid_header"),
        ({"x-watershed-dry-run": "maybe"}, "invalid_header"),
    ],
)
def test_headers_that_do_not_say_what_they_may_are_refused(
    gateway: Running, headers: dict[str, str], code: str
) -> None:
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "x"}]}).encode()
    error_of(gateway.post(body, headers), 400, code)


def test_a_header_of_ours_that_stands_twice_is_refused(gateway: Running) -> None:
    response = gateway.client.post(
        "/v1/chat/completions",
        json={"model": "auto", "messages": [{"role": "user", "content": "x"}]},
        headers=[("x-watershed-sensitivity", "public"), ("x-watershed-sensitivity", "restricted")],
    )
    error_of(response, 400, "duplicate_header")


def test_a_charset_that_is_utf8_is_fine(gateway: Running) -> None:
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": GENERAL}]}).encode()
    assert gateway.post(body, {"content-type": 'application/json; charset="UTF-8"'}).status_code == 200


def test_a_callers_hint_tightens(gateway: Running) -> None:
    response = gateway.chat(GENERAL, headers={"x-watershed-sensitivity": "restricted"})
    assert response.headers["x-watershed-route"] == "onprem"
    response = gateway.chat(f"SSN {SSN}", headers={"x-watershed-sensitivity": "public"})
    assert response.headers["x-watershed-route"] == "onprem"


def test_other_paths_and_methods_are_not_there(gateway: Running) -> None:
    for path in (
        "/",
        "/v1/unknown",
        "/v1/chat",
        "/v1/chat/completions/x",
        "/docs",
        "/openapi.json",
        "/metrics",
        "/admin",
    ):
        error_of(gateway.client.get(path), 404, "unknown_path")
    error_of(gateway.client.get("/v1/chat/completions"), 405, "method_not_allowed")
    error_of(gateway.client.post("/v1/models"), 405, "method_not_allowed")


def test_health_is_open_and_metrics_are_on_the_operators_port(gateway: Running) -> None:
    gateway.chat(GENERAL)
    assert gateway.client.get("/healthz").json() == {"status": "ok"}
    assert gateway.client.get("/readyz").json() == {"status": "ready", "missing": []}
    metrics = httpx.get(f"{gateway.admin_url}/metrics").text
    assert 'watershed_requests_total{endpoint="chat.completions",route="cloud",status="200"}' in metrics
    assert "watershed_request_duration_seconds_bucket" in metrics
    assert httpx.get(f"{gateway.admin_url}/healthz").status_code == 200
    assert httpx.get(f"{gateway.admin_url}/v1/models").status_code == 404


def test_a_tenant_over_its_rate_is_told_when_to_come_back(tmp_path: Path) -> None:
    with running(tmp_path, requests_per_minute=2) as gateway:
        assert [gateway.chat("x").status_code for _ in range(2)] == [200, 200]
        response = gateway.chat(f"SSN {SSN}")
        error_of(response, 429, "rate_limit_exceeded")
        assert 1 <= int(response.headers["retry-after"]) <= 30
        assert int(response.headers["retry-after-ms"]) <= 30_000
        assert len(gateway.decisions()) == 2, "a refused request was classified"


def test_a_policy_that_rejects_says_by_which_rule(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "policy: {name: strict, version: '1'}\ndefaults: {outcome: cloud}\n"
        "rules:\n  - {id: no-cards, title: Cards are not for models., when: {category: pci}, outcome: reject}\n"
    )
    with running(tmp_path / "state", policy=policy) as gateway:
        response = gateway.chat("Refund card 4111 1111 1111 1111.")
        error = error_of(response, 403, "policy_refused")
        assert error["message"] is not None
        assert "no-cards" in error["message"]
        assert "4111" not in response.text
        assert response.headers["x-watershed-route"] == "reject"
        assert response.headers["x-watershed-policy"].startswith("unsigned:strict")
        assert not gateway.cloud.calls
        assert not gateway.onprem.calls


def test_values_that_policy_edits_out_cross_without_them(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "policy: {name: masked, version: '1'}\ndefaults: {outcome: cloud}\n"
        "rules:\n"
        "  - id: mails-masked\n    title: Addresses cross redacted.\n    when: {finding: {type: EMAIL}}\n"
        "    outcome: {recipients: [onprem, cloud], edits: {EMAIL: redact}}\n"
        "  - {id: ids-stay, title: Identity numbers stay., when: {finding: {type: US_SSN}}, outcome: onprem}\n"
    )
    with running(tmp_path / "state", policy=policy) as gateway:
        response = gateway.chat("Write to ann.lee@corp-mail.com about the lease.")
        assert response.headers["x-watershed-route"] == "cloud_pseudonymised"
        assert gateway.cloud.calls[-1].json["messages"][0]["content"] == "Write to [EMAIL] about the lease."
        response = gateway.chat("x", metadata={"ann.lee@corp-mail.com": "key"})
        assert response.headers["x-watershed-route"] == "onprem", "a name cannot be edited, so it stays"
        response = gateway.chat(f"Write to ann.lee@corp-mail.com, SSN {SSN}.")
        assert response.headers["x-watershed-route"] == "onprem"
        assert not gateway.cloud.saw("ann.lee")
        assert not gateway.cloud.saw(SSN)


def test_a_policy_that_changes_is_in_force_at_once(tmp_path: Path) -> None:
    from tests.laws.checks import wait_for

    policy = tmp_path / "policy.yaml"
    text = "policy: {name: p, version: '1'}\ndefaults: {outcome: cloud}\nrules:\n  - {id: r, title: T., when: {category: pci}, outcome: onprem}\n"
    policy.write_text(text)
    with running(tmp_path / "state", policy=policy) as gateway:
        assert gateway.chat(GENERAL).headers["x-watershed-route"] == "cloud"
        policy.write_text(text.replace("outcome: cloud", "outcome: onprem").replace("'1'", "'2'"))
        wait_for(lambda: gateway.chat(GENERAL).headers["x-watershed-route"] == "onprem", 10)
        policy.write_text("rules: [nonsense")
        assert gateway.chat(GENERAL).headers["x-watershed-policy"].startswith("unsigned:p@2")


def test_the_model_is_the_routes_own_where_the_callers_is_not_served(tmp_path: Path) -> None:
    with running(tmp_path, cloud_model="cloud-model") as gateway:
        gateway.onprem.models = ["home-model", "other"]
        gateway.chat(f"SSN {SSN}", model="gpt-4o")
        assert gateway.onprem.calls[-1].json["model"] == "home-model"
        gateway.chat(f"SSN {SSN}", model="other")
        assert gateway.onprem.calls[-1].json["model"] == "other"
        gateway.chat(GENERAL, model="auto")
        assert gateway.cloud.calls[-1].json["model"] == "cloud-model"
        gateway.chat(GENERAL, model="gpt-4o")
        assert gateway.cloud.calls[-1].json["model"] == "gpt-4o"
        before = len(gateway.cloud.calls)
        gateway.chat(GENERAL, model="home-model")
        assert len(gateway.cloud.calls) == before, "a model served at home is a pin to that zone"


def test_keys_of_the_zones_are_sent_and_never_the_callers(tmp_path: Path) -> None:
    for name in ("cloud", "onprem"):
        (tmp_path / name).write_text(f"sk-{name}\n")
        (tmp_path / name).chmod(0o600)
    with running(tmp_path / "s", cloud_key_file=tmp_path / "cloud", onprem_key_file=tmp_path / "onprem") as gateway:
        headers = {"authorization": "Bearer callers-own"}
        gateway.chat(GENERAL, headers=headers)
        gateway.chat(f"SSN {SSN}", headers=headers)
        assert ("authorization", "Bearer sk-cloud") in gateway.cloud.calls[-1].headers
        assert ("authorization", "Bearer sk-onprem") in gateway.onprem.calls[-1].headers
        assert not gateway.cloud.saw("callers-own")
        assert not gateway.onprem.saw("callers-own")


def test_a_provider_that_refuses_our_key_is_not_the_callers_fault(tmp_path: Path) -> None:
    from typing import Any

    from tests.support.recorder import Received, respond

    async def unauthorised(_: Received, __: Any, send: Any) -> None:
        await respond(send, 401, {"error": {"message": "bad key sk-123"}})

    with running(tmp_path) as gateway:
        gateway.cloud.behaviour = unauthorised
        error = error_of(gateway.chat(GENERAL), 502, "upstream_credentials")
        assert "sk-123" not in str(error)


def test_bytes_that_are_no_http_do_no_harm(gateway: Running) -> None:
    port = httpx.URL(gateway.url).port
    for junk in (
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
            raw.sendall(junk)
            raw.shutdown(socket.SHUT_WR)
            raw.recv(1000)
    assert gateway.chat(GENERAL).status_code == 200
