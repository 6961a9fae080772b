"""``python -m benchmarks.gateway``: measure, print, write ``benchmarks/results/gateway.json`` and its chart.

Exits with 2 when a tool is missing, and with 1 when Watershed itself failed; a failed peer is reported and not fatal.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gateway.chart import svg
from benchmarks.gateway.measure import CELL_S, CONCURRENCIES, Plan, measure, sequence_of
from benchmarks.gateway.peers import PEERS
from benchmarks.gateway.report import tables, write_json
from benchmarks.gateway.result import Result, summarise
from benchmarks.mock.build import MissingToolError

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "gateway.json"
QUICK_CONCURRENCIES = (1, 64)
QUICK_CELL_S = 2


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    try:
        peers = sequence_of(options.only.split(","), PEERS) if options.only else PEERS
        seconds = options.seconds or (QUICK_CELL_S if options.quick else CELL_S)
        plan = Plan(peers, concurrencies=QUICK_CONCURRENCIES if options.quick else CONCURRENCIES, seconds=seconds)
        result = run(plan)
    except (MissingToolError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(tables(result))
    # A partial run is for the eye: the committed results are of one whole run.
    output = options.output or (None if options.quick or options.only else RESULTS)
    if output is not None:
        write_json(result, output)
        output.with_suffix(".svg").write_text(svg(result), encoding="utf-8")
        print(f"\nwritten: {output} and {output.with_suffix('.svg').name}")
    return int(any(peer.failure for peer in result.peers if peer.name == "watershed"))


def run(plan: Plan) -> Result:
    """Measure ``plan`` and say where and when. Raises MissingToolError."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    load_average, begun = os.getloadavg(), time.monotonic()
    peers = measure(plan, lambda text: print(text, file=sys.stderr, flush=True))
    return Result(
        summary=summarise(peers),
        commit=_commit(),
        date=date,
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        load_average=_rounded(load_average),
        load_average_end=_rounded(os.getloadavg()),
        seconds_per_cell=plan.seconds,
        duration_s=round(time.monotonic() - begun, 1),
        load_generator=_wrk_version(),
        peers=peers,
    )


def _options(arguments: list[str] | None) -> argparse.Namespace:
    names = ",".join(kind.name for kind in PEERS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--only", metavar="NAMES", help=f"some of {names}, with commas; writes no results")
    parser.add_argument("--quick", action="store_true", help="short cells, at 1 and 64 only; writes no results")
    parser.add_argument("--seconds", type=int, metavar="N", help=f"length of a cell (default {CELL_S})")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the JSON there, and the chart beside it")
    return parser.parse_args(arguments)


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.stdout.strip() or "uncommitted"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def _wrk_version() -> str:
    ended = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    return " ".join((ended.stdout or ended.stderr).split()[:2])


def _rounded(averages: tuple[float, float, float]) -> tuple[float, float, float]:
    return round(averages[0], 2), round(averages[1], 2), round(averages[2], 2)


if __name__ == "__main__":
    sys.exit(main())
