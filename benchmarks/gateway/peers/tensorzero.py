"""TensorZero's Rust gateway, as its Python package carries it; its process chooses the port and prints the address.

Memory includes the Python interpreter that holds it (some 10 MB). Observability is off: it would need ClickHouse.
"""

from __future__ import annotations

import re

from benchmarks.gateway.peers.base import Peer, pip_install

_PACKAGES = ("tensorzero==2026.6.0",)
_CONFIG = """\
[gateway]
observability.enabled = false
[models.mock]
routing = ["mock"]
[models.mock.providers.mock]
type = "openai"
model_name = "mock"
api_base = "{upstream_url}/"
api_key_location = "none"
"""
_SERVE = """\
import sys, threading
from tensorzero import _start_http_gateway
gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
print("address", gateway.base_url, flush=True)
threading.Event().wait()
"""


class TensorZero(Peer):
    name = "tensorzero"
    title = "TensorZero"

    def install(self) -> str:
        return pip_install(self.place.installed, _PACKAGES, "tensorzero")

    def command(self) -> list[str]:
        config = self.place.scratch / "tensorzero.toml"
        config.write_text(_CONFIG.format(upstream_url=self.place.upstream_url))
        return [str(self.place.installed / "bin" / "python"), "-c", _SERVE, str(config)]

    @property
    def url(self) -> str:
        found = re.search(r"^address (\S+)", self.place.log.read_text(errors="replace"), re.MULTILINE)
        return f"{found.group(1).rstrip('/')}/chat/completions" if found else ""

    @property
    def model(self) -> str:
        return "tensorzero::model_name::mock"
