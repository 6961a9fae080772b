from __future__ import annotations

from benchmarks.gateway.result import summarise
from tests.benchmarks.samples import cell, peer


def test_ratios_are_ours_over_theirs() -> None:
    summary = summarise(
        (
            peer("watershed", cell(4000, 16.0), cell(1500, 0.5, concurrency=1)),
            peer("portkey", cell(800, 71.0), cell(800, 1.0, concurrency=1)),
            peer("litellm", cell(80, 800.0)),
        )
    )
    assert summary["ratio_portkey_c64"] == 5
    assert summary["ratio_litellm_c64"] == 50
    assert summary["p50_ratio_portkey_c1"] == 0.5


def test_a_failed_peer_leaves_its_ratio_empty_and_not_absent() -> None:
    summary = summarise(
        (peer("watershed", cell(4000, 16.0)), peer("portkey", failure="InstallError: npm ended with 1"))
    )
    assert "ratio_portkey_c64" in summary
    assert summary["ratio_portkey_c64"] is None
    assert summary["rps_c64"] == 4000


def test_memory_is_the_largest_of_all_cells_and_cost_is_of_processor_time() -> None:
    summary = summarise((peer("watershed", cell(4000, 16.0), cell(2000, 32.0, workload="history", cpu=0.5)),))
    assert summary["rss_mb"] == 120
    assert summary["cost_history_over_short"] == 2.5
    assert summary["cost_8kb_over_short"] is None


def test_answers_without_events_come_from_the_evidence() -> None:
    ours = peer("watershed", cell(4000, 16.0), evidence={"answers_without_events": 3})
    assert summarise((ours,))["answers_without_events"] == 3


def test_a_prompt_that_was_kept_home_shows_in_the_crossed_share() -> None:
    ours = peer("watershed", cell(4000, 16.0), evidence={"routes": {"cloud": 3, "onprem": 1}})
    assert summarise((ours,))["crossed_share"] == 0.75


def test_a_run_without_watershed_has_no_figures_of_it() -> None:
    summary = summarise((peer("envoy", cell(14_000, 4.3)),))
    assert summary
    assert set(summary.values()) == {None}
