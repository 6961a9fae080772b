"""What a run found, as it stands in ``benchmarks/results/gateway.json``."""

from __future__ import annotations

import msgspec

Summary = dict[str, float | None]


class Cell(msgspec.Struct, frozen=True):
    """One peer under one workload at one concurrency.

    Attributes:
        rps: good answers a second.
        p50_ms, p99_ms: latency as the load saw it.
        added_p50_ms: p50 over that of the direct run; None where direct was not measured.
        cpu_s_per_1000: processor seconds of the gateway's processes for 1,000 answers; None for direct.
        rss_mb: resident memory after the cell, in 10^6 bytes; None for direct.
        errors: answers over 399, broken connections and time-outs.
    """

    workload: str
    concurrency: int
    requests: int
    rps: float
    p50_ms: float
    p99_ms: float
    added_p50_ms: float | None
    cpu_s_per_1000: float | None
    rss_mb: float | None
    errors: int


class PeerResult(msgspec.Struct, frozen=True):
    """One peer. ``failure`` says why it has no cells, or no more of them; empty when all went well."""

    name: str
    title: str
    version: str
    looks_at: str
    failure: str
    start_s: float | None
    cells: tuple[Cell, ...]
    evidence: dict[str, object]

    def cell(self, workload: str, concurrency: int) -> Cell | None:
        return next((c for c in self.cells if (c.workload, c.concurrency) == (workload, concurrency)), None)


class Result(msgspec.Struct, frozen=True):
    """One run. ``summary`` stands first: it is what other programs read."""

    summary: Summary
    commit: str
    date: str
    processor: str
    cores: int
    load_average: tuple[float, float, float]
    load_average_end: tuple[float, float, float]
    seconds_per_cell: int
    duration_s: float
    load_generator: str
    peers: tuple[PeerResult, ...]


def summarise(peers: tuple[PeerResult, ...]) -> Summary:
    """The flat map of figures. What a run did not measure is None, never left out."""
    by_name = {peer.name: peer for peer in peers}

    def figure(peer: str, workload: str, concurrency: int, name: str) -> float | None:
        result = by_name.get(peer)
        cell = result.cell(workload, concurrency) if result else None
        value = getattr(cell, name) if cell else None
        return float(value) if value is not None else None

    summary: Summary = {}
    for other in ("portkey", "litellm", "tensorzero", "envoy", "floor", "direct"):
        for concurrency in (1, 64):
            ratio = _ratio(figure("watershed", "short", concurrency, "rps"), figure(other, "short", concurrency, "rps"))
            summary[f"ratio_{other}_c{concurrency}"] = ratio
        medians = (figure(peer, "short", 1, "p50_ms") for peer in ("watershed", other))
        summary[f"p50_ratio_{other}_c1"] = _ratio(*medians)
    for name in ("rps", "p50_ms", "p99_ms", "added_p50_ms", "cpu_s_per_1000"):
        for concurrency in (1, 64):
            summary[f"{name}_c{concurrency}"] = figure("watershed", "short", concurrency, name)
    for workload in ("8kb", "history"):
        cost, base = (figure("watershed", w, 64, "cpu_s_per_1000") for w in (workload, "short"))
        summary[f"cost_{workload}_over_short"] = _ratio(cost, base)
    summary["stream_p50_ms_c1"] = figure("watershed", "stream", 1, "p50_ms")
    summary["streams_per_s_c64"] = figure("watershed", "stream", 64, "rps")
    ours = by_name.get("watershed")
    summary["rss_mb"] = max((c.rss_mb for c in ours.cells if c.rss_mb is not None), default=None) if ours else None
    missing = ours.evidence.get("answers_without_events") if ours else None
    summary["answers_without_events"] = float(missing) if isinstance(missing, int) else None
    summary["crossed_share"] = _crossed_share(ours) if ours else None
    return {name: _rounded(value) for name, value in summary.items()}


def _crossed_share(ours: PeerResult) -> float | None:
    """The part of decisions that sent a prompt to the cloud: all prompts may cross, so less than 1 is a fault."""
    routes = ours.evidence.get("routes")
    counts = {str(k): int(v) for k, v in routes.items()} if isinstance(routes, dict) else {}
    total = sum(counts.values())
    return counts.get("cloud", 0) / total if total else None


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
