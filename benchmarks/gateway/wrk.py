"""One run of wrk: its command, and the line of figures that ``load.lua`` prints at its end."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from benchmarks.gateway.process import clean_environment
from benchmarks.mock.build import MissingToolError

_SCRIPT = Path(__file__).with_name("load.lua")
_MARK = "figures "
REQUEST_TIMEOUT_S = 30


class LoadError(Exception):
    """wrk failed, or its output has no figures."""


class Figures(msgspec.Struct, frozen=True):
    """What one run of wrk saw. Latencies in microseconds; ``status_errors`` are answers with a status over 399."""

    requests: int
    duration_us: int
    bytes: int
    p50_us: int
    p99_us: int
    max_us: int
    connect_errors: int
    read_errors: int
    write_errors: int
    status_errors: int
    timeouts: int

    @property
    def rps(self) -> float:
        """Good answers a second."""
        return (self.requests - self.status_errors) / (self.duration_us / 1e6)

    @property
    def errors(self) -> int:
        return self.connect_errors + self.read_errors + self.write_errors + self.status_errors + self.timeouts


def parse(output: str) -> Figures:
    """The figures in wrk's output.

    Raises:
        LoadError: there are none.
    """
    for line in output.splitlines():
        if line.startswith(_MARK):
            return msgspec.json.decode(line.removeprefix(_MARK), type=Figures)
    raise LoadError(f"wrk printed no figures: {output.strip()[-400:]}")


def wrk_path() -> str:
    """Where wrk is. Raises MissingToolError."""
    found = shutil.which("wrk")
    if found is None:
        raise MissingToolError("wrk is not installed (Debian: apt-get install wrk)")
    return found


def run(
    url: str, *, bodies: Path, headers: Mapping[str, str], cell: int, concurrency: int, seconds: int, core: int
) -> Figures:
    """Load ``url`` with ``concurrency`` connections, each with one request in flight, for ``seconds``.

    Raises:
        LoadError: wrk failed.
        MissingToolError: wrk is not installed.
    """
    command = ["taskset", "-c", str(core), wrk_path(), "-t1", f"-c{concurrency}", f"-d{seconds}s"]
    command += [f"--timeout={REQUEST_TIMEOUT_S}s", "-s", str(_SCRIPT), url, "--", str(bodies), str(cell)]
    command += [f"{name}={value}" for name, value in headers.items()]
    limit_s = seconds + REQUEST_TIMEOUT_S + 10
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, env=clean_environment({}), check=False
        )
    except subprocess.TimeoutExpired:
        raise LoadError(f"wrk did not end within {limit_s} s") from None
    if ended.returncode != 0:
        raise LoadError(f"wrk ended with {ended.returncode}: {(ended.stderr or ended.stdout).strip()[-400:]}")
    return parse(ended.stdout)
