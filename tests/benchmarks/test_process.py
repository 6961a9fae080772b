from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.gateway.process import NotReadyError, Pinned, clean_environment

pytestmark = pytest.mark.system

_BUSY_CHILD = """\
import os, subprocess, sys, time
if len(sys.argv) > 1:
    data = b"x" * 60_000_000
    while time.process_time() < 0.3: pass
    print("spent", flush=True)
    time.sleep(60)
subprocess.run([sys.executable, "-c", open(os.environ["SCRIPT"]).read(), "child"])
"""


def test_processor_time_and_memory_are_of_the_whole_family(tmp_path: Path) -> None:
    script = tmp_path / "busy.py"
    script.write_text(_BUSY_CHILD)
    log = tmp_path / "log.txt"
    with Pinned([sys.executable, str(script)], core=0, log=log, environment={"SCRIPT": str(script)}) as process:
        process.until(lambda: "spent" in log.read_text(), 60)
        assert process.cpu_s() >= 0.3
        assert process.rss_mb() >= 60


def test_a_process_that_ends_early_is_told_with_its_last_words(tmp_path: Path) -> None:
    ended = pytest.raises(NotReadyError, match="ended with 2: bad flag")
    with Pinned(["sh", "-c", "echo bad flag; exit 2"], core=0, log=tmp_path / "log.txt") as process, ended:
        process.until(lambda: False, 30)


def test_byte_code_is_cached_and_no_proxy_is_used_whatever_the_shell_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    environment = clean_environment({"EXTRA": "1"})
    assert not {"PYTHONDONTWRITEBYTECODE", "https_proxy"} & set(environment)
    assert environment["EXTRA"] == "1"
