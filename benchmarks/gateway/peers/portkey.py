"""Portkey's gateway on Node.js. ``@hono/node-server`` is held at 1.13.5: newer ones break its streaming."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping

from benchmarks.gateway.peers.base import InstallError, Peer, run_install

_VERSION = "1.15.2"
_SERVER = "@hono/node-server"
_SERVER_VERSION = "1.13.5"
_PACKAGE = {
    "name": "bench-portkey",
    "private": True,
    "dependencies": {"@portkey-ai/gateway": _VERSION, _SERVER: _SERVER_VERSION},
    "overrides": {_SERVER: _SERVER_VERSION},
}


class Portkey(Peer):
    name = "portkey"
    title = "Portkey"

    def install(self) -> str:
        npm = shutil.which("npm")
        if npm is None:
            raise InstallError("Node.js with npm is not installed (Debian: apt-get install nodejs npm)")
        folder = self.place.installed
        folder.mkdir(parents=True, exist_ok=True)
        wanted = json.dumps(_PACKAGE, indent=2)
        stamp = folder / "installed.json"
        if not stamp.is_file() or stamp.read_text() != wanted:
            (folder / "package.json").write_text(wanted)
            run_install([npm, "install", "--no-audit", "--no-fund", "--loglevel=error"], folder)
            stamp.write_text(wanted)
        return f"{_VERSION} ({_SERVER} {_SERVER_VERSION})"

    def command(self) -> list[str]:
        script = self.place.installed / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
        return [shutil.which("node") or "node", str(script), "--headless", f"--port={self.place.port}"]

    def environment(self) -> dict[str, str]:
        return {"NODE_ENV": "production"}

    @property
    def headers(self) -> Mapping[str, str]:
        return {
            "authorization": "Bearer none",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": self.place.upstream_url,
        }
