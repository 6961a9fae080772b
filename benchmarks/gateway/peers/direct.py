"""No gateway: what the load and the upstream can do by themselves. Both share one core, so this bounds all others."""

from __future__ import annotations

from benchmarks.gateway.peers.base import Peer


class Direct(Peer):
    name = "direct"
    title = "direct (no gateway)"

    def install(self) -> str:
        return ""

    def command(self) -> list[str]:
        return []

    @property
    def url(self) -> str:
        return f"{self.place.upstream_url}/chat/completions"
