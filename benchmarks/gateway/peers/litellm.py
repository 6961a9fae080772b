"""LiteLLM's proxy as its own image runs it: production mode, httptools, OpenTelemetry's SDK there, no database."""

from __future__ import annotations

import json

from benchmarks.gateway.peers.base import Peer, pip_install

_PACKAGES = ("litellm[proxy]==1.108.7", "httptools", "uvloop", "opentelemetry-sdk")


class LiteLLM(Peer):
    name = "litellm"
    title = "LiteLLM proxy"
    ready_s = 120

    def install(self) -> str:
        return pip_install(self.place.installed, _PACKAGES, "litellm")

    def command(self) -> list[str]:
        parameters = {"model": "openai/mock", "api_base": self.place.upstream_url, "api_key": "none"}
        config = {
            "model_list": [{"model_name": "mock", "litellm_params": parameters}],
            "litellm_settings": {"num_retries": 0, "request_timeout": 60, "telemetry": False},
        }
        path = self.place.scratch / "config.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        program = str(self.place.installed / "bin" / "litellm")
        return [
            program,
            "--config",
            str(path),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.place.port),
            "--num_workers",
            "1",
        ]

    def environment(self) -> dict[str, str]:
        return {
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            # No key at the door: Watershed's loopback callers need none either.
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        }
