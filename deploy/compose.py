"""``docker-compose.yml`` from the topology: ``python -m deploy.compose > docker-compose.yml``.

Each service has a volume for its data and one for its identity; ``setup`` fills the identities and alone mounts the CA.
The on-prem networks have no way out. Services that are not ready carry the profile ``planned``.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from deploy import topology
from deploy.container import ROOT
from deploy.topology import Kind, Network, Service, Topology

_HEADER = "# Made from deploy/topology.py by `python -m deploy.compose > docker-compose.yml`: change it there.\n"
_TARGETS = {Kind.BROKER: "kafka", Kind.CONTROLLER: "kafka", Kind.ARBITER: "mariadb"}
_INTERNAL = frozenset({Network.ONPREM, Network.CROSSING})
_SETUP = "setup"
_CHECK_MB = 96  # the interpreter of the health check, in the service's own container


def render(shape: Topology) -> str:
    """The compose file's text."""
    return _HEADER + yaml.safe_dump(document(shape), sort_keys=False, width=120)


def document(shape: Topology) -> dict[str, Any]:
    """The compose file as plain values."""
    identities = [identity.name for identity in shape.identities()]
    volumes = ["authority", *(f"identity-{name}" for name in identities), *(f"data-{s.name}" for s in shape)]
    return {
        "services": {_SETUP: _setup(identities), **{service.name: _service(service) for service in shape}},
        "networks": {network.value: {"internal": network in _INTERNAL} for network in Network},
        "volumes": {name: {} for name in volumes},
    }


def _setup(identities: list[str]) -> dict[str, Any]:
    certificates = ROOT / "certificates"
    return {
        "build": _build("setup"),
        "image": "watershed/setup",
        "command": [_SETUP],
        # It hands the identities' volumes to the account of the services, and so must be root; it has no network.
        "user": "0:0",
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "cap_add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "no",
        "volumes": [
            f"authority:{certificates}/ca",
            *(f"identity-{name}:{certificates}/{name}" for name in identities),
        ],
    }


def _service(service: Service) -> dict[str, Any]:
    target = _TARGETS.get(service.kind, service.kind.value)
    values: dict[str, Any] = {
        "build": _build(target),
        "image": f"watershed/{target}",
        "command": ["run", service.name],
        "hostname": service.name,
        "depends_on": {
            _SETUP: {"condition": "service_completed_successfully"},
            **{name: {"condition": "service_healthy"} for name in service.needs},
        },
        "environment": dict(service.environment),
        "volumes": [
            f"data-{service.name}:{ROOT}",
            f"identity-{service.name}:{ROOT}/certificates/{service.name}",
        ],
        "networks": [network.value for network in service.networks],
        "healthcheck": {
            "test": ["CMD", "python", "-m", "deploy.container", "check", service.name],
            "interval": "10s",
            "timeout": "20s",
            "retries": 3,
            "start_period": f"{service.health.within_s:.0f}s",
        },
        "mem_limit": f"{service.memory_mb + _CHECK_MB}m",
        "stop_grace_period": "10s",
        "restart": "unless-stopped",
        "init": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "labels": {"watershed.zone": service.zone.value, "watershed.az": service.az.value},
    }
    if published := [f"127.0.0.1:{port.number}:{port.number}" for port in service.ports if port.public]:
        values["ports"] = published
    if not service.ready:
        values["profiles"] = ["planned"]
    return {key: value for key, value in values.items() if value}


def _build(target: str) -> dict[str, str]:
    return {"context": ".", "dockerfile": "deploy/Dockerfile", "target": target}


if __name__ == "__main__":
    sys.stdout.write(render(topology.full()))
