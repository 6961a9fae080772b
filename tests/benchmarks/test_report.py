from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.gateway.chart import svg
from benchmarks.gateway.report import read_json, tables, write_json
from benchmarks.gateway.result import Result
from tests.benchmarks.samples import cell, peer, result


@pytest.fixture
def run() -> Result:
    return result(
        peer("watershed", cell(4000, 16.0), cell(1500, 0.5, concurrency=1)),
        peer("portkey", cell(800, 71.0), cell(800, 1.0, concurrency=1)),
        peer("litellm", failure="NotReadyError: not ready after 120 s: <log>"),
    )


def test_the_file_opens_with_the_summary_and_reads_back_equal(run: Result, tmp_path: Path) -> None:
    path = tmp_path / "results" / "gateway.json"
    write_json(run, path)
    assert next(iter(json.loads(path.read_text()))) == "summary"
    assert read_json(path) == run


def test_the_table_shows_each_cell_the_failure_and_the_ratios(run: Result) -> None:
    text = tables(run)
    assert "| Watershed |        64 | 4,000 |" in text
    assert "Litellm failed: NotReadyError" in text
    assert "ratio_portkey_c64 = 5" in text
    assert "ratio_litellm" not in text  # nothing to divide by


def test_columns_of_a_table_are_aligned(run: Result) -> None:
    rows = [line for line in tables(run).splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1


def test_errors_stand_beside_the_throughput_they_spoil(run: Result) -> None:
    import msgspec

    spoilt = msgspec.structs.replace(cell(100, 9.0), errors=7)
    assert "100 (7 errors)" in tables(result(peer("envoy", spoilt)))


def test_the_chart_is_well_formed_names_every_peer_and_says_who_failed(run: Result) -> None:
    drawing = ElementTree.fromstring(svg(run))  # the processor's name holds markup
    words = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Watershed", "Portkey", "Litellm"} <= set(words)
    assert words.count("failed") == 2


def test_more_throughput_is_a_longer_bar(run: Result) -> None:
    bars = [e for e in ElementTree.fromstring(svg(run)).iter("{http://www.w3.org/2000/svg}rect") if e.get("x")]
    ours, portkey, failed = (float(bar.get("width") or "nan") for bar in bars[:3])
    assert ours > portkey > failed == 0
