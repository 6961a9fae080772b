"""``python -m benchmarks.gateway.check``: has the gateway become slower than the committed results say?

Compares by ratio to the floor of the same run, since machines and their neighbours differ. Prints; never fails for it.
"""

from __future__ import annotations

import sys

import msgspec

from benchmarks.gateway.__main__ import QUICK_CELL_S, QUICK_CONCURRENCIES, RESULTS, run
from benchmarks.gateway.measure import Plan
from benchmarks.gateway.peers.floor import Floor
from benchmarks.gateway.peers.watershed import Watershed
from benchmarks.gateway.report import read_json
from benchmarks.gateway.result import Result
from benchmarks.mock.build import MissingToolError

NOISE = 0.15
"""Runs on two shared cores differ by this much; less is no news."""


def compare(committed: Result, now: Result) -> list[str]:
    """A line a workload and concurrency that both have: our part of the floor's throughput, then and now."""
    lines: list[str] = []
    theirs = next((peer for peer in now.peers if peer.name == "watershed"), None)
    for cell in theirs.cells if theirs else ():
        before, after = (_part(result, cell.workload, cell.concurrency) for result in (committed, now))
        if before is None or after is None:
            continue
        change = after / before - 1
        word = "slower" if change < -NOISE else "faster" if change > NOISE else "as before"
        lines.append(
            f"{cell.workload:<8} c={cell.concurrency:<4} {before:6.3f} -> {after:6.3f} of the floor ({change:+.0%}, {word})"
        )
    return lines


def _part(result: Result, workload: str, concurrency: int) -> float | None:
    cells = {peer.name: peer.cell(workload, concurrency) for peer in result.peers}
    ours, floor = cells.get("watershed"), cells.get("floor")
    return ours.rps / floor.rps if ours and floor and floor.rps else None


def main() -> int:
    try:
        committed = read_json(RESULTS)
        plan = Plan((Watershed, Floor), concurrencies=QUICK_CONCURRENCIES, seconds=QUICK_CELL_S)
        now = run(plan)
    except (MissingToolError, OSError, msgspec.MsgspecError) as error:
        print(f"nothing to compare: {error}")
        return 0
    print(f"committed: {committed.commit}, {committed.date}, load average {committed.load_average[0]}")
    print("\n".join(compare(committed, now)) or "nothing to compare: one of the two failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
