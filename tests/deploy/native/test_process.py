"""A process is found again by pid and start time, and nobody else's is ever touched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from deploy.native import process
from deploy.native.driver import Launch
from deploy.native.process import Process, Record
from runtime.errors import ConfigurationError

READY = "import time, sys; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


def _launch(folder: Path, code: str) -> Launch:
    return Launch((sys.executable, "-c", code), cwd=folder, environment={"COLOUR": "blue"})


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[Process]:
    found = Process(tmp_path / "run" / "service.json")
    yield found
    found.stop(grace_s=0.2)


def _wait_for_output(log: Path) -> None:
    while not log.exists() or not log.read_text():
        os.sched_yield()


def test_it_runs_in_a_session_of_its_own_and_writes_to_its_log(managed: Process, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "service.log"
    pid = managed.start(_launch(tmp_path, READY), log)
    _wait_for_output(log)
    assert managed.pid == pid
    assert os.getsid(pid) == pid != os.getsid(0)
    assert log.read_text() == "up\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_starting_what_runs_changes_nothing(managed: Process, tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    first = managed.start(_launch(tmp_path, READY), log)
    assert managed.start(_launch(tmp_path, READY), log) == first


def test_another_command_finds_it_by_its_record(managed: Process, tmp_path: Path) -> None:
    pid = managed.start(_launch(tmp_path, READY), tmp_path / "service.log")
    assert Process(managed.path).pid == pid


def test_a_recycled_pid_is_not_ours_and_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", READY], stdout=subprocess.DEVNULL)
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        path = tmp_path / "service.json"
        path.write_bytes(msgspec.json.encode(Record(stranger.pid, 1, boot_id)))
        assert Process(path).pid is None
        assert Process(path).stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_record_from_before_the_last_boot_is_nobody(tmp_path: Path) -> None:
    path = tmp_path / "service.json"
    path.write_bytes(msgspec.json.encode(Record(os.getpid(), 1, "another boot")))
    assert Process(path).pid is None


def test_it_ends_at_sigterm(managed: Process, tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    managed.start(_launch(tmp_path, READY), log)
    _wait_for_output(log)
    assert managed.stop()
    assert managed.pid is None
    assert not managed.path.exists()


def test_one_that_ignores_sigterm_is_killed_after_its_grace(managed: Process, tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    pid = managed.start(_launch(tmp_path, STUBBORN), log)
    _wait_for_output(log)
    assert not managed.stop(grace_s=0.1)
    assert managed.pid is None
    assert process.resident_mb(pid) == 0


def test_a_program_that_is_missing_is_named(managed: Process, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no-such-program"):
        managed.start(Launch(("no-such-program",), cwd=tmp_path), tmp_path / "service.log")
