from __future__ import annotations

import pytest

from benchmarks.gateway.wrk import LoadError, parse
from tests.benchmarks.samples import WRK_OUTPUT, WRK_REFUSED


def test_figures_are_read_from_the_scripts_line_and_not_from_wrks_rounded_text() -> None:
    figures = parse(WRK_OUTPUT)
    assert (figures.requests, figures.p50_us, figures.p99_us) == (816, 58_333, 82_891)
    assert figures.rps == pytest.approx(816 / 2.020246)
    assert figures.errors == 0


def test_a_refused_connection_is_an_error_and_no_request() -> None:
    figures = parse(WRK_REFUSED)
    assert (figures.requests, figures.errors, figures.rps) == (0, 1, 0)


def test_answers_over_399_count_as_errors_and_not_as_throughput() -> None:
    figures = parse(WRK_OUTPUT.replace('"status_errors": 0', '"status_errors": 800'))
    assert figures.rps == pytest.approx(16 / 2.020246)
    assert figures.errors == 800


@pytest.mark.parametrize("output", ["", "Running 1s test @ http://127.0.0.1:9/\nunable to connect to 127.0.0.1:9\n"])
def test_output_without_figures_is_a_failure_of_the_load(output: str) -> None:
    with pytest.raises(LoadError):
        parse(output)
