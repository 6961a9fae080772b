"""The Python floor: the least that a gateway with Watershed's server and client can do."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.gateway.peers.base import Peer

_ROOT = Path(__file__).resolve().parents[3]


class Floor(Peer):
    name = "floor"
    title = "floor (uvicorn + aiohttp)"

    def install(self) -> str:
        return f"uvicorn {version('uvicorn')}, aiohttp {version('aiohttp')}"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "benchmarks.gateway.floor", str(self.place.port), self.place.upstream_url]

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(_ROOT)}
