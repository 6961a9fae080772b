"""Output and results as real runs gave them."""

from __future__ import annotations

from benchmarks.gateway.result import Cell, PeerResult, Result, summarise

WRK_OUTPUT = """\
Running 2s test @ http://127.0.0.1:9981/v1/chat/completions
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   174.31ms   24.10ms 243.31ms   71.20%
    Req/Sec   323.10     80.14   500.00     65.00%
  816 requests in 2.02s, 551.43KB read
Requests/sec:    403.96
Transfer/sec:    272.98KB
figures {"requests": 816, "duration_us": 2020246, "bytes": 564672, "p50_us": 58333, "p99_us": 82891, "max_us": 100004, \
"connect_errors": 0, "read_errors": 0, "write_errors": 0, "status_errors": 0, "timeouts": 0}
"""

WRK_REFUSED = """\
Running 1s test @ http://127.0.0.1:9/v1/chat/completions
  1 threads and 1 connections
  Socket errors: connect 1, read 0, write 0, timeout 0
figures {"requests": 0, "duration_us": 1018941, "bytes": 0, "p50_us": 0, "p99_us": 0, "max_us": 0, \
"connect_errors": 1, "read_errors": 0, "write_errors": 0, "status_errors": 0, "timeouts": 0}
"""


def cell(rps: float, p50_ms: float, *, workload: str = "short", concurrency: int = 64, cpu: float | None = 0.2) -> Cell:
    return Cell(workload, concurrency, int(rps * 4), rps, p50_ms, p50_ms * 3, None, cpu, 120.0 if cpu else None, 0)


def peer(name: str, *cells: Cell, failure: str = "", evidence: dict[str, object] | None = None) -> PeerResult:
    return PeerResult(name, name.title(), "1.0", "nothing", failure, 0.5, cells, evidence or {})


def result(*peers: PeerResult) -> Result:
    return Result(
        summary=summarise(peers),
        commit="0123456789ab",
        date="2026-11-24T20:06:41+00:00",
        processor="AMD EPYC <2 cores>",
        cores=2,
        load_average=(0.5, 0.4, 0.3),
        load_average_end=(1.5, 1.4, 0.9),
        seconds_per_cell=4,
        duration_s=600.0,
        load_generator="wrk debian/4.1.0-3+b2",
        peers=peers,
    )
