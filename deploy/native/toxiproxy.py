"""Toxiproxy between Kafka's clients and its brokers: where drills put latency, loss and cuts.

TLS passes through it; each broker advertises its proxy's port, so that no client finds a way around.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from deploy.native import packages
from deploy.native.driver import Launch, accepts_tcp
from deploy.site import Site
from deploy.topology import Kind, Service

TOOL = packages.GoTool("github.com/Shopify/toxiproxy/v2/cmd/server", "v2.5.0", "toxiproxy", (1, 19), 16)


def requirements() -> Sequence[packages.Requirement]:
    return (TOOL,)


def needs(site: Site, service: Service) -> Sequence[str]:
    return service.needs


def prepare(site: Site, service: Service) -> None:
    home = site.home(service)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "proxies.json").write_text(json.dumps(proxies(site, service), indent=2), encoding="utf-8")


def launch(site: Site, service: Service) -> Launch:
    home, api = site.home(service), site.listen(service, "api")
    argv = (str(TOOL.path), f"-host={api.host}", f"-port={api.port}", f"-config={home / 'proxies.json'}")
    return Launch(argv, cwd=home)


def healthy(site: Site, service: Service) -> bool:
    return accepts_tcp(site.address(service, "api"))


def settle(site: Site, services: Sequence[Service]) -> None:
    """Nothing: its proxies are in its configuration."""


def proxies(site: Site, service: Service) -> list[dict[str, object]]:
    """Toxiproxy's configuration: one proxy a broker, named like it."""
    return [
        {
            "name": broker.name,
            "listen": str(site.listen(service, broker.name)),
            "upstream": str(site.address(broker, "client")),
            "enabled": True,
        }
        for broker in site.topology.of(Kind.BROKER)
    ]
