"""A service in a container: its own names, its own identity, the same drivers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from deploy import container
from deploy.native import haproxy, kafka, mariadb
from deploy.native.drivers import DRIVERS
from deploy.topology import Kind
from runtime.errors import ConfigurationError


def test_services_find_each_other_by_name(tmp_path: Path) -> None:
    place = container.site(tmp_path)
    broker = kafka.server_properties(place, place.topology["kafka-a"])
    assert "controller.quorum.voters=1@kafka-a:9094,2@kafka-b:9094,3@kafka-w:9094" in broker
    assert "listeners=CLIENT://0.0.0.0:9092" in broker
    assert "advertised.listeners=CLIENT://kafka-a:9092" in broker
    database = mariadb.server_configuration(place, place.topology["mariadb-b"])
    assert "wsrep_cluster_address=gcomm://mariadb-a:4567,mariadb-b:4567" in database
    assert "server gateway-b gateway-b:8443" in haproxy.configuration(place, place.topology["haproxy"])


def test_setup_makes_every_identity_and_hands_it_to_the_services_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned: dict[str, int] = {}
    monkeypatch.setattr(os, "chown", lambda path, user, group: owned.update({str(path): user}))
    place = container.site(tmp_path)
    container.setup(place)
    for identity in place.topology.identities():
        assert owned[str(place.files(identity.name).key)] == container.ACCOUNT_ID
    assert not any("/ca/" in path for path in owned), "the CA's key stays with root"


def test_run_prepares_the_service_and_becomes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[Any] = []
    monkeypatch.setattr(os, "execvpe", lambda *call: became.append(call))
    monkeypatch.setattr(os, "chdir", lambda path: None)
    monkeypatch.setattr("deploy.native.packages.find_program", lambda program: f"/usr/sbin/{program}")
    place = container.site(tmp_path)
    container.run(place, "haproxy")
    assert (place.home(place.topology["haproxy"]) / "haproxy.cfg").exists()
    assert became[0][0] == "/usr/sbin/haproxy"


class _Counted:
    """A driver that is always well and counts how often it is settled."""

    def __init__(self, *, well: bool) -> None:
        self.well = well
        self.settled = 0

    def healthy(self, *_: object) -> bool:
        return self.well

    def settle(self, *_: object) -> None:
        self.settled += 1


@pytest.mark.parametrize(("name", "well", "times"), [("kafka-a", True, 1), ("kafka-b", True, 0), ("kafka-a", False, 0)])
def test_the_first_of_a_kind_settles_once_when_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, well: bool, times: int
) -> None:
    driver = _Counted(well=well)
    monkeypatch.setattr(container, "DRIVERS", {**DRIVERS, Kind.BROKER: driver})
    place = container.site(tmp_path)
    place.home(place.topology[name]).mkdir(parents=True)
    assert [container.check(place, name) for _ in range(3)] == [well] * 3
    assert driver.settled == times


def test_anything_else_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="usage"):
        container.main(["run"])
