"""A gateway killed at full load, and a disk that takes no more: what was acknowledged is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.event import AdminEvent, ClosingEvent, DecisionEvent
from audit.query import events
from audit.segment import segments
from tests.audit.conftest import Bench

ROOT = Path(__file__).parents[2]

OPEN = """
import asyncio, resource, sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from runtime.errors import AuditError
from runtime.telemetry import set_up_logging
from tests.audit.conftest import Bench, decision
set_up_logging()
key = Ed25519PrivateKey.from_private_bytes(bytes(32))
bench = Bench(Path(sys.argv[1]), key, key, key)
"""

FULL_LOAD = """
async def caller(log, number):
    while True:
        receipt = await log.append(decision(number))
        print(receipt.index, number, flush=True)
        number += 64
async def main():
    log = bench.open()
    await asyncio.gather(*(caller(log, number) for number in range(64)))
asyncio.run(main())
"""

FULL_DISK = """
async def main():
    log = bench.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    number = 0
    try:
        while True:
            receipt = await log.append(decision(number))
            print(receipt.index, number)
            number += 1
    except AuditError as error:
        print("refused", error.code, log.healthy, log.reason)
    try:
        await log.append(decision(number))
    except AuditError as error:
        print("refused", error.code, log.healthy, log.reason)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        await log.append(decision(number))
    except AuditError as error:
        print("refused", error.code, log.healthy, log.reason)
    await log.aclose()
asyncio.run(main())
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    return Bench(tmp_path, key, key, key)


def start(script: str, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", OPEN + script, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def stored(bench: Bench) -> dict[int, str]:
    """Request ids of the decisions by their indices."""
    return {i: event.request_id for _, i, event in events(bench.root) if isinstance(event, DecisionEvent)}


@pytest.mark.system
async def test_every_event_acknowledged_before_a_kill_is_there_and_its_request_ends_as_interrupted(
    bench: Bench,
) -> None:
    acknowledged: dict[int, str] = {}
    with start(FULL_LOAD, bench.folder) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                break
            index, number = map(int, line.split())
            acknowledged[index] = f"req-{number:06}"
            if len(acknowledged) == 2000:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    log = bench.open()
    await log.aclose()
    found = stored(bench)
    assert len(acknowledged) >= 2000
    assert {index: found.get(index) for index in acknowledged} == acknowledged
    interrupted = {
        event.request_id
        for _, _, event in events(bench.root)
        if isinstance(event, ClosingEvent) and event.outcome == "interrupted"
    }
    assert interrupted == set(found.values())
    assert bench.verify().ok


@pytest.mark.system
async def test_a_disk_that_takes_no_more_stops_the_log_for_good_and_loses_nothing_acknowledged(bench: Bench) -> None:
    with start(FULL_DISK, bench.folder) as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    lines = output.splitlines()
    acknowledged = {int(i): f"req-{int(n):06}" for i, n in (line.split() for line in lines[:-3])}
    assert lines[-3:] == ["refused audit_write_failed False audit_write_failed"] * 3
    assert len(acknowledged) > 50
    assert segments(next(bench.root.glob("log-*")))[0].stat().st_size == 100_000  # a half-written record at its end
    log = bench.open()
    await log.aclose()
    assert stored(bench) == acknowledged
    noted = [
        event for _, _, event in events(bench.root) if isinstance(event, AdminEvent) and event.action == "log.continued"
    ]
    assert int(dict(noted[0].detail)["torn_bytes"]) > 0
    assert bench.verify().ok
