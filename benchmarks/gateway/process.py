"""Processes pinned to a core, and what Linux says they used."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Byte code is cached and output buffered for all alike, whatever the calling shell says.
_UNSET = (
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONUNBUFFERED",
    "PYTHONPATH",
    "http_proxy",
    "https_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
)
STOP_S = 15.0


class NotReadyError(Exception):
    """A process ended, or said nothing in time; the message carries the end of its log."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _UNSET} | dict(extra)


class Pinned:
    """One command on one core, with its children; its output goes to ``log``."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        taskset = shutil.which("taskset") or "taskset"
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [taskset, "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=clean_environment(environment or {}),
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait for ``ready``.

        Raises:
            NotReadyError: the process ended first, or ``timeout_s`` passed.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self._process.poll() is not None:
                raise NotReadyError(f"ended with {self._process.returncode}: {self._tail()}")
            if time.monotonic() > deadline:
                raise NotReadyError(f"not ready after {timeout_s:.0f} s: {self._tail()}")
            time.sleep(0.1)

    def cpu_s(self) -> float:
        """Processor seconds, user and system, of the process and its living descendants."""
        return sum(_cpu_ticks(pid) for pid in _family(self.pid)) / _TICKS_PER_S

    def rss_mb(self) -> float:
        """Resident memory of the process and its descendants, in 10^6 bytes."""
        return sum(_rss_pages(pid) for pid in _family(self.pid)) * _PAGE_BYTES / 1e6

    def stop(self) -> None:
        """SIGTERM to the process group, SIGKILL after ``STOP_S``."""
        if self._process.poll() is not None:
            return
        os.killpg(self.pid, signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def _tail(self) -> str:
        return " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-4:])[-600:]


def _family(pid: int) -> list[int]:
    found = [pid]
    for member in found:
        for task in _entries(Path(f"/proc/{member}/task")):
            children = _read(task / "children")
            found.extend(int(child) for child in children.split())
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it ended in the meantime
        return ""


def _cpu_ticks(pid: int) -> int:
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]) if fields else 0


def _rss_pages(pid: int) -> int:
    fields = _read(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) if fields else 0
