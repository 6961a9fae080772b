"""The audit log of one gateway instance: append-only, a Merkle tree, co-signed within a second (law 7).

    append ─▶ Writer ─▶ segments, nodes
                 └────▶ Checkpointer ─▶ Witness ─▶ checkpoints

An instance goes on with its own log for as long as its key is the same, and opens a new one, entered in the register,
when it has none or has another key. One process holds a log at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpointer import Checkpointer
from audit.event import AdminEvent, Event, Receipt
from audit.lines import sync_folder
from audit.nodes import NodeFile
from audit.open_requests import OpenRequest, interrupted
from audit.recovery import Recovered, damaged, left_open, recover
from audit.register import RegisterEntry, enter
from audit.witness import REFUSED, Witness
from audit.writer import MAX_COMMIT_EVENTS, Writer
from runtime.errors import AuditError, ConfigurationError
from runtime.ids import CLIENT_ID, now_us

WITNESS_LIMIT_S = 15 * 60.0
_CLOSE_TIMEOUT_S = 10.0

_REASONS = {
    "audit_closed": "the audit log is closed",
    "audit_write_failed": "the audit log cannot be written",
    "audit_witness_refused": "the witness has seen another history of the audit log",
    "audit_checkpoint_failed": "the audit log's checkpoints cannot be kept",
    "audit_unwitnessed": "the audit log has been without a witness for too long",
}

log = structlog.get_logger()


class AuditLog:
    """Appends events and says whether it may be relied on; when it may not, traffic stops (docs/threat-model.md, rule 16)."""

    def __init__(
        self,
        entry: RegisterEntry,
        lock: int,
        nodes: NodeFile,
        writer: Writer,
        checkpointer: Checkpointer,
        limit_s: float,
    ) -> None:
        """For ``open``."""
        self.log_id = entry.log_id
        self._lock = lock
        self._nodes = nodes
        self._writer = writer
        self._checkpointer = checkpointer
        self._witness_limit_s = limit_s
        self._closed = False

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        key: Ed25519PrivateKey,
        register_key: Ed25519PrivateKey,
        witness: Witness,
        instance: str,
        clock_us: Callable[[], int] = now_us,
        witness_limit_s: float = WITNESS_LIMIT_S,
    ) -> AuditLog:
        """Go on with the instance's log under the audit root ``folder``, or open its first. Blocks; call it at start-up.

        Requests that the log's last process left open are closed as ``interrupted`` before this returns.

        Args:
            key: signs checkpoints.
            register_key: signs the register; may be the same key.
            instance: the name of this gateway instance, ``[\\w.-]{1,128}``.
            clock_us: microseconds since the epoch.
            witness_limit_s: how long events may wait for the witness before the log counts as unhealthy.

        Raises:
            ConfigurationError: another process holds the log, or the folder cannot be used.
            AuditError: acknowledged events are missing or changed, the register is broken, or the witness has seen more
                than there is.
        """
        if not CLIENT_ID.fullmatch(instance):
            raise ConfigurationError("an audit instance's name is 1 to 128 letters, digits, '_', '.' or '-'")
        with contextlib.ExitStack() as held:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                entry, predecessor = enter(
                    folder, key=key.public_key(), register_key=register_key, instance=instance, opened_us=clock_us()
                )
                home = folder / entry.log_id
                seen = _enrolled(witness, entry)
                if seen and not home.exists():
                    raise damaged(entry.log_id, "its folder is missing")
                home.mkdir(mode=0o700, exist_ok=True)
                sync_folder(folder)
                lock = _locked(home)
                held.callback(os.close, lock)
                recovered = recover(home, entry.log_id, key.public_key())
                held.callback(recovered.nodes.close)
                held.callback(recovered.segment.close)
                if seen is not None and seen > recovered.frontier.size:
                    raise damaged(
                        entry.log_id, f"it ends at event {recovered.frontier.size}, the witness has seen {seen}"
                    )
                before = left_open(folder / predecessor.log_id) if predecessor is not None else ()
                writer = Writer(home, entry.log_id, recovered)
                _record_opening(writer, entry, recovered, before, clock_us)
                checkpointer = Checkpointer(
                    home, entry, key=key, witness=witness, writer=writer, nodes=recovered.nodes, clock_us=clock_us
                )
            except OSError as error:
                raise ConfigurationError(f"the audit log under {folder} cannot be used: {error.strerror}") from None
            held.pop_all()
        opened = cls(entry, lock, recovered.nodes, writer, checkpointer, witness_limit_s)
        writer.start()
        checkpointer.start()
        return opened

    async def append(self, event: Event) -> Receipt:
        """Record one event; it is on disk when this returns. A caller cancelled meanwhile may find it there as well.

        Raises:
            AuditError: it is not known to be recorded; the request it is about must not go on.
        """
        return (await self.append_all((event,)))[0]

    async def append_all(self, events: Sequence[Event]) -> list[Receipt]:
        """Record events in this order, in as few commits as their number allows; on disk when this returns.

        Raises:
            AuditError: some, from one of them on, are not known to be recorded.
        """
        receipts: list[Receipt] = []
        for start in range(0, len(events), MAX_COMMIT_EVENTS):
            if reason := self.reason:
                raise AuditError(_REASONS[reason], code=reason)
            receipts += await self._writer.submit(events[start : start + MAX_COMMIT_EVENTS])
        return receipts

    def holds(self, receipt: Receipt) -> bool:
        """Whether this log durably holds the event of ``receipt`` at its index."""
        if self._closed or receipt.log_id != self.log_id or not 0 <= receipt.index < self.size:
            return False
        return self._nodes.node(0, receipt.index) == receipt.leaf_hash

    def open_requests(self) -> tuple[OpenRequest, ...]:
        """Requests with a durable decision and no closing event, in the order of their decisions."""
        return self._writer.open_requests()

    @property
    def size(self) -> int:
        """How many events are durable."""
        return self._writer.tip.size

    @property
    def lag_s(self) -> float:
        """How long events have been waiting for a co-signed checkpoint, in seconds."""
        return self._checkpointer.lag_s

    @property
    def healthy(self) -> bool:
        return not self.reason

    @property
    def reason(self) -> str:
        """Why the log is not healthy: the code ``append`` raises with; empty when it is.

        ``audit_unwitnessed`` passes when the witness is back; every other reason needs a new process.
        """
        if self._closed:
            return "audit_closed"
        if self._writer.failed:
            return "audit_write_failed"
        if self._checkpointer.refused:
            return REFUSED
        if self._checkpointer.failed:
            return "audit_checkpoint_failed"
        return "audit_unwitnessed" if self.lag_s > self._witness_limit_s else ""

    async def aclose(self) -> None:
        """Finish what waits, take a last checkpoint (up to 10 s) and let the log go. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        await asyncio.shield(asyncio.to_thread(self._close))

    def _close(self) -> None:
        try:
            self._writer.stop()
            self._checkpointer.stop(_CLOSE_TIMEOUT_S)
            self._nodes.close()
        finally:
            os.close(self._lock)


def _locked(home: Path) -> int:
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigurationError(f"another process holds the audit log {home}") from None
    return descriptor


def _enrolled(witness: Witness, entry: RegisterEntry) -> int | None:
    """The last size the witness has seen; None where it cannot be reached, which the checkpointer goes on trying."""
    try:
        return witness.enrol(entry)
    except Exception as error:
        if isinstance(error, AuditError) and error.code == REFUSED:
            raise
        log.warning("audit witness unreachable at start", log_id=entry.log_id, cause=type(error).__name__)
        return None


def _record_opening(
    writer: Writer,
    entry: RegisterEntry,
    recovered: Recovered,
    before: Sequence[OpenRequest],
    clock_us: Callable[[], int],
) -> None:
    """The log's own event, then a closing event for each request that a process before this one left open."""
    now = clock_us()
    left = (*before, *writer.open_requests())
    detail = [("size", str(recovered.frontier.size)), ("interrupted", str(len(left)))]
    if recovered.torn_bytes:
        detail.append(("torn_bytes", str(recovered.torn_bytes)))
    action = "log.continued" if recovered.frontier.size else "log.opened"
    opening = AdminEvent(now, entry.instance, action, entry.log_id, tuple(detail))
    events: list[Event] = [opening, *(interrupted(request, now) for request in left)]
    for start in range(0, len(events), MAX_COMMIT_EVENTS):
        writer.commit(events[start : start + MAX_COMMIT_EVENTS])
