"""Our own processes: a settings file that they accept, and a command line."""

from __future__ import annotations

import tomllib

from deploy import topology
from deploy.native import watershed
from deploy.native.drivers import DRIVERS
from deploy.site import Site
from deploy.topology import Kind
from runtime.settings import Settings

OURS = [service for service in topology.full() if service.command]


def test_they_are_every_service_with_a_command() -> None:
    assert {service.kind for service in OURS} == {kind for kind, driver in DRIVERS.items() if driver is watershed}
    assert {service.command for service in OURS} == {("serve",), ("node",), ("worker",), ("clear",), ("witness",)}


def test_the_settings_file_is_one_that_they_accept(full_site: Site) -> None:
    for service in OURS:
        watershed.prepare(full_site, service)
        values = tomllib.loads((full_site.home(service) / "watershed.toml").read_text())
        settings = Settings(**values)
        assert settings.port == full_site.ports[f"{service.name}/https"]
        assert settings.tls_key == full_site.files(service.name).key


def test_only_who_has_an_account_is_told_of_the_database(full_site: Site) -> None:
    told = {s.kind for s in OURS if "database_url" in watershed.settings(full_site, s)}
    assert told == {Kind.GATEWAY, Kind.CLEARANCE, Kind.WITNESS, Kind.NODE}


def test_a_node_yields_to_the_brokers(full_site: Site) -> None:
    node, gateway = full_site.topology["node-a"], full_site.topology["gateway-a"]
    assert list(watershed.launch(full_site, node).argv[:3]) == ["nice", "-n", "10"]
    launch = watershed.launch(full_site, gateway)
    assert list(launch.argv[1:]) == ["serve"]
    assert launch.environment["WATERSHED_CONFIG"].endswith("services/gateway-a/watershed.toml")
