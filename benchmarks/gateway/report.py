"""The result as a table, as JSON, and as text for the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.gateway.prompts import WORKLOADS
from benchmarks.gateway.result import Cell, PeerResult, Result

_COLUMNS = ("req/s", "p50 ms", "p99 ms", "added ms", "CPU s/1,000", "MB")


def write_json(result: Result, path: Path) -> None:
    """Write ``result``, ``summary`` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def read_json(path: Path) -> Result:
    """A result written before. Raises msgspec.MsgspecError for anything else."""
    return msgspec.json.decode(path.read_bytes(), type=Result)


def tables(result: Result) -> str:
    """A Markdown table a workload, what failed, and the ratios."""
    parts = [f"{result.processor}, load average {result.load_average[0]:.2f}, commit {result.commit}, {result.date}"]
    for workload in WORKLOADS:
        rows = list(_rows(result.peers, workload.name))
        if rows:
            parts.append("\n".join([f"### {workload.title}", "", *_markdown(rows)]))
    parts += [f"{peer.title} failed: {peer.failure}" for peer in result.peers if peer.failure]
    parts.append("\n".join(f"{name} = {value:g}" for name, value in result.summary.items() if value is not None))
    return "\n\n".join(parts)


def _rows(peers: tuple[PeerResult, ...], workload: str) -> Iterator[tuple[str, ...]]:
    for peer in peers:
        for cell in peer.cells:
            if cell.workload == workload:
                yield (peer.title, str(cell.concurrency), *_figures(cell))


def _figures(cell: Cell) -> tuple[str, ...]:
    return (
        f"{cell.rps:,.0f}" + (f" ({cell.errors} errors)" if cell.errors else ""),
        f"{cell.p50_ms:.2f}",
        f"{cell.p99_ms:.2f}",
        _number(cell.added_p50_ms, ".2f"),
        _number(cell.cpu_s_per_1000, ".3f"),
        _number(cell.rss_mb, ".0f"),
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _markdown(rows: list[tuple[str, ...]]) -> list[str]:
    head = ("", "at a time", *_COLUMNS)
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: tuple[str, ...]) -> str:
        padded = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths))
    return [line(head), f"|{rule}|", *map(line, rows)]
