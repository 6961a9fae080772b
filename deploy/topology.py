"""The stack, described once: the native processes and ``docker-compose.yml`` are both made from these values.

    applications ─▶ haproxy ─┬▶ gateway-a ─┬▶ node-a, node-b ──▶ mariadb-a ⇄ mariadb-b ⇄ mariadb-arbiter
                             └▶ gateway-b  ├▶ clearance, witness
                                           └▶ kafka-a ⇄ kafka-b ⇄ kafka-w ◀── worker-a, worker-b ─▶ providers
    on-prem zone ──────────────────────────┴──────────── cloud zone ────▶ object-store

A zone says who may hold which secret and sit on which network; an availability zone says what fails together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from deploy.certificates import Identity
from runtime.errors import ConfigurationError


class Zone(StrEnum):
    ONPREM = "onprem"
    CLOUD = "cloud"


class AvailabilityZone(StrEnum):
    A = "az-a"
    B = "az-b"
    WITNESS = "az-w"


class Kind(StrEnum):
    """What a service is: one driver in ``deploy/native`` a kind. The value is the certificate's OU."""

    HAPROXY = "haproxy"
    GATEWAY = "gateway"
    CLEARANCE = "clearance"
    WITNESS = "witness"
    NODE = "node"
    WORKER = "worker"
    BROKER = "broker"
    CONTROLLER = "controller"
    MARIADB = "mariadb"
    ARBITER = "arbiter"
    OBJECT_STORE = "object-store"
    TOXIPROXY = "toxiproxy"


class Network(StrEnum):
    """A network of the container stack. ``crossing`` is the only one that both zones share."""

    EDGE = "edge"
    ONPREM = "onprem"
    CROSSING = "crossing"
    CLOUD = "cloud"


class Port(msgspec.Struct, frozen=True):
    """A listener: its name, its number in a container, and whether it is reached from outside the stack."""

    name: str
    number: int
    public: bool = False


class Health(msgspec.Struct, frozen=True):
    """When a service counts as started.

    Attributes:
        within_s: how long it may take, first-time set-up included.
        port: the listener asked.
        path: answered with 200 over HTTPS; none: the driver asks in the service's own protocol.
    """

    within_s: float
    port: str
    path: str | None = None


class Secret(StrEnum):
    """Keys beside a process's own certificate (TRUST.md, "Keys"); ``ONPREM_SECRETS`` never leave the on-prem zone."""

    CLEARANCE_SIGNING = "clearance-signing"
    AUDIT_SIGNING = "audit-signing"
    REGISTER_SIGNING = "register-signing"
    WITNESS_SIGNING = "witness-signing"
    LINEAGE = "lineage"
    STORAGE = "storage"
    VAULT = "vault"
    POLICY_BUNDLE = "policy-bundle"
    ANSWERS_SEALING = "answers-sealing"
    CLOUD_SEALING = "cloud-sealing"
    PROVIDER = "provider"
    OBJECTS = "objects"


ONPREM_SECRETS = frozenset(
    {
        Secret.CLEARANCE_SIGNING,
        Secret.REGISTER_SIGNING,
        Secret.WITNESS_SIGNING,
        Secret.LINEAGE,
        Secret.STORAGE,
        Secret.VAULT,
        Secret.POLICY_BUNDLE,
        Secret.ANSWERS_SEALING,
    }
)


class Service(msgspec.Struct, frozen=True):
    """One process.

    Attributes:
        needs: services that are healthy before this one starts.
        memory_mb: ceiling of its resident memory, without models.
        command: what follows ``watershed`` on the command line of our own processes; empty for backing services.
        ready: ``up`` may start it.
    """

    name: str
    kind: Kind
    zone: Zone
    az: AvailabilityZone
    ports: tuple[Port, ...]
    health: Health
    memory_mb: int
    networks: tuple[Network, ...]
    needs: tuple[str, ...] = ()
    secrets: tuple[Secret, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()
    ready: bool = True

    @property
    def identity(self) -> Identity:
        return Identity(self.name, self.kind.value)

    def port(self, name: str) -> Port:
        return next(port for port in self.ports if port.name == name)


OPERATOR = Identity("operator", "operator")
"""Who administers brokers and database from the command line: no process runs under it."""


class Topology(msgspec.Struct, frozen=True):
    name: str
    services: tuple[Service, ...]

    def __iter__(self) -> Iterator[Service]:
        return iter(self.services)

    def __getitem__(self, name: str) -> Service:
        """Raises ConfigurationError for a name that the topology lacks."""
        for service in self.services:
            if service.name == name:
                return service
        raise ConfigurationError(f"the topology {self.name} has no service {name}", code="service_unknown")

    def of(self, *kinds: Kind) -> tuple[Service, ...]:
        return tuple(service for service in self.services if service.kind in kinds)

    def identities(self) -> tuple[Identity, ...]:
        return (*(service.identity for service in self.services), OPERATOR)

    def closure(self, names: Iterable[str]) -> frozenset[str]:
        """``names`` and everything that they need, directly or not."""
        wanted: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in wanted:
                wanted.add(name)
                pending.extend(self[name].needs)
        return frozenset(wanted)


def waves(
    services: Iterable[Service], needs: Callable[[Service], Iterable[str]] = lambda service: service.needs
) -> list[tuple[Service, ...]]:
    """Services in start order: each wave needs only earlier ones. Needs outside ``services`` are taken as met.

    Raises:
        ConfigurationError: services need each other in a circle.
    """
    pending = list(services)
    order: list[tuple[Service, ...]] = []
    while pending:
        names = {service.name for service in pending}
        wave = tuple(service for service in pending if not names.intersection(needs(service)))
        if not wave:
            raise ConfigurationError(f"services need each other in a circle: {', '.join(sorted(names))}")
        order.append(wave)
        pending = [service for service in pending if service not in wave]
    return order


A, B, W = AvailabilityZone.A, AvailabilityZone.B, AvailabilityZone.WITNESS


def full() -> Topology:
    """Every service twice where its loss is to be survived, and witnesses in a third place."""
    brokers = (_broker("kafka-a", A), _broker("kafka-b", B), _kafka_witness("kafka-w"))
    databases = (
        _mariadb("mariadb-a", A),
        _mariadb("mariadb-b", B),
        _arbiter("mariadb-arbiter", needs=("mariadb-a", "mariadb-b")),
    )
    return _assemble("full", brokers, databases, (("a", A), ("b", B)))


def small() -> Topology:
    """One of each: for a laptop. Nothing is survived, and no election is held."""
    return _assemble("small", (_broker("kafka-a", A),), (_mariadb("mariadb-a", A),), (("a", A),))


def with_faults(topology: Topology) -> Topology:
    """The same stack with a Toxiproxy between the zones: clients reach each broker through a listener of its own."""
    brokers = topology.of(Kind.BROKER)
    proxy = Service(
        name="toxiproxy",
        kind=Kind.TOXIPROXY,
        zone=Zone.ONPREM,
        az=W,
        ports=(Port("api", 8474), *(Port(broker.name, 19092 + i) for i, broker in enumerate(brokers))),
        health=Health(within_s=10, port="api"),
        memory_mb=48,
        networks=(Network.ONPREM, Network.CROSSING),
    )
    # Their own set-up comes through the proxy, as every client does.
    services = (replace(s, needs=(*s.needs, proxy.name)) if s in brokers else s for s in topology.services)
    return Topology(f"{topology.name}-faults", (proxy, *services))


def named(name: str) -> Topology:
    """``full`` or ``small``, with ``-faults`` behind it for the one with a Toxiproxy.

    Raises:
        ConfigurationError: there is no such topology.
    """
    base = {"full": full, "small": small}.get(name.removesuffix("-faults"))
    if base is None:
        raise ConfigurationError("the topologies are full, small, full-faults and small-faults")
    return with_faults(base()) if name.endswith("-faults") else base()


def _assemble(
    name: str,
    brokers: tuple[Service, ...],
    databases: tuple[Service, ...],
    sites: tuple[tuple[str, AvailabilityZone], ...],
) -> Topology:
    store = _object_store()
    kafka = tuple(broker.name for broker in brokers)
    sql = tuple(database.name for database in databases)
    nodes = tuple(_node(f"node-{letter}", az, sql) for letter, az in sites)
    workers = tuple(_worker(f"worker-{letter}", az, kafka) for letter, az in sites)
    witness = _witness(())
    clearance = _clearance((*kafka, witness.name))
    gateway_needs = (*kafka, *sql, clearance.name, witness.name, *(node.name for node in nodes))
    gateways = tuple(_gateway(f"gateway-{letter}", az, gateway_needs) for letter, az in sites)
    haproxy = _haproxy()
    return Topology(name, (*brokers, *databases, store, witness, clearance, *nodes, *workers, *gateways, haproxy))


def _broker(name: str, az: AvailabilityZone) -> Service:
    return Service(
        name=name,
        kind=Kind.BROKER,
        zone=Zone.ONPREM,
        az=az,
        ports=(Port("client", 9092), Port("replication", 9093), Port("controller", 9094)),
        health=Health(within_s=120, port="client"),
        memory_mb=448,
        networks=(Network.ONPREM, Network.CROSSING),
        environment=(("KAFKA_HEAP_OPTS", "-Xms96m -Xmx256m -XX:+UseSerialGC -Xss512k -XX:ReservedCodeCacheSize=64m"),),
    )


def _kafka_witness(name: str) -> Service:
    return Service(
        name=name,
        kind=Kind.CONTROLLER,
        zone=Zone.ONPREM,
        az=W,
        ports=(Port("controller", 9094),),
        health=Health(within_s=120, port="controller"),
        memory_mb=256,
        networks=(Network.ONPREM,),
        environment=(("KAFKA_HEAP_OPTS", "-Xms48m -Xmx96m -XX:+UseSerialGC -Xss512k -XX:ReservedCodeCacheSize=64m"),),
    )


def _mariadb(name: str, az: AvailabilityZone) -> Service:
    return Service(
        name=name,
        kind=Kind.MARIADB,
        zone=Zone.ONPREM,
        az=az,
        ports=(Port("sql", 3306), Port("galera", 4567), Port("ist", 4568), Port("sst", 4444)),
        health=Health(within_s=90, port="sql"),
        memory_mb=256,
        networks=(Network.ONPREM,),
        # A standby waits for whichever node has the newest data: its driver knows which.
    )


def _arbiter(name: str, needs: tuple[str, ...]) -> Service:
    return Service(
        name=name,
        kind=Kind.ARBITER,
        zone=Zone.ONPREM,
        az=W,
        ports=(Port("galera", 4567),),
        health=Health(within_s=20, port="galera"),
        memory_mb=32,
        networks=(Network.ONPREM,),
        needs=needs,
    )


def _object_store() -> Service:
    return Service(
        name="object-store",
        kind=Kind.OBJECT_STORE,
        zone=Zone.CLOUD,
        az=A,
        ports=(Port("https", 9000),),
        health=Health(within_s=15, port="https"),
        memory_mb=128,
        networks=(Network.CLOUD, Network.CROSSING),
    )


def _clearance(needs: tuple[str, ...]) -> Service:
    return Service(
        name="clearance",
        kind=Kind.CLEARANCE,
        zone=Zone.ONPREM,
        az=A,
        ports=(Port("https", 8444),),
        health=Health(within_s=60, port="https", path="/readyz"),
        memory_mb=192,
        networks=(Network.ONPREM,),
        needs=needs,
        secrets=(Secret.CLEARANCE_SIGNING, Secret.AUDIT_SIGNING, Secret.REGISTER_SIGNING, Secret.POLICY_BUNDLE),
        command=("clear",),
    )


def _witness(needs: tuple[str, ...]) -> Service:
    return Service(
        name="witness",
        kind=Kind.WITNESS,
        zone=Zone.ONPREM,
        az=W,
        ports=(Port("https", 8445),),
        health=Health(within_s=60, port="https", path="/readyz"),
        memory_mb=128,
        networks=(Network.ONPREM, Network.CROSSING),
        needs=needs,
        secrets=(Secret.WITNESS_SIGNING, Secret.OBJECTS),
        command=("witness",),
    )


def _node(name: str, az: AvailabilityZone, needs: tuple[str, ...]) -> Service:
    return Service(
        name=name,
        kind=Kind.NODE,
        zone=Zone.ONPREM,
        az=az,
        ports=(Port("https", 8446),),
        health=Health(within_s=60, port="https", path="/readyz"),
        memory_mb=192,
        networks=(Network.ONPREM,),
        needs=needs,
        secrets=(Secret.STORAGE, Secret.VAULT, Secret.AUDIT_SIGNING),
        # One thread a node, or torch starves the brokers of a small machine.
        environment=(("OMP_NUM_THREADS", "1"),),
        command=("node",),
    )


def _worker(name: str, az: AvailabilityZone, needs: tuple[str, ...]) -> Service:
    return Service(
        name=name,
        kind=Kind.WORKER,
        zone=Zone.CLOUD,
        az=az,
        ports=(Port("https", 8447),),
        health=Health(within_s=60, port="https", path="/readyz"),
        memory_mb=192,
        networks=(Network.CROSSING, Network.CLOUD),
        needs=needs,
        secrets=(Secret.CLOUD_SEALING, Secret.PROVIDER, Secret.AUDIT_SIGNING, Secret.OBJECTS),
        command=("worker",),
    )


def _gateway(name: str, az: AvailabilityZone, needs: tuple[str, ...]) -> Service:
    return Service(
        name=name,
        kind=Kind.GATEWAY,
        zone=Zone.ONPREM,
        az=az,
        ports=(Port("https", 8443), Port("admin", 9443)),
        health=Health(within_s=60, port="https", path="/readyz"),
        memory_mb=320,
        networks=(Network.EDGE, Network.ONPREM, Network.CROSSING),
        needs=needs,
        secrets=(
            Secret.AUDIT_SIGNING,
            Secret.REGISTER_SIGNING,
            Secret.LINEAGE,
            Secret.VAULT,
            Secret.POLICY_BUNDLE,
            Secret.ANSWERS_SEALING,
            Secret.OBJECTS,
        ),
        command=("serve",),
    )


def _haproxy() -> Service:
    # It needs no gateway: without one it answers nothing, and finds each as it comes.
    return Service(
        name="haproxy",
        kind=Kind.HAPROXY,
        zone=Zone.ONPREM,
        az=A,
        ports=(Port("https", 8080, public=True), Port("health", 8081)),
        health=Health(within_s=10, port="health"),
        memory_mb=64,
        networks=(Network.EDGE,),
    )
