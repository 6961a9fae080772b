"""Start, watch over and stop the native stack: ``watershed up``, ``down`` and ``status`` as functions.

    up:   packages ─▶ ports ─▶ certificates ─▶ for each wave: prepare, launch, wait until healthy ─▶ settle
    down: the same order backwards; brokers and database nodes one by one, those that only vote last

Every process is a session of its own and is found again by pid and start time, so the command may end; each call looks
at what runs and does only what is missing.
"""

from __future__ import annotations

import fcntl
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from deploy import certificates, kafka_access, keys
from deploy.native import mariadb, packages, process, s3, state, watershed
from deploy.native.driver import Driver
from deploy.native.drivers import DRIVERS
from deploy.native.process import Process
from deploy.site import Site
from deploy.topology import Kind, Service, Topology, waves
from runtime.errors import ConfigurationError

_POLL_S = 0.1
_PORT_GRACE_S = 3.0
_ONE_BY_ONE = (Kind.BROKER, Kind.CONTROLLER, Kind.MARIADB)
_OURS = frozenset({Kind.GATEWAY, Kind.CLEARANCE, Kind.WITNESS, Kind.NODE, Kind.WORKER})

Announce = Callable[[str], None]


class Status(msgspec.Struct, frozen=True):
    """One line of ``watershed status``.

    Attributes:
        state: ``planned`` is a service that ``up`` may not start yet; ``unhealthy`` runs but does not answer.
        ports: number by listener.
        memory_mb: resident, 0 where it does not run.
    """

    name: str
    kind: str
    zone: str
    az: str
    state: Literal["healthy", "unhealthy", "stopped", "planned"]
    pid: int | None
    ports: Mapping[str, int]
    memory_mb: int
    uptime_s: float
    log: str


class Supervisor:
    """The stack of one site.

    Args:
        announce: told in one line what is being done.
        drivers: what runs each kind of service.
    """

    def __init__(self, site: Site, announce: Announce, drivers: Mapping[Kind, Driver] = DRIVERS) -> None:
        self.site = site
        self._announce = announce
        self._drivers = drivers

    def up(self, only: Collection[str] | None = None) -> list[Status]:
        """Start ``only`` and what it needs (default: every service that is ready), in the order of needs.

        Raises:
            ConfigurationError: a package is missing, a port was taken by another program, or a service did not become
                healthy in time; services that started keep running.
        """
        chosen = self._chosen(only)
        with self._locked():
            packages.install(self._requirements(chosen), self._announce)
            self._check_ports(chosen)
            certificates.issue(self.site.certificates_dir, self.admissible())
            s3.make_keys(self.site)
            keys.distribute(self.site.certificates_dir, self.site.topology)
            watershed.write_operator_settings(self.site)
            self._start(chosen)
        return self.status()

    def down(self, only: Collection[str] | None = None, *, wipe: bool = False) -> None:
        """Stop ``only`` (default: everything) and, with ``wipe``, remove all data, keys, logs and certificates.

        Raises:
            ConfigurationError: ``wipe`` together with ``only``.
        """
        if wipe and only is not None:
            raise ConfigurationError("the data of single services cannot be wiped: stop the whole stack")
        services = [s for s in self.site.topology if only is None or s.name in only]
        with self._locked():
            for group in stop_order(services):
                self._stop(group)
        if wipe:
            for service in self.site.topology:
                shutil.rmtree(self.site.home(service), ignore_errors=True)
            shutil.rmtree(self.site.root, ignore_errors=True)
            if self.site.database_root.is_dir() and not any(self.site.database_root.iterdir()):
                self.site.database_root.rmdir()

    def restart(self, names: Iterable[str]) -> None:
        """Stop and start services one at a time, each healthy again before the next is touched.

        Raises:
            ConfigurationError: one did not become healthy again; the rest is left running.
        """
        with self._locked():
            for name in names:
                service = self.site.topology[name]
                self._stop((service,))
                self._start((service,))

    def renew(self) -> list[str]:
        """Replace certificates that are due, and restart the backing services that hold one; our own read theirs again.

        Returns:
            Names whose certificate is new.
        """
        names = certificates.due(self.site.certificates_dir)
        certificates.rotate(self.site.certificates_dir, names)
        running = [s.name for s in self.site.topology if s.name in names and s.kind not in _OURS and self._pid(s)]
        self.restart(running)
        return names

    def revoke(self, name: str) -> None:
        """Shut out an identity: on the CRL, denied in Kafka, locked out of the database, its connections there closed."""
        certificates.revoke(self.site.certificates_dir, name)
        if any(self._pid(service) for service in self.site.topology.of(Kind.BROKER)):
            kafka_access.deny(self.site, name)
        if any(self._pid(service) for service in self.site.topology.of(Kind.MARIADB)):
            mariadb.lock(self.site, name)
        self._renew_entrance(name)

    def readmit(self, name: str) -> None:
        """Give a revoked identity a new certificate and its rights back; the old certificate stays on the CRL."""
        certificates.rotate(self.site.certificates_dir, [name])
        if any(self._pid(service) for service in self.site.topology.of(Kind.BROKER)):
            kafka_access.readmit(self.site, name)
        if any(self._pid(service) for service in self.site.topology.of(Kind.MARIADB)):
            mariadb.unlock(self.site, name)
        self._renew_entrance(name)

    def _renew_entrance(self, name: str) -> None:
        """HAProxy reads the CRL when it starts, and must no longer send anyone to a gateway that is on it."""
        if any(gateway.name == name for gateway in self.site.topology.of(Kind.GATEWAY)):
            self.restart(s.name for s in self.site.topology.of(Kind.HAPROXY) if self._pid(s))

    def status(self) -> list[Status]:
        return [self._status(service) for service in self.site.topology]

    def process(self, service: Service) -> Process:
        return Process(self.site.run / f"{service.name}.json")

    def log(self, service: Service) -> Path:
        return self.site.logs / f"{service.name}.log"

    def _pid(self, service: Service) -> int | None:
        return self.process(service).pid

    def _chosen(self, only: Collection[str] | None) -> list[Service]:
        if only is None:
            return [service for service in self.site.topology if service.ready]
        names = self.site.topology.closure(only)
        chosen = [service for service in self.site.topology if service.name in names]
        if planned := [service.name for service in chosen if not service.ready]:
            raise ConfigurationError(f"not ready to be started: {', '.join(planned)}", code="service_planned")
        return chosen

    def admissible(self) -> list[certificates.Identity]:
        """Everyone but the revoked, who get a certificate by ``rotate`` alone."""
        revoked = {c.name for c in certificates.show(self.site.certificates_dir) if c.revoked_at is not None}
        return [identity for identity in self.site.topology.identities() if identity.name not in revoked]

    def _requirements(self, services: Iterable[Service]) -> list[packages.Requirement]:
        kinds = dict.fromkeys(service.kind for service in services)
        return [requirement for kind in kinds for requirement in self._drivers[kind].requirements()]

    def _check_ports(self, services: Iterable[Service]) -> None:
        """A killed process gives its ports back a moment after it is gone; another program does not."""
        deadline = time.monotonic() + _PORT_GRACE_S
        stopped = [service for service in services if self._pid(service) is None]
        for name, number in ((s.name, self.site.ports[f"{s.name}/{port.name}"]) for s in stopped for port in s.ports):
            while not state.is_free(number):
                if time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"port {number} of {name} is taken by another program; stop the stack to choose anew",
                        code="port_taken",
                    )
                time.sleep(_POLL_S)

    def _start(self, chosen: Sequence[Service]) -> None:
        """Start each service as soon as what it needs is healthy, and settle each kind once all of it is."""
        needs = {service.name: self._drivers[service.kind].needs(self.site, service) for service in chosen}
        waves(chosen, lambda service: needs[service.name])  # refuses a circle
        waiting = {service.name for service in chosen}
        began: dict[str, float] = {}
        while waiting:
            for service in chosen:
                if service.name not in began and waiting.isdisjoint(needs[service.name]):
                    self._launch(service)
                    began[service.name] = time.monotonic()
            for service in chosen:
                if service.name in waiting and service.name in began and self._answers(service, began[service.name]):
                    waiting.remove(service.name)
                    self._announce(f"{service.name} is healthy")
                    peers = [peer for peer in chosen if peer.kind is service.kind]
                    if waiting.isdisjoint(peer.name for peer in peers):
                        self._drivers[service.kind].settle(self.site, peers)
            if waiting:
                time.sleep(_POLL_S)

    def _launch(self, service: Service) -> None:
        if self._pid(service) is not None:
            return
        self._announce(f"starting {service.name}")
        driver = self._drivers[service.kind]
        driver.prepare(self.site, service)
        self.process(service).start(driver.launch(self.site, service), self.log(service))

    def _answers(self, service: Service, began: float) -> bool:
        """Whether it is healthy; raises ConfigurationError where it never will be."""
        if self._drivers[service.kind].healthy(self.site, service):
            return True
        if self._pid(service) is None:
            raise ConfigurationError(f"{service.name} ended; see {self.log(service)}", code="service_ended")
        if time.monotonic() - began > service.health.within_s:
            raise ConfigurationError(
                f"{service.name} was not healthy within {service.health.within_s:g} s; see {self.log(service)}",
                code="service_unhealthy",
            )
        return False

    def _stop(self, group: Sequence[Service]) -> None:
        running = [service for service in group if self._pid(service) is not None]
        for service in running:
            self._announce(f"stopping {service.name}")
            self.process(service).signal(signal.SIGTERM)
        for service in group:
            if not self.process(service).stop():
                self._announce(f"{service.name} was killed after {process.TERM_GRACE_S:.0f} s")

    def _status(self, service: Service) -> Status:
        found = self.process(service)
        pid, record = found.pid, found.record()
        if pid is None:
            condition: Literal["healthy", "unhealthy", "stopped", "planned"] = "stopped" if service.ready else "planned"
        else:
            well = self._drivers[service.kind].healthy(self.site, service)
            condition = "healthy" if well else "unhealthy"
        return Status(
            name=service.name,
            kind=service.kind.value,
            zone=service.zone.value,
            az=service.az.value,
            state=condition,
            pid=pid,
            ports={port.name: self.site.ports[f"{service.name}/{port.name}"] for port in service.ports},
            memory_mb=process.resident_mb(pid) if pid is not None else 0,
            uptime_s=process.uptime_s(record) if pid is not None and record is not None else 0.0,
            log=str(self.log(service)),
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time: two that start the same stack would each miss the other's processes."""
        self.site.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.site.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigurationError("another command is changing this stack", code="stack_busy") from None
            yield


def open_stack(
    state_dir: Path, topology: Topology | None, announce: Announce, options: Mapping[str, str] | None = None
) -> Supervisor:
    """The stack under ``state_dir``, made where there is none.

    Args:
        topology: what it should be; None: what it is.
        options: as in ``Site``; None: those that it has.

    Raises:
        ConfigurationError: there is no stack and ``topology`` is None, one of another shape holds data there, or it runs
            with other options.
    """
    found = state.load(state_dir)
    if found is None:
        if topology is None:
            raise ConfigurationError("no stack was started here", code="stack_unknown")
        return Supervisor(state.create(state_dir, topology, options=options), announce)
    supervisor = Supervisor(found, announce)
    wanted = topology or found.topology
    if _shape(wanted) != _shape(found.topology):
        raise ConfigurationError(
            f"a stack of the topology {found.topology.name} holds data here: wipe it first", code="stack_differs"
        )
    if any(supervisor.process(service).pid is not None for service in found.topology):
        if wanted.name != found.topology.name:
            raise ConfigurationError(f"the topology {found.topology.name} is running: stop it first", code="stack_busy")
        if options is not None and dict(options) != dict(found.options):
            raise ConfigurationError("the stack is running with other options: stop it first", code="stack_busy")
        return supervisor
    return Supervisor(state.create(state_dir, wanted, found, options), announce)


def stop_order(services: Sequence[Service]) -> list[tuple[Service, ...]]:
    """Groups in the order in which they are stopped; the members of one group may go at the same time.

    The entrance goes first, then whatever needs others before what it needs. Of services that hold an election one goes
    at a time, and those that only vote go last: SIGTERM to all brokers at once can hang one of them.
    """
    entrance = [service for service in services if service.kind is Kind.HAPROXY]
    groups = [tuple(entrance)] if entrance else []
    names = {service.name for service in services}
    rest = [service for service in services if service.kind is not Kind.HAPROXY]
    for wave in reversed(waves(rest, lambda service: [name for name in service.needs if name in names])):
        together = tuple(service for service in wave if service.kind not in _ONE_BY_ONE)
        alone = sorted((s for s in reversed(wave) if s.kind in _ONE_BY_ONE), key=lambda s: s.kind is Kind.CONTROLLER)
        groups += [together] if together else []
        groups += [(service,) for service in alone]
    return groups


def _shape(topology: Topology) -> str:
    return topology.name.removesuffix("-faults")
