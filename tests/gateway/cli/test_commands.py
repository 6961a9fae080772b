"""The command line as other programs call it: real processes, exit codes, JSON."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.recorder import Received, recording

pytestmark = pytest.mark.system


def watershed(*arguments: str, state: Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        env=os.environ | {"WATERSHED_STATE_DIR": str(state)},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_command_and_loads_nothing_heavy(tmp_path: Path) -> None:
    done = watershed("--help", state=tmp_path)
    assert done.returncode == 0
    for command in ("serve", "classify", "policy", "audit", "keys", "migrate", "demo"):
        assert command in done.stdout
    code = "import sys, gateway.cli; print([m for m in ('fastapi', 'sqlalchemy', 'hyperscan', 'torch', 'pydantic', 'rich') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert loaded.stdout.strip() == "[]"


def test_classify_keeps_objects_order_and_offsets(tmp_path: Path) -> None:
    rows = [
        {"text": "My SSN is 536-22-8726.", "id": 7},
        {"text": "Name three rivers.", "extra": {"deep": [1]}},
        {"text": "😀 身份证号 11010519491231002X"},
        {"text": ""},
        {"text": "half \ud800 a pair"},
    ]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    done = watershed("classify", "--input", str(source), "--output", str(target), state=tmp_path)
    assert done.returncode == 0, done.stderr
    labelled = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [{k: v for k, v in row.items() if k in before} for row, before in zip(labelled, rows, strict=True)] == rows
    assert [row["sensitivity"] for row in labelled] == ["restricted", "public", "restricted", "public", "public"]
    (finding,) = labelled[2]["findings"]
    assert set(finding) == {"entity_type", "start", "end", "score", "detector"}
    assert rows[2]["text"][finding["start"] : finding["end"]] == "11010519491231002X"  # type: ignore[index]
    assert labelled[0]["categories"] == ["pii"]


def test_classify_reads_and_writes_pipes_and_explains(tmp_path: Path) -> None:
    done = watershed("classify", "--explain", state=tmp_path, stdin='{"text": "SSN 536-22-8726"}\n')
    (explanation,) = json.loads(done.stdout)["explanations"]
    assert explanation["detector"] == "us_ssn"
    assert explanation["source"]


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"txt": "x"}', '{"text": 5}'])
def test_classify_names_the_line_that_is_wrong(tmp_path: Path, line: str) -> None:
    done = watershed("classify", state=tmp_path, stdin='{"text": "fine"}\n' + line + "\n")
    assert done.returncode == 2
    assert "line 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_policy_lint_and_test_say_where(tmp_path: Path) -> None:
    good = watershed("policy", "lint", "policies/sets", state=tmp_path)
    assert (good.returncode, good.stdout) == (0, "")
    tested = watershed("policy", "test", "policies/sets", state=tmp_path)
    assert tested.returncode == 0
    assert tested.stdout.splitlines()[-1].endswith("passed, 0 failed")
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "policy: {name: x, version: '1'}\nrules:\n  - {id: r, title: T, when: {not: {category: pii}}, outcome: cloud}\n"
    )
    linted = watershed("policy", "lint", str(bad), state=tmp_path)
    assert linted.returncode == 1
    path, line, column, _ = linted.stdout.splitlines()[0].split(":", 3)
    assert (path, line) == (str(bad), "3")
    assert column.isdigit()
    assert watershed("policy", "test", str(bad), state=tmp_path).returncode == 1
    assert watershed("policy", "lint", str(tmp_path / "none.yaml"), state=tmp_path).returncode == 1


def test_keys_are_made_listed_rotated_and_revoked(tmp_path: Path) -> None:
    made = json.loads(watershed("keys", "create", "--tenant", "bank", "--json", state=tmp_path).stdout)
    assert made["key"].startswith("ws-")
    assert made["tenant"] == "bank"
    rotated = json.loads(
        watershed("keys", "rotate", made["id"], "--overlap-hours", "1", "--json", state=tmp_path).stdout
    )
    assert rotated["replaces"] == made["id"]
    assert watershed("keys", "revoke", rotated["id"], state=tmp_path).returncode == 0
    listed = {row["id"]: row["valid"] for row in json.loads(watershed("keys", "list", "--json", state=tmp_path).stdout)}
    assert listed == {made["id"]: True, rotated["id"]: False}
    refused = watershed("keys", "create", "--tenant", "a b", state=tmp_path)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "0.0.0.0"), "needs --tls-cert"),
        (("--onprem-url", "http://8.8.8.8/v1"), "public address"),
        (("--onprem-url", "http://10.0.0.1/v1"), "not loopback"),
        (("--cloud-url", "nonsense"), "http"),
        (("--policy", "/nonexistent.yaml"), "/nonexistent.yaml:1:1"),
        (("--port", "99999"), "port"),
        (("--tls-cert", "/nonexistent.pem"), "go together"),
    ],
)
def test_serve_refuses_to_start_wrong(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = watershed("serve", "--port", "0", *arguments, state=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@contextlib.contextmanager
def serving(state: Path, cloud_url: str, onprem_url: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A gateway process and its base URL; ended by SIGTERM unless it has ended."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gateway.cli",
            "serve",
            "--port",
            "0",
            "--cloud-url",
            cloud_url,
            "--onprem-url",
            onprem_url,
        ],
        env=os.environ | {"WATERSHED_STATE_DIR": str(state)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        first = process.stderr.readline()
        assert first.startswith("Watershed listens on http://127.0.0.1:")
        yield first.split()[3], process
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()


def test_serve_answers_stops_on_sigterm_and_leaves_an_audit_that_verifies(tmp_path: Path) -> None:
    with recording() as cloud, recording() as onprem, serving(tmp_path, cloud.url, onprem.url) as (url, process):
        body = {"model": "auto", "messages": [{"role": "user", "content": "Name three rivers."}]}
        response = httpx.post(f"{url}/chat/completions", json=body, timeout=20)
        assert response.headers["x-watershed-route"] == "cloud"
        assert "server" not in response.headers
        second = watershed("serve", "--port", "0", state=tmp_path)
        assert second.returncode == 2, "two gateways shared one state folder"
    assert process.returncode == 0
    verified = watershed("audit", "verify", "--json", state=tmp_path)
    assert verified.returncode == 0, verified.stdout
    events = [json.loads(line) for line in watershed("audit", "tail", "--json", state=tmp_path).stdout.splitlines()]
    assert [event["type"] for event in events][-3:] == ["decision", "clearance", "closing"]
    one = watershed("audit", "tail", "--request", response.headers["x-request-id"], state=tmp_path)
    assert len(one.stdout.splitlines()) == 3
    segment = next(
        path for path in (tmp_path / "audit").rglob("*") if path.is_file() and b"decision" in path.read_bytes()
    )
    content = segment.read_bytes()
    segment.write_bytes(content.replace(b'"route":"cloud"', b'"route":"onpre"', 1))
    assert watershed("audit", "verify", state=tmp_path).returncode == 1


def test_a_gateway_that_is_killed_closes_its_open_requests_when_it_comes_back(tmp_path: Path) -> None:
    arrived = threading.Event()

    async def silent(_: Received, receive: Any, __: Any) -> None:
        arrived.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    with recording() as cloud, recording() as onprem:
        cloud.behaviour = silent
        with serving(tmp_path, cloud.url, onprem.url) as (url, process):
            body = {"model": "auto", "messages": [{"role": "user", "content": "Name three rivers."}]}

            def call() -> None:
                with contextlib.suppress(httpx.HTTPError):
                    httpx.post(f"{url}/chat/completions", json=body, timeout=20)

            caller = threading.Thread(target=call)
            caller.start()
            assert arrived.wait(15)
            process.kill()
            process.wait(10)
            caller.join(10)
        cloud.behaviour = None
        with serving(tmp_path, cloud.url, onprem.url):
            events = [
                json.loads(line) for line in watershed("audit", "tail", "--json", state=tmp_path).stdout.splitlines()
            ]
    closings = [event for event in events if event["type"] == "closing"]
    assert [closing["outcome"] for closing in closings] == ["interrupted"]
    assert watershed("audit", "verify", state=tmp_path).returncode == 0
