"""What the driver asks of a peer: install it, how to start it, when it is ready, what to send it.

install() ─▶ version      command() ─▶ process      ready() ─▶ True      body(…) ─▶ load      evidence(…)
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmarks.gateway.process import clean_environment

INSTALL_S = 600
PROBE_S = 10
Json = dict[str, object]


class InstallError(Exception):
    """A peer could not be installed; it is reported as such and the run goes on."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one peer runs: ``installed`` is kept between runs, ``scratch`` is empty and thrown away."""

    installed: Path
    scratch: Path
    upstream_url: str
    port: int

    @property
    def log(self) -> Path:
        return self.scratch / "log.txt"


class Peer(ABC):
    """One gateway in front of the mock upstream.

    Attributes:
        name: its key in results and for ``--only``.
        title: its name in tables.
        looks_at: what it does with a request besides forwarding.
        ready_s: how long it may take to start.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    looks_at: ClassVar[str] = "nothing"
    ready_s: ClassVar[float] = 30

    def __init__(self, place: Place) -> None:
        self.place = place

    @abstractmethod
    def install(self) -> str:
        """Install it where it is not there yet; its version. Raises InstallError."""

    @abstractmethod
    def command(self) -> list[str]:
        """Its process, after writing what configuration it needs; empty for none."""

    def environment(self) -> dict[str, str]:
        return {}

    @property
    def url(self) -> str:
        """Where chat completions are posted."""
        return f"http://127.0.0.1:{self.place.port}/v1/chat/completions"

    @property
    def headers(self) -> Mapping[str, str]:
        return {}

    def body(self, messages: Sequence[Mapping[str, str]], *, stream: bool) -> Json:
        """One request. Temperature and token limit are what an application usually sends."""
        body: Json = {"model": self.model, "messages": list(messages), "temperature": 0.7, "max_tokens": 256}
        return body | {"stream": True} if stream else body

    @property
    def model(self) -> str:
        return "mock"

    def ready(self) -> bool:
        """Whether it answers a chat completion, whole."""
        status, _ = self.ask([{"role": "user", "content": "How does bread rise?"}])
        return status == 200

    def ask(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, Mapping[str, str]]:
        """Status and headers of one request; status 0 where nothing answers."""
        data = json.dumps(self.body(messages, stream=False)).encode()
        headers = {"content-type": "application/json"} | dict(self.headers)
        try:
            request = urllib.request.Request(self.url, data, headers)
            with urllib.request.urlopen(request, timeout=PROBE_S) as response:
                response.read()
                return response.status, {name.lower(): value for name, value in response.headers.items()}
        except urllib.error.HTTPError as error:
            return error.code, {}
        except (OSError, ValueError):
            return 0, {}

    def evidence(self, answered: int, cut_off: int) -> Json:
        """What it can show of its work once it has stopped: ``answered`` good answers, at most ``cut_off`` more begun."""
        return {}


def pip_install(folder: Path, packages: Sequence[str], distribution: str) -> str:
    """A virtual environment of its own with ``packages``, made once; the version of ``distribution`` in it.

    Raises:
        InstallError: pip failed.
    """
    python = folder / "bin" / "python"
    wanted = "\n".join(packages)
    stamp = folder / "installed.txt"
    if not stamp.is_file() or stamp.read_text() != wanted:
        run_install([sys.executable, "-m", "venv", "--clear", str(folder)])
        run_install([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
        stamp.write_text(wanted)
    script = f"from importlib.metadata import version; print(version({distribution!r}))"
    return run_install([str(python), "-c", script]).strip()


def run_install(command: Sequence[str], folder: Path | None = None) -> str:
    """Run one step of an installation; its output. Raises InstallError."""
    environment = clean_environment({})
    try:
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=INSTALL_S, check=True
        )
    except subprocess.CalledProcessError as error:
        raise InstallError(f"{command[0]} ended with {error.returncode}: {error.stderr.strip()[-300:]}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{command[0]}: {type(error).__name__}") from None
    return ended.stdout
