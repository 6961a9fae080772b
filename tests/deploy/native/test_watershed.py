"""Our own processes: a settings file that they accept, and a command line."""

from __future__ import annotations

import tomllib

from msgspec.structs import replace

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


OPTIONS = {
    "cloud_url": "https://provider.invalid/v1",
    "cloud_key_file": "/keys/cloud",
    "cloud_model": "big",
    "onprem_url": "http://127.0.0.1:8000/v1",
    "onprem_key_file": "/keys/onprem",
    "onprem_model": "small",
    "policy": "/policies",
}


def test_credentials_go_only_to_who_uses_them(full_site: Site) -> None:
    site = replace(full_site, options=OPTIONS)
    told = {
        option: {s.kind for s in OURS if watershed.settings(site, s).get(option) == OPTIONS[option]}
        for option in OPTIONS
    }
    assert told["cloud_key_file"] == {Kind.WORKER}
    assert told["onprem_key_file"] == told["onprem_url"] == {Kind.NODE}
    assert told["policy"] == {Kind.GATEWAY, Kind.CLEARANCE}
    assert told["cloud_url"] == {Kind.GATEWAY, Kind.CLEARANCE, Kind.WORKER}


def test_a_gateway_asks_the_node_of_its_own_availability_zone_first(full_site: Site) -> None:
    urls = str(watershed.settings(full_site, full_site.topology["gateway-b"])["node_urls"]).split(",")
    assert urls == [full_site.https_url(full_site.topology[name]) for name in ("node-b", "node-a")]


def test_the_operators_file_is_one_that_commands_accept(full_site: Site) -> None:
    full_site.root.mkdir(exist_ok=True)
    watershed.write_operator_settings(full_site)
    settings = Settings(**tomllib.loads(watershed.operator_settings_file(full_site).read_text()))
    assert settings.audit_dir == full_site.audit_root
    assert settings.identity_dir == full_site.files("operator").folder


def test_a_node_yields_to_the_brokers(full_site: Site) -> None:
    node, gateway = full_site.topology["node-a"], full_site.topology["gateway-a"]
    assert list(watershed.launch(full_site, node).argv[:3]) == ["nice", "-n", "10"]
    launch = watershed.launch(full_site, gateway)
    assert list(launch.argv[1:]) == ["serve"]
    assert launch.environment["WATERSHED_CONFIG"].endswith("services/gateway-a/watershed.toml")
