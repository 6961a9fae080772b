from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gateway import measure as driver
from benchmarks.gateway.measure import Plan, sequence_of
from benchmarks.gateway.peers import PEERS, InstallError
from benchmarks.gateway.peers.direct import Direct
from benchmarks.gateway.prompts import WORKLOADS
from benchmarks.gateway.wrk import Figures


class Uninstallable(Direct):
    name = "uninstallable"
    title = "Uninstallable"

    def install(self) -> str:
        raise InstallError("npm ended with 1")


class Crashing(Direct):
    name = "crashing"
    title = "Crashing"

    def command(self) -> list[str]:
        return ["sh", "-c", "echo no such option; exit 3"]

    def ready(self) -> bool:
        return False


@pytest.fixture
def no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(range(1, 1000))

    def run(url: str, *, bodies: Path, concurrency: int, **_: object) -> Figures:
        assert bodies.read_text().count("\n") == 64
        return Figures(1000 * concurrency, 1_000_000, 1, 100 * next(answers), 900, 1000, 0, 0, 0, 0, 0)

    monkeypatch.setattr(driver.wrk, "run", run)
    monkeypatch.setattr(driver.wrk, "wrk_path", lambda: "wrk")


@pytest.mark.system
@pytest.mark.usefixtures("no_load")
def test_a_peer_that_fails_is_reported_and_the_others_are_measured() -> None:
    said: list[str] = []
    plan = Plan((Uninstallable, Crashing, Direct), workloads=WORKLOADS[:1], concurrencies=(1, 64), seconds=1)
    uninstallable, crashing, direct = driver.measure(plan, said.append)
    assert (uninstallable.failure, uninstallable.cells) == ("InstallError: npm ended with 1", ())
    assert crashing.failure == "NotReadyError: ended with 3: no such option"
    assert (direct.failure, [cell.concurrency for cell in direct.cells]) == ("", [1, 64])
    assert sum("FAILED" in line for line in said) == 2


@pytest.mark.system
@pytest.mark.usefixtures("no_load")
def test_added_latency_is_over_the_direct_run_of_the_same_cell() -> None:
    class Slower(Direct):
        name = "slower"

    plan = Plan((Direct, Slower), workloads=WORKLOADS[:1], concurrencies=(1,), seconds=1)
    direct, slower = driver.measure(plan, lambda _: None)
    assert direct.cells[0].added_p50_ms == 0
    assert slower.cells[0].added_p50_ms == pytest.approx(slower.cells[0].p50_ms - direct.cells[0].p50_ms)


def test_peers_keep_the_order_of_the_table() -> None:
    assert [kind.name for kind in sequence_of(["envoy", "direct"], PEERS)] == ["direct", "envoy"]


def test_an_unknown_peer_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no such peer: nginx"):
        sequence_of(["direct", "nginx"], PEERS)
