"""What docs/audit.md tells an auditor to run gives what it says."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from audit.checkpoint import last_checkpoint
from tests.audit.conftest import Bench

DOCUMENT = Path(__file__).parents[2] / "docs" / "audit.md"


async def test_the_documented_script_gives_the_checkpoints_root(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.writer.SEGMENT_BYTES", 4096)
    log_id = await bench.filled(30)
    script = DOCUMENT.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    checkpoint = last_checkpoint(bench.root / log_id / "checkpoints.jsonl")
    assert checkpoint is not None
    command = [sys.executable, "-c", script, str(bench.root / log_id), str(checkpoint.size)]
    run = partial(subprocess.run, command, capture_output=True, text=True, check=True, timeout=60)
    assert (await asyncio.to_thread(run)).stdout.strip() == base64.b64encode(checkpoint.root).decode()
