"""Watershed with everything on: classification, policy, lineage, clearance, sealing and the durable audit.

The embedded path with the mock as the provider behind ``--cloud-url``. Afterwards its audit is counted against what the
load saw answered, and verified.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from benchmarks.gateway.peers.base import Json, Peer
from benchmarks.gateway.process import clean_environment

_PROGRAM = Path(sys.executable).with_name("watershed")
VERIFY_S = 300


class Watershed(Peer):
    name = "watershed"
    title = "Watershed"
    looks_at = "classification, policy, lineage, clearance, audit"
    ready_s: ClassVar[float] = 60

    def install(self) -> str:
        return version("watershed-gateway")

    def command(self) -> list[str]:
        # No --onprem-url: the mock would list its model there, which pins requests for it to that zone.
        options = ["--port", str(self.place.port), "--admin-port", "0", "--cloud-url", self.place.upstream_url]
        return [str(_PROGRAM), "serve", *options]

    def environment(self) -> dict[str, str]:
        return {"WATERSHED_STATE_DIR": str(self._state), "WATERSHED_LOG_LEVEL": "warning"}

    def evidence(self, answered: int, cut_off: int) -> Json:
        """Events by kind, the routes taken, answers without their events, and whether the log verifies."""
        from audit.event import kind_of
        from audit.query import events

        kinds: Counter[str] = Counter()
        routes: Counter[str] = Counter()
        outcomes: Counter[str] = Counter()
        decided: set[str] = set()
        closed: set[str] = set()
        for _, _, event in events(self._state / "audit"):
            kind = kind_of(event)
            kinds[kind] += 1
            if kind == "decision":
                routes[getattr(event, "route", "")] += 1
                decided.add(getattr(event, "request_id", ""))
            elif kind == "closing":
                outcomes[getattr(event, "outcome", "")] += 1
                closed.add(getattr(event, "request_id", ""))
        complete = min(kinds["decision"], kinds["clearance"], outcomes["answered"])
        return {
            "answers": answered,
            "events": dict(kinds),
            "routes": dict(routes),
            "outcomes": dict(outcomes),
            "answers_without_events": max(answered - complete, 0),
            "cut_off_at_most": cut_off,
            "requests_without_end": len(decided - closed),
            "verified": self._verified(),
        }

    @property
    def _state(self) -> Path:
        return self.place.scratch / "state"

    def _verified(self) -> bool:
        command = [str(_PROGRAM), "audit", "verify", "--json"]
        environment = clean_environment(self.environment())
        try:
            ended = subprocess.run(command, env=environment, capture_output=True, timeout=VERIFY_S, check=False)
            return ended.returncode == 0 and bool(json.loads(ended.stdout)["ok"])
        except (subprocess.TimeoutExpired, ValueError, KeyError):
            return False
