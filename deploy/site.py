"""Where one running stack lives: its folders, and the address of every listener."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from deploy import certificates
from deploy.topology import Kind, Port, Service, Topology


class Address(msgspec.Struct, frozen=True):
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Site(msgspec.Struct, frozen=True):
    """A topology put in a place.

        ROOT/certificates/NAME/…   ROOT/services/NAME/…   ROOT/logs/NAME.log   ROOT/run/NAME.json

    Attributes:
        root: absolute; everything lies under it but the databases.
        database_root: home of the database nodes, which run as another user when the stack is started by root.
        ports: number by ``service/port``.
        hosts: host by service; a service not named here answers on ``host``.
        bind: the address that services listen on.
        options: settings of our own processes that the operator chose, by their names: URLs of the zones, the policy.
    """

    topology: Topology
    root: Path
    database_root: Path
    ports: Mapping[str, int]
    host: str = "127.0.0.1"
    hosts: Mapping[str, str] = {}
    bind: str = "127.0.0.1"
    options: Mapping[str, str] = {}

    @property
    def certificates_dir(self) -> Path:
        return self.root / "certificates"

    @property
    def audit_root(self) -> Path:
        """Audit logs of every process on this host, under one register."""
        return self.root / "audit"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        return self.root / "run"

    def files(self, name: str) -> certificates.Files:
        """The certificate files of the identity ``name``."""
        return certificates.files(self.certificates_dir, name)

    def home(self, service: Service) -> Path:
        """The folder that the service's configuration and data lie in."""
        if service.kind in {Kind.MARIADB, Kind.ARBITER}:
            return self.database_root / service.name
        return self.root / "services" / service.name

    def address(self, service: Service, port: str) -> Address:
        """Where others reach the listener."""
        return Address(self.hosts.get(service.name, self.host), self.ports[f"{service.name}/{port}"])

    def listen(self, service: Service, port: str) -> Address:
        """What the service binds."""
        return Address(self.bind, self.ports[f"{service.name}/{port}"])

    def advertised(self, broker: Service) -> Address:
        """Where Kafka's clients reach the broker: through Toxiproxy where the topology has one."""
        for proxy in self.topology.of(Kind.TOXIPROXY):
            return self.address(proxy, broker.name)
        return self.address(broker, "client")

    def bootstrap(self) -> str:
        """Kafka's ``bootstrap.servers`` for clients."""
        return ",".join(str(self.advertised(broker)) for broker in self.topology.of(Kind.BROKER))

    def database_url(self, user: str) -> str:
        """The databases for the identity ``user``, as ``runtime.database`` takes them: one is written to at a time, the
        first that answers."""
        files = self.files(user)
        first, *others = (self.address(node, "sql") for node in self.topology.of(Kind.MARIADB))
        query = [("identity", files.identity), ("ca", files.ca), *(("standby", other) for other in others)]
        return f"mysql+pymysql://{user}@{first}/watershed?{urlencode(query)}"

    def https_url(self, service: Service) -> str:
        """Where others reach a process of ours."""
        return f"https://{self.address(service, 'https')}"

    def object_store_url(self) -> str:
        (store,) = self.topology.of(Kind.OBJECT_STORE)
        return f"https://{self.address(store, 'https')}"


def listeners(topology: Topology) -> dict[str, Port]:
    """Every listener by ``service/port``."""
    return {f"{service.name}/{port.name}": port for service in topology for port in service.ports}
