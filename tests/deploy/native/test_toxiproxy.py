"""Toxiproxy: no client of Kafka finds a way around it."""

from __future__ import annotations

import pytest

from deploy import topology
from deploy.native import kafka, toxiproxy
from deploy.site import Site, listeners


@pytest.fixture
def faulty_site(full_site: Site) -> Site:
    shape = topology.with_faults(topology.full())
    ports = {name: 22000 + i for i, name in enumerate(listeners(shape))}
    return Site(shape, full_site.root, full_site.database_root, ports)


def test_each_broker_advertises_its_proxy_and_no_other_address(faulty_site: Site) -> None:
    proxy = faulty_site.topology["toxiproxy"]
    entries = toxiproxy.proxies(faulty_site, proxy)
    assert [entry["name"] for entry in entries] == ["kafka-a", "kafka-b"]
    for entry in entries:
        broker = faulty_site.topology[str(entry["name"])]
        assert entry["upstream"] == str(faulty_site.address(broker, "client"))
        assert f"advertised.listeners=CLIENT://{entry['listen']}," in kafka.server_properties(faulty_site, broker)
    assert faulty_site.bootstrap() == ",".join(str(entry["listen"]) for entry in entries)


def test_replication_does_not_pass_through_it(faulty_site: Site) -> None:
    broker = faulty_site.topology["kafka-a"]
    assert f"REPLICATION://{faulty_site.address(broker, 'replication')}" in kafka.server_properties(faulty_site, broker)
