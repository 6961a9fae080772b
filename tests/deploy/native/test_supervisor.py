"""``up``, ``down`` and ``status``: order, idempotence, and nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from deploy import certificates, topology
from deploy.native import state
from deploy.native.driver import Launch
from deploy.native.packages import Requirement
from deploy.native.supervisor import Status, Supervisor, open_stack, stop_order
from deploy.site import Site
from deploy.topology import Health, Kind, Service, Topology
from runtime.errors import ConfigurationError


class Sleeper:
    """A driver whose services are processes that only sleep, well as long as they run."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.code = "import time; time.sleep(600)"
        self.never_well: set[str] = set()
        self.supervisor: Supervisor | None = None

    def requirements(self) -> Sequence[Requirement]:
        return ()

    def needs(self, site: Site, service: Service) -> Sequence[str]:
        return service.needs

    def prepare(self, site: Site, service: Service) -> None:
        self.calls.append(("prepare", service.name))
        site.home(service).mkdir(parents=True, exist_ok=True)

    def launch(self, site: Site, service: Service) -> Launch:
        self.calls.append(("launch", service.name))
        return Launch((sys.executable, "-c", self.code), cwd=site.home(service))

    def healthy(self, site: Site, service: Service) -> bool:
        assert self.supervisor is not None
        return service.name not in self.never_well and self.supervisor.process(service).pid is not None

    def settle(self, site: Site, services: Sequence[Service]) -> None:
        self.calls.extend(("settle", service.name) for service in services)

    def launched(self) -> list[str]:
        return [name for call, name in self.calls if call == "launch"]


@pytest.fixture
def sleeper() -> Sleeper:
    return Sleeper()


@pytest.fixture
def stack(full_site: Site, sleeper: Sleeper) -> Iterator[Supervisor]:
    ports = state.allocate(full_site.topology, {})
    site = Site(full_site.topology, full_site.root, full_site.database_root, ports)
    supervisor = Supervisor(site, lambda line: None, dict.fromkeys(Kind, sleeper))
    sleeper.supervisor = supervisor
    yield supervisor
    supervisor.down(wipe=True)


def _pids(status: list[Status]) -> dict[str, int]:
    return {line.name: line.pid for line in status if line.pid is not None}


DATABASES = ["mariadb-arbiter"]  # needs both nodes


def test_what_is_needed_is_started_first_and_nothing_else(stack: Supervisor, sleeper: Sleeper) -> None:
    stack.up(DATABASES)
    assert sleeper.launched() == ["mariadb-a", "mariadb-b", "mariadb-arbiter"]
    settled = sleeper.calls.index(("settle", "mariadb-a"))
    assert settled < sleeper.calls.index(("launch", "mariadb-arbiter")), "accounts are there before anyone comes"


def test_up_again_changes_nothing(stack: Supervisor) -> None:
    assert _pids(stack.up(DATABASES)) == _pids(stack.up(DATABASES))


def test_up_again_starts_what_died(stack: Supervisor) -> None:
    before = _pids(stack.up(DATABASES))
    os.kill(before["mariadb-b"], signal.SIGKILL)
    after = _pids(stack.up(DATABASES))
    assert after["mariadb-b"] != before["mariadb-b"]
    assert after["mariadb-a"] == before["mariadb-a"]


def _with_planned(stack: Supervisor, sleeper: Sleeper, name: str) -> Supervisor:
    services = tuple(replace(s, ready=False) if s.name == name else s for s in stack.site.topology)
    site = replace(stack.site, topology=Topology("full", services))
    sleeper.supervisor = Supervisor(site, lambda line: None, dict.fromkeys(Kind, sleeper))
    return sleeper.supervisor


def test_everything_ready_is_started_by_default(stack: Supervisor, sleeper: Sleeper) -> None:
    status = _with_planned(stack, sleeper, "haproxy").up()
    assert {line.name: line.state for line in status} == {
        service.name: "planned" if service.name == "haproxy" else "healthy" for service in stack.site.topology
    }


def test_a_planned_service_is_refused_by_name(stack: Supervisor, sleeper: Sleeper) -> None:
    with pytest.raises(ConfigurationError, match="haproxy"):
        _with_planned(stack, sleeper, "haproxy").up(["haproxy"])


def test_every_process_gets_its_own_keys_before_it_is_started(stack: Supervisor) -> None:
    stack.up(["worker-a"])
    held = {path.name for path in (stack.site.files("worker-a").folder / "keys").iterdir()}
    assert held == {"pool-cloud.x25519"}


def test_a_process_does_not_inherit_the_settings_of_the_command(
    stack: Supervisor, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATERSHED_STATE_DIR", "/elsewhere")
    stack.up(["kafka-w"])
    pid = _pids(stack.status())["kafka-w"]
    assert b"WATERSHED_" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_service_that_ends_at_once_is_named_with_its_log(stack: Supervisor, sleeper: Sleeper) -> None:
    sleeper.code = "raise SystemExit('no')"
    sleeper.never_well.add("mariadb-a")
    with pytest.raises(ConfigurationError, match=r"mariadb-a ended; see .*/logs/mariadb-a.log"):
        stack.up(DATABASES)


def test_a_service_that_is_never_well_is_given_up(stack: Supervisor, sleeper: Sleeper) -> None:
    haste = Health(within_s=0.2, port="health")
    shape = Topology("hasty", tuple(replace(service, health=haste) for service in stack.site.topology.of(Kind.HAPROXY)))
    hasty = Supervisor(replace(stack.site, topology=shape), lambda line: None, dict.fromkeys(Kind, sleeper))
    sleeper.supervisor = hasty
    sleeper.never_well.add("haproxy")
    with pytest.raises(ConfigurationError, match=r"haproxy was not healthy within 0\.2 s"):
        hasty._start(shape.services)
    (line,) = hasty.status()
    assert line.state == "unhealthy"


def test_a_port_that_another_program_took_is_named(stack: Supervisor) -> None:
    import socket

    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # an earlier stack may have used it just now
        other.bind(("127.0.0.1", stack.site.ports["mariadb-a/sql"]))
        other.listen()
        with pytest.raises(ConfigurationError, match=f"port {stack.site.ports['mariadb-a/sql']} of mariadb-a"):
            stack.up(DATABASES)


def test_down_stops_everything_and_keeps_data(stack: Supervisor) -> None:
    pids = _pids(stack.up(DATABASES)).values()
    stack.down()
    assert all(not Path(f"/proc/{pid}").exists() for pid in pids)
    assert stack.site.home(stack.site.topology["mariadb-a"]).exists()
    assert list(stack.site.run.iterdir()) == []


def test_wipe_leaves_nothing(stack: Supervisor) -> None:
    stack.up(DATABASES)
    stack.down(wipe=True)
    assert not stack.site.root.exists()
    assert not stack.site.database_root.exists()


def test_two_commands_do_not_change_one_stack_at_once(stack: Supervisor) -> None:
    with stack._locked(), pytest.raises(ConfigurationError, match="another command"):
        stack.up()


def test_a_revoked_identity_does_not_keep_the_stack_from_starting(stack: Supervisor) -> None:
    certificates.issue(stack.site.certificates_dir, stack.site.topology.identities())
    stack.revoke("worker-b")
    stack.up(DATABASES)
    shown = {c.name: c.revoked_at for c in certificates.show(stack.site.certificates_dir)}
    assert shown["worker-b"] is not None
    stack.down()
    stack.readmit("worker-b")
    shown = {c.name: c.revoked_at for c in certificates.show(stack.site.certificates_dir)}
    assert shown["worker-b"] is None


def test_the_entrance_stops_first_and_those_that_only_vote_last() -> None:
    order = [[service.name for service in group] for group in stop_order(topology.full().services)]
    flat = [name for group in order for name in group]
    assert order[0] == ["haproxy"]
    assert flat.index("gateway-a") < flat.index("node-a") < flat.index("mariadb-b") < flat.index("mariadb-a")
    assert flat.index("mariadb-arbiter") < flat.index("mariadb-b"), "the last to stop must have a data node's view"
    assert flat[-3:] == ["kafka-b", "kafka-a", "kafka-w"]
    for name in ("kafka-a", "kafka-b", "kafka-w", "mariadb-a", "mariadb-b"):
        assert [name] in order, "one by one"


def test_a_stack_is_opened_again_as_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no stack"):
        open_stack(tmp_path, None, lambda line: None)
    made = open_stack(tmp_path, topology.small(), lambda line: None)
    assert open_stack(tmp_path, None, lambda line: None).site == made.site
    with pytest.raises(ConfigurationError, match="wipe it first"):
        open_stack(tmp_path, topology.full(), lambda line: None)
    told = open_stack(tmp_path, None, lambda line: None, {"cloud_url": "http://127.0.0.1:1/v1"})
    assert open_stack(tmp_path, None, lambda line: None).site.options == told.site.options
    faulty = open_stack(tmp_path, topology.named("small-faults"), lambda line: None)
    assert faulty.site.topology.name == "small-faults"
    assert faulty.site.ports["kafka-a/client"] == made.site.ports["kafka-a/client"]


# The real thing.


@pytest.mark.stack
def test_the_small_stack_is_healthy_and_up_again_leaves_it_alone(small_stack: Supervisor) -> None:
    before = small_stack.status()
    assert {line.name: line.state for line in before} == {s.name: "healthy" for s in small_stack.site.topology}
    assert all(line.memory_mb > 0 for line in before if line.state == "healthy")
    assert _pids(small_stack.up()) == _pids(before)


@pytest.mark.stack
def test_a_restarted_service_takes_its_new_certificate(small_stack: Supervisor) -> None:
    import ssl

    store = small_stack.site.topology["object-store"]
    address = small_stack.site.address(store, "https")

    def shown() -> str:
        return ssl.get_server_certificate((address.host, address.port)).strip()

    before = shown()
    certificates.rotate(small_stack.site.certificates_dir, ["object-store"])
    small_stack.restart(["object-store"])
    assert shown() != before
    assert shown() in small_stack.site.files("object-store").certificate.read_text()
