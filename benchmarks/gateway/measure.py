"""The run itself: every peer, every workload, every concurrency, one after the other.

core A: the gateway          core B: wrk and the upstream
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.gateway import wrk
from benchmarks.gateway.peers import InstallError, Peer, Place
from benchmarks.gateway.process import NotReadyError, Pinned, free_port
from benchmarks.gateway.prompts import WORKLOADS, Workload, conversations
from benchmarks.gateway.result import Cell, PeerResult
from benchmarks.mock.build import cache_dir, upstream_binary

CONCURRENCIES = (1, 16, 64, 256)
CELL_S = 4
LONGER = 4
WARM_UP_CONCURRENCY = 16
WARM_UP_S = 2
UPSTREAM_READY_S = 10
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. ``gateway_core`` and ``load_core`` are processor numbers and differ where there are two."""

    peers: tuple[type[Peer], ...]
    workloads: tuple[Workload, ...] = WORKLOADS
    concurrencies: tuple[int, ...] = CONCURRENCIES
    seconds: int = CELL_S

    @property
    def gateway_core(self) -> int:
        return min(os.sched_getaffinity(0))

    @property
    def load_core(self) -> int:
        return max(os.sched_getaffinity(0))


def measure(plan: Plan, say: Say) -> tuple[PeerResult, ...]:
    """Every peer of ``plan``; one that fails is there with its failure.

    Raises:
        MissingToolError: wrk or the C compiler is missing.
    """
    wrk.wrk_path()
    results: list[PeerResult] = []
    with tempfile.TemporaryDirectory(prefix="watershed-bench-") as name:
        scratch = Path(name)
        with upstream(scratch / "upstream.txt", plan.load_core) as url:
            for kind in plan.peers:
                place = Place(cache_dir() / kind.name, scratch / kind.name, url, free_port())
                place.scratch.mkdir()
                results.append(_PeerRun(plan, kind(place), say).result())
                shutil.rmtree(place.scratch)
    return _with_added(tuple(results))


@contextmanager
def upstream(log: Path, core: int) -> Iterator[str]:
    """The mock upstream, running on ``core``; its base URL with ``/v1``."""
    port = free_port()
    with Pinned([str(upstream_binary()), str(port)], core=core, log=log) as process:
        process.until(lambda: log.read_text().startswith("ready"), UPSTREAM_READY_S)
        yield f"http://127.0.0.1:{port}/v1"


class _PeerRun:
    """One peer: installed, started, measured cell by cell, stopped, asked for its evidence."""

    def __init__(self, plan: Plan, peer: Peer, say: Say) -> None:
        self._plan = plan
        self._peer = peer
        self._say = say
        self._cells: list[Cell] = []
        self._version = ""
        self._start_s: float | None = None
        self._runs = 0
        self._answered = 0
        self._cut_off = 0

    def result(self) -> PeerResult:
        peer, failure, evidence = self._peer, "", dict[str, object]()
        self._say(f"{peer.title}")
        try:
            self._version = peer.install()
            self._run()
            evidence = peer.evidence(self._answered, self._cut_off)
        except (InstallError, NotReadyError, wrk.LoadError) as error:
            failure = f"{type(error).__name__}: {error}"
            self._say(f"  FAILED {failure}")
        return PeerResult(
            name=peer.name,
            title=peer.title,
            version=self._version,
            looks_at=peer.looks_at,
            failure=failure,
            start_s=self._start_s,
            cells=tuple(self._cells),
            evidence=evidence,
        )

    def _run(self) -> None:
        command = self._peer.command()
        if not command:
            self._measure(None)
            return
        begun = time.monotonic()
        place = self._peer.place
        with Pinned(
            command,
            core=self._plan.gateway_core,
            log=place.log,
            environment=self._peer.environment(),
            folder=place.scratch,
        ) as process:
            process.until(self._peer.ready, self._peer.ready_s)
            self._start_s = round(time.monotonic() - begun, 2)
            self._measure(process)

    def _measure(self, process: Pinned | None) -> None:
        for workload in self._plan.workloads:
            bodies = self._write_bodies(workload)
            self._load(bodies, WARM_UP_CONCURRENCY, WARM_UP_S)
            for concurrency in self._plan.concurrencies:
                cpu_s = process.cpu_s() if process else 0.0
                figures = self._load(bodies, concurrency, self._plan.seconds)
                if figures.requests == 0:  # slower than the cell is long: a longer one
                    cpu_s = process.cpu_s() if process else 0.0
                    figures = self._load(bodies, concurrency, self._plan.seconds * LONGER)
                if figures.requests <= figures.status_errors:
                    raise wrk.LoadError(f"no answer under {workload.name} at {concurrency}: {figures}")
                used_s = process.cpu_s() - cpu_s if process else None
                cell = _cell(workload, concurrency, figures, used_s, process.rss_mb() if process else None)
                self._cells.append(cell)
                self._say(_line(cell))

    def _load(self, bodies: Path, concurrency: int, seconds: int) -> wrk.Figures:
        self._runs += 1
        figures = wrk.run(
            self._peer.url,
            bodies=bodies,
            headers=self._peer.headers,
            cell=self._runs,
            concurrency=concurrency,
            seconds=seconds,
            core=self._plan.load_core,
        )
        self._answered += figures.requests - figures.status_errors
        self._cut_off += concurrency
        return figures

    def _write_bodies(self, workload: Workload) -> Path:
        path = self._peer.place.scratch / f"{workload.name}.jsonl"
        bodies = (self._peer.body(messages, stream=workload.stream) for messages in conversations(workload))
        path.write_text("".join(json.dumps(body, ensure_ascii=False) + "\n" for body in bodies), encoding="utf-8")
        return path


def _cell(
    workload: Workload, concurrency: int, figures: wrk.Figures, used_s: float | None, rss_mb: float | None
) -> Cell:
    answered = figures.requests - figures.status_errors
    return Cell(
        workload=workload.name,
        concurrency=concurrency,
        requests=figures.requests,
        rps=round(figures.rps, 1),
        p50_ms=figures.p50_us / 1000,
        p99_ms=figures.p99_us / 1000,
        added_p50_ms=None,
        cpu_s_per_1000=None if used_s is None else round(used_s / answered * 1000, 4),
        rss_mb=None if rss_mb is None else round(rss_mb, 1),
        errors=figures.errors,
    )


def _with_added(peers: tuple[PeerResult, ...]) -> tuple[PeerResult, ...]:
    direct = next((peer for peer in peers if peer.name == "direct"), None)
    if direct is None:
        return peers

    def over_direct(cell: Cell) -> Cell:
        base = direct.cell(cell.workload, cell.concurrency)
        return cell if base is None else msgspec.structs.replace(cell, added_p50_ms=round(cell.p50_ms - base.p50_ms, 3))

    return tuple(msgspec.structs.replace(peer, cells=tuple(map(over_direct, peer.cells))) for peer in peers)


def _line(cell: Cell) -> str:
    return (
        f"  {cell.workload:<8} c={cell.concurrency:<4}{cell.rps:>10,.0f} req/s  p50 {cell.p50_ms:>9.2f} ms"
        f"  p99 {cell.p99_ms:>9.2f} ms" + (f"  {cell.errors} errors" if cell.errors else "")
    )


def sequence_of(names: Sequence[str], known: tuple[type[Peer], ...]) -> tuple[type[Peer], ...]:
    """The peers called ``names``, in the order of ``known``.

    Raises:
        ValueError: one of them is not known.
    """
    if unknown := set(names) - {kind.name for kind in known}:
        raise ValueError(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(k.name for k in known)}")
    return tuple(kind for kind in known if kind.name in names)
