from __future__ import annotations

from benchmarks.gateway.check import compare
from tests.benchmarks.samples import cell, peer, result


def test_a_slower_machine_is_no_slow_down() -> None:
    committed = result(peer("watershed", cell(1000, 64.0)), peer("floor", cell(4000, 16.0)))
    half_the_machine = result(peer("watershed", cell(500, 128.0)), peer("floor", cell(2000, 32.0)))
    (line,) = compare(committed, half_the_machine)
    assert "as before" in line


def test_losing_ground_to_the_floor_is_named() -> None:
    committed = result(peer("watershed", cell(1000, 64.0)), peer("floor", cell(4000, 16.0)))
    slower = result(peer("watershed", cell(600, 107.0)), peer("floor", cell(4000, 16.0)))
    (line,) = compare(committed, slower)
    assert "-40%, slower" in line


def test_what_only_one_run_has_is_not_compared() -> None:
    committed = result(peer("watershed", failure="NotReadyError"), peer("floor", cell(4000, 16.0)))
    now = result(peer("watershed", cell(600, 107.0)), peer("floor", cell(4000, 16.0)))
    assert compare(committed, now) == []
