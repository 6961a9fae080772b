"""What must hold of every shape of the stack."""

from __future__ import annotations

import pytest

from deploy import topology
from deploy.native.drivers import DRIVERS
from deploy.topology import ONPREM_SECRETS, AvailabilityZone, Kind, Network, Secret, Service, Topology, Zone, waves
from runtime.errors import ConfigurationError

SHAPES = [topology.full(), topology.small(), topology.with_faults(topology.full())]


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def shape(request: pytest.FixtureRequest) -> Topology:
    found = request.param
    assert isinstance(found, Topology)
    return found


def test_the_cloud_zone_holds_no_on_prem_secret(shape: Topology) -> None:
    for service in shape:
        if service.zone is Zone.CLOUD:
            assert not ONPREM_SECRETS & set(service.secrets), service.name


def test_the_clearance_authority_alone_signs_clearances(shape: Topology) -> None:
    assert [s.kind for s in shape if Secret.CLEARANCE_SIGNING in s.secrets] == [Kind.CLEARANCE]


def test_only_workers_hold_provider_credentials_and_open_what_is_sealed_for_the_cloud(shape: Topology) -> None:
    for secret in (Secret.PROVIDER, Secret.CLOUD_SEALING):
        assert {s.kind for s in shape if secret in s.secrets} == {Kind.WORKER}


def test_the_cloud_zone_waits_for_nothing_on_prem_but_kafka(shape: Topology) -> None:
    for service in shape:
        if service.zone is Zone.CLOUD:
            for name in service.needs:
                needed = shape[name]
                assert needed.zone is Zone.CLOUD or needed.kind in {Kind.BROKER, Kind.CONTROLLER}, (service.name, name)


def test_zones_meet_on_the_crossing_alone(shape: Topology) -> None:
    onprem = {n for s in shape if s.zone is Zone.ONPREM for n in s.networks}
    cloud = {n for s in shape if s.zone is Zone.CLOUD for n in s.networks}
    assert onprem & cloud == {Network.CROSSING}


def test_needs_are_known_and_without_a_circle(shape: Topology) -> None:
    order = waves(shape)
    names = {service.name for service in shape}
    assert {service.name for wave in order for service in wave} == names
    started: set[str] = set()
    for wave in order:
        for service in wave:
            assert set(service.needs) <= started, service.name
        started |= {service.name for service in wave}


def test_what_is_ready_needs_only_what_is_ready(shape: Topology) -> None:
    for service in shape:
        if service.ready:
            assert all(shape[name].ready for name in service.needs), service.name


def test_names_are_unique_and_every_kind_has_a_driver(shape: Topology) -> None:
    names = [identity.name for identity in shape.identities()]
    assert len(names) == len(set(names))
    assert {service.kind for service in shape} <= DRIVERS.keys()


def test_health_is_asked_at_a_listener_of_the_service(shape: Topology) -> None:
    for service in shape:
        assert service.health.port in {port.name for port in service.ports}


def test_the_whole_stack_fits_in_4_gb(shape: Topology) -> None:
    assert sum(service.memory_mb for service in shape) <= 4000


def test_the_full_stack_survives_the_loss_of_an_availability_zone() -> None:
    full = topology.full()
    for kind in (Kind.GATEWAY, Kind.NODE, Kind.WORKER, Kind.BROKER, Kind.MARIADB):
        assert {s.az for s in full.of(kind)} == {AvailabilityZone.A, AvailabilityZone.B}, kind
    for voters in (full.of(Kind.BROKER, Kind.CONTROLLER), full.of(Kind.MARIADB, Kind.ARBITER)):
        assert {s.az for s in voters} == set(AvailabilityZone), "three votes in three places"


def test_the_small_stack_has_one_of_each() -> None:
    small = topology.small()
    kinds = [service.kind for service in small]
    assert len(kinds) == len(set(kinds))
    assert {Kind.CONTROLLER, Kind.ARBITER}.isdisjoint(kinds)


def test_with_faults_each_broker_is_reached_through_a_proxy() -> None:
    (proxy,) = topology.with_faults(topology.full()).of(Kind.TOXIPROXY)
    assert {port.name for port in proxy.ports} == {"api", "kafka-a", "kafka-b"}


def test_closure_is_what_a_service_needs_and_no_more() -> None:
    assert topology.full().closure(["mariadb-arbiter"]) == {"mariadb-arbiter", "mariadb-a", "mariadb-b"}


def test_a_circle_is_refused() -> None:
    shape = topology.small()

    def needs(service: Service) -> tuple[str, ...]:
        return {"kafka-a": ("mariadb-a",), "mariadb-a": ("kafka-a",)}.get(service.name, ())

    with pytest.raises(ConfigurationError, match="circle: kafka-a, mariadb-a"):
        waves(shape, needs)


def test_shapes_are_found_by_name() -> None:
    for shape in SHAPES:
        assert topology.named(shape.name) == shape
    with pytest.raises(ConfigurationError, match="small-faults"):
        topology.named("huge")
