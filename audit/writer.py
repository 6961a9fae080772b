"""Group commit: one thread that makes events durable, everything that waits at a time.

    append ─▶ queue ─▶ writer: hash, frame, one durable write ─▶ receipts, back on each caller's loop

The thread commits as soon as it is free and never waits to gather, so one waiter has its receipt after one write and a
crowd shares one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from audit.event import Event, Receipt, encode, kind_of
from audit.merkle import leaf_hash
from audit.open_requests import OpenRequest
from audit.recovery import Recovered
from audit.segment import MAX_RECORD_BYTES, SEGMENT_BYTES, Header, SegmentWriter, frames
from runtime import telemetry
from runtime.errors import AuditError

MAX_QUEUED_EVENTS = 65_536
MAX_COMMIT_EVENTS = 4_096
MAX_COMMIT_BYTES = 4 * 1024 * 1024

log = structlog.get_logger()


class Tip(NamedTuple):
    """What is durable: the log's size and its Merkle frontier, largest subtree first."""

    size: int
    peaks: tuple[bytes, ...]


class _Waiter(NamedTuple):
    events: Sequence[Event]
    payloads: Sequence[bytes]
    size_bytes: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[Receipt]]


class Writer:
    """Owns the log's segments from ``start`` to ``stop``. After a failed write it takes nothing more, ever."""

    def __init__(self, folder: Path, log_id: str, recovered: Recovered) -> None:
        self._folder = folder
        self._log_id = log_id
        self._frontier = recovered.frontier
        self._nodes = recovered.nodes
        self._segment = recovered.segment
        self._open_requests = recovered.open_requests
        self._noting = threading.Lock()
        self._queue: deque[_Waiter] = deque()
        self._queued_events = 0
        self._stopping = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="audit-writer", daemon=True)
        self.failed = False
        self.tip = Tip(self._frontier.size, tuple(self._frontier.peaks))
        self.grown = threading.Event()
        """Set when something new is durable; whoever has looked at ``tip`` clears it first."""

    def start(self) -> None:
        self._thread.start()

    def submit(self, events: Sequence[Event]) -> asyncio.Future[list[Receipt]]:
        """Queue up to ``MAX_COMMIT_EVENTS`` events; the receipts come to the running loop.

        Raises:
            AuditError: an event is over 16 MiB, too many are queued, or the log is closed or has failed.
        """
        payloads = [encode(event) for event in events]
        size_bytes = sum(map(len, payloads))
        if size_bytes > MAX_RECORD_BYTES and max(map(len, payloads)) > MAX_RECORD_BYTES:
            raise AuditError("an audit event is over 16 MiB", code="audit_event_too_large")
        loop = asyncio.get_running_loop()
        waiter = _Waiter(events, payloads, size_bytes, loop, loop.create_future())
        with self._wake:
            if self.failed or self._stopping:
                raise _failure() if self.failed else AuditError("the audit log is closed", code="audit_closed")
            if self._queued_events + len(events) > MAX_QUEUED_EVENTS:
                raise AuditError("too many audit events are waiting", code="audit_backlog", retry_after_s=1)
            self._queued_events += len(events)
            self._queue.append(waiter)
            self._wake.notify()
        return waiter.future

    def commit(self, events: Sequence[Event]) -> list[Receipt]:
        """Make events durable now, on the caller's thread; only before ``start``. Raises OSError."""
        return self._commit(events, [encode(event) for event in events])

    def open_requests(self) -> tuple[OpenRequest, ...]:
        """Durably decided and not closed, in the order of their decisions."""
        with self._noting:
            return self._open_requests.all()

    def stop(self) -> None:
        """Finish what is queued, then close the files. Blocks."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()
        self._segment.close()

    def _run(self) -> None:
        while batch := self._next():
            try:
                receipts = self._commit(
                    [event for waiter in batch for event in waiter.events],
                    [payload for waiter in batch for payload in waiter.payloads],
                )
            except OSError as error:
                log.error("audit write failed", log_id=self._log_id, errno=error.errno)
                self._fail(batch)
                return
            except Exception as error:  # a fault of ours: what is durable is unknown, so nothing more may be written
                log.error("audit writer failed", log_id=self._log_id, cause=type(error).__name__, exc_info=True)
                self._fail(batch)
                return
            _deliver(batch, receipts)

    def _next(self) -> list[_Waiter]:
        """Everything that waits, up to the bounds of a commit; nothing once stopped."""
        with self._wake:
            while not self._queue and not self._stopping:
                self._wake.wait()
            batch: list[_Waiter] = []
            events = size_bytes = 0
            while self._queue:
                waiter = self._queue[0]
                events += len(waiter.events)
                size_bytes += waiter.size_bytes
                if batch and (events > MAX_COMMIT_EVENTS or size_bytes > MAX_COMMIT_BYTES):
                    break
                batch.append(self._queue.popleft())
                self._queued_events -= len(waiter.events)
            return batch

    def _commit(self, events: Sequence[Event], payloads: Sequence[bytes]) -> list[Receipt]:
        if self._segment.size >= SEGMENT_BYTES:
            self._begin_segment()
        receipts: list[Receipt] = []
        made: list[bytes] = []
        for payload in payloads:
            leaf = leaf_hash(payload)
            receipts.append(Receipt(self._log_id, self._frontier.size, leaf))
            made += self._frontier.append(leaf)
        self._segment.write(frames(payloads))
        self._nodes.append(made)
        self.tip = Tip(self._frontier.size, tuple(self._frontier.peaks))
        self.grown.set()
        with self._noting:
            for event in events:
                self._open_requests.note(event)
        for kind, count in Counter(map(kind_of, events)).items():
            telemetry.AUDIT_EVENTS.labels(kind).inc(count)
        return receipts

    def _begin_segment(self) -> None:
        # Opening the log trusts the tree up to its last segment, so that much must be on disk before there is one.
        self._nodes.sync()
        header = Header.of(self._log_id, self._frontier, self._open_requests.all())
        following = SegmentWriter.create(self._folder, header)
        self._segment.close()
        self._segment = following

    def _fail(self, batch: list[_Waiter]) -> None:
        with self._wake:
            self.failed = True
            waiting = [*batch, *self._queue]
            self._queue.clear()
            self._queued_events = 0
        _deliver(waiting, None)


def _failure() -> AuditError:
    return AuditError("the audit log cannot be written", code="audit_write_failed")


def _deliver(batch: list[_Waiter], receipts: list[Receipt] | None) -> None:
    """Receipts to their waiters, or the failure, with one wake-up a loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[list[Receipt]], list[Receipt] | None]]] = {}
    start = 0
    for waiter in batch:
        end = start + len(waiter.events)
        part = receipts[start:end] if receipts is not None else None
        by_loop.setdefault(waiter.loop, []).append((waiter.future, part))
        start = end
    for loop, outcomes in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, outcomes)


def _settle(outcomes: list[tuple[asyncio.Future[list[Receipt]], list[Receipt] | None]]) -> None:
    for future, receipts in outcomes:
        if future.done():  # its waiter was cancelled; the event is in the log all the same
            continue
        if receipts is None:
            future.set_exception(_failure())
        else:
            future.set_result(receipts)
