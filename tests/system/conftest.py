"""Stacks for system tests, started by the command line, between two recording upstreams; one small one for most."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from deploy import topology
from deploy.native import packages
from deploy.native.drivers import DRIVERS
from deploy.native.supervisor import Supervisor, open_stack
from deploy.native.watershed import operator_settings_file
from deploy.site import Site
from deploy.topology import Topology
from tests.support.recorder import Recorder, recording

TENANT = "tenant-of-the-system-tests"
UP_S = 280


def watershed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with no settings but these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WATERSHED_")}
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=UP_S,
        check=False,
    )


@dataclass
class Stack:
    """A running stack and what stands around it."""

    state_dir: Path
    supervisor: Supervisor
    cloud: Recorder
    onprem: Recorder
    flags: tuple[str, ...]
    key: str = ""

    @property
    def site(self) -> Site:
        return self.supervisor.site

    @property
    def url(self) -> str:
        return f"https://{self.site.address(self.site.topology['haproxy'], 'https')}/v1"

    def operate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command about the stack, as its operator calls it."""
        return watershed(*arguments, WATERSHED_CONFIG=str(operator_settings_file(self.site)))

    def up(self) -> subprocess.CompletedProcess[str]:
        """``watershed up``, which starts what is missing."""
        return watershed(
            *("up", *self.flags, "--json", "--cloud-url", self.cloud.url, "--onprem-url", self.onprem.url),
            WATERSHED_STATE_DIR=str(self.state_dir),
        )

    def pid(self, name: str) -> int:
        pid = self.supervisor.process(self.site.topology[name]).pid
        assert pid is not None, f"{name} does not run"
        return pid

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.site.files("haproxy").ca))

    def sdk(self, **options: Any) -> openai.OpenAI:
        http = httpx.Client(verify=self.tls(), trust_env=False)
        return openai.OpenAI(
            **({"base_url": self.url, "api_key": self.key, "http_client": http, "max_retries": 0} | options)
        )

    def ask(self, text: str, *, stream: bool = False, **fields: Any) -> tuple[str, str]:
        """The route that one question took, and its answer."""
        raw = self.sdk().chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": text}], stream=stream, **fields
        )
        answer: Any = raw.parse()
        if stream:
            return raw.headers["x-watershed-route"], "".join(c.choices[0].delta.content or "" for c in answer)
        return raw.headers["x-watershed-route"], answer.choices[0].message.content

    def target(self, text: str) -> str:
        """Where a question was answered in the end."""
        raw = self.sdk().chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": text}]
        )
        return raw.headers["x-watershed-target"].partition("/")[0]


def wait_for(condition: Callable[[], bool], what: str, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.1)


def kill(stack: Stack, name: str) -> None:
    """SIGKILL, and until it is gone."""
    process = stack.supervisor.process(stack.site.topology[name])
    os.kill(stack.pid(name), signal.SIGKILL)
    wait_for(lambda: process.pid is None, f"{name} is gone")


@contextmanager
def started(state_dir: Path, shape: Topology, *flags: str) -> Iterator[Stack]:
    """``watershed up`` with ``flags``, which make ``shape``; wiped afterwards."""
    if absent := packages.missing(r for service in shape for r in DRIVERS[service.kind].requirements()):
        pytest.skip(f"the native stack needs:\n{packages.describe(absent)}")
    with (
        recording(answer="Answered in the cloud, in some words.") as cloud,
        recording(answer="Answered at home, and remembered there as well.") as onprem,
    ):
        supervisor = open_stack(state_dir, shape, lambda line: None)
        stack = Stack(state_dir, supervisor, cloud, onprem, flags)
        try:
            up = stack.up()
            assert up.returncode == 0, up.stderr
            # The command chose the ports.
            stack.supervisor = open_stack(state_dir, None, lambda line: None)
            made = stack.operate("keys", "create", "--tenant", TENANT, "--json")
            assert made.returncode == 0, made.stderr
            stack.key = json.loads(made.stdout)["key"]
            # A worker is healthy before its group has given it partitions.
            wait_for(lambda: stack.target("Name a river.") == "cloud", "the first answer from the cloud")
            yield stack
        finally:
            stack.supervisor.down(wipe=True)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with started(tmp_path_factory.mktemp("stack"), topology.small(), "--small") as small:
        yield small
