"""Verification of one log: its events against its checkpoints and its witness's, its segments against each other."""

from __future__ import annotations

import heapq
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.checkpoint import CHECKPOINTS, Checkpoint, decode_checkpoint
from audit.event import ClosingEvent, decode
from audit.lines import last_line, read_lines
from audit.merkle import HASH_BYTES, Frontier, leaf_hash
from audit.nodes import nodes_before
from audit.open_requests import OpenRequests
from audit.recovery import NODES
from audit.register import RegisterEntry
from audit.report import Findings, LogSummary
from audit.segment import BrokenFrameError, read_frames, read_header, segments
from runtime.errors import AuditError

_WINDOW = 256
"""Events after the first changed one by which the kind of change is told."""


class LogCheck:
    """Reads one log once. ``open_requests`` holds, after ``run``, what it left open."""

    def __init__(
        self,
        folder: Path,
        entry: RegisterEntry,
        witness_store: Path | None,
        witness_key: Ed25519PublicKey,
        findings: Findings,
        *,
        on_closed: Callable[[str], object],
    ) -> None:
        """``on_closed`` is told the id of each request that is closed here, wherever it was decided."""
        self.open_requests = OpenRequests()
        self._folder = folder
        self._entry = entry
        self._log_id = entry.log_id
        self._findings = findings
        self._on_closed = on_closed
        self._frontier = Frontier()
        sources = [folder / CHECKPOINTS, *([witness_store] if witness_store else [])]
        self._checkpoints = _Checkpoints(sources, entry, witness_key, findings)
        # Listed after the checkpoints' ends were noted: a running log has all events up to there in these segments.
        self._segments = segments(folder)
        self._tree = _Tree(folder / NODES)
        self._differs = False
        self._change = ""
        self._broken_off = False
        self._matched = 0

    def run(self) -> LogSummary:
        try:
            self._compare_root()
            for path in self._segments:
                if not self._read_segment(path):
                    break
            self._judge_end()
        finally:
            self._tree.close()
        open_requests = len(self.open_requests.all())
        return LogSummary(
            self._log_id,
            self._entry.instance,
            self._frontier.size,
            self._matched,
            self._checkpoints.valid,
            open_requests,
        )

    def _read_segment(self, path: Path) -> bool:
        """False where reading cannot go on."""
        try:
            offset, header = read_header(path)
        except BrokenFrameError as error:
            return self._broken(path, error, "segment_header")
        size = self._frontier.size
        if header.first != size:
            self._broken_off = True
            self._fault(size, "segment_missing", f"events {size} to {header.first - 1} are not there")
            return False
        if header.log_id != self._log_id or header.frontier().peaks != self._frontier.peaks:
            self._fault(size, "segment_header", f"segment {path.name} does not continue the one before")
        elif header.open_requests != self.open_requests.all():
            self._fault(size, "segment_header", f"segment {path.name} misstates the requests then open")
        try:
            for _, payload in read_frames(path, offset):
                self._read_event(payload)
        except BrokenFrameError as error:
            return self._broken(path, error, "event_damaged")
        return True

    def _read_event(self, payload: bytes) -> None:
        leaf = leaf_hash(payload)
        self._tree.compare(self._frontier.size, leaf, self._frontier.append(leaf))
        try:
            event = decode(payload)
        except msgspec.MsgspecError:
            self._fault(self._frontier.size - 1, "event_unreadable", "its bytes are no event")
        else:
            self.open_requests.note(event)
            if isinstance(event, ClosingEvent):
                self._on_closed(event.request_id)
        self._compare_root()

    def _broken(self, path: Path, error: BrokenFrameError, cause: str) -> bool:
        self._broken_off = True
        size = self._frontier.size
        if error.torn and path == self._segments[-1] and size >= self._checkpoints.last_size():
            self._findings.warn(self._log_id, size, "torn_tail", "a commit is being written, or a crash cut it short")
        else:
            self._fault(size, cause, f"segment {path.name} is damaged at byte {error.offset}")
        return False

    def _compare_root(self) -> None:
        while (checkpoint := self._checkpoints.at(self._frontier.size)) is not None:
            if self._differs:
                continue
            if checkpoint.root == self._frontier.root():
                self._matched = checkpoint.size
            else:
                self._fault_of_change(checkpoint.size)

    def _fault_of_change(self, covered: int) -> None:
        """The first ``covered`` events are not those of their checkpoint."""
        self._differs = True
        changed = self._tree.change()
        if changed is not None and self._matched <= changed[0] < covered:
            index, self._change = changed
            self._fault(index, self._change, f"it is not what the checkpoint of {covered} events covers")
            return
        span = f"events {self._matched} to {covered - 1} are not what the checkpoint covers"
        self._fault(self._matched, "history_changed", span)

    def _judge_end(self) -> None:
        size, last = self._frontier.size, self._checkpoints.last_size()
        changed = self._tree.change()
        if size < last and not self._broken_off and not self._differs and changed is not None:
            self._fault_of_change(last)
        if size < last and not self._broken_off and self._change != "event_missing":
            self._fault(size, "truncated", f"events {size} to {last - 1} were witnessed and are not there")
        if changed is not None and not self._differs:
            self._findings.warn(
                self._log_id,
                changed[0],
                "tree_file",
                "the file `nodes` does not fit the events; it is made anew if removed",
            )
        if size > last:
            self._findings.warn(
                self._log_id, last, "not_yet_witnessed", f"{size - last} events after the last checkpoint"
            )

    def _fault(self, index: int, cause: str, message: str) -> None:
        self._findings.fault(self._log_id, index, cause, message)


class _Checkpoints:
    """The valid checkpoints of all sources, by size; those written after this was made are left out."""

    def __init__(
        self, sources: Sequence[Path], entry: RegisterEntry, witness_key: Ed25519PublicKey, findings: Findings
    ) -> None:
        self.valid = 0
        self._entry = entry
        self._log_key = entry.log_key()
        self._witness_key = witness_key
        self._findings = findings
        ends = [last_line(path) for path in sources]
        streams = [self._read(path, end) for path, end in zip(sources, ends, strict=True) if end is not None]
        self._merged = heapq.merge(*streams, key=lambda checkpoint: checkpoint.size)
        self._before: Checkpoint | None = None
        self._last = 0
        self._next = self._following()

    def at(self, size: int) -> Checkpoint | None:
        """The next checkpoint, where it is one of ``size`` events."""
        while self._next is not None and self._next.size < size:
            self._fault(self._next.size, "checkpoint_order", "it stands behind a larger one")
            self._next = self._following()
        if self._next is None or self._next.size != size:
            return None
        found, self._next = self._next, self._following()
        return found

    def last_size(self) -> int:
        """The largest; reads the rest, so no checkpoint is compared afterwards."""
        while self._next is not None:
            self._next = self._following()
        return self._last

    def _following(self) -> Checkpoint | None:
        for checkpoint in self._merged:
            if checkpoint == self._before:  # the log and its witness keep the same one
                continue
            self._before = checkpoint
            if checkpoint.log_id != self._entry.log_id or not checkpoint.is_signed_by(self._log_key):
                self._fault(checkpoint.size, "checkpoint_signature", "it is not signed by the log's key")
            elif not checkpoint.is_cosigned_by(self._witness_key):
                self._fault(checkpoint.size, "checkpoint_cosignature", "it is not co-signed by the witness's key")
            else:
                self.valid += 1
                self._last = max(self._last, checkpoint.size)
                return checkpoint
        return None

    def _read(self, path: Path, end: bytes) -> Iterator[Checkpoint]:
        for line in read_lines(path):
            try:
                yield decode_checkpoint(line)
            except AuditError:
                self._fault(None, "checkpoint_unreadable", f"a line of {path.name} is no checkpoint")
            if line == end:
                return

    def _fault(self, index: int | None, cause: str, message: str) -> None:
        self._findings.fault(self._entry.log_id, index, cause, message)


class _Tree:
    """The log's file of nodes, which no signature covers but which remembers each event's hash: it tells what changed."""

    def __init__(self, path: Path) -> None:
        self._file: io.BufferedReader | None = path.open("rb") if path.exists() else None
        self._index = 0
        self._found: list[bytes] = []
        self._whole = True

    def compare(self, index: int, leaf: bytes, made: Sequence[bytes]) -> None:
        """Take the next event's hash and the nodes it completes."""
        if self._found:
            if len(self._found) < _WINDOW:
                self._found.append(leaf)
            return
        if self._file is None or not self._whole:
            return
        stored = self._file.read(HASH_BYTES * len(made))
        if len(stored) < HASH_BYTES * len(made):
            self._whole = False  # a running log has its last nodes in memory
        elif stored != b"".join(made):
            self._index, self._found = index, [leaf]

    def change(self) -> tuple[int, str] | None:
        """(index, cause) of the first event that differs from what was appended there."""
        if not self._found or self._file is None:
            return None
        stored = [self._stored(self._index + step) for step in range(len(self._found) + 1)]
        return self._index, name_change(self._found, [leaf for leaf in stored if leaf])

    def _stored(self, index: int) -> bytes:
        assert self._file is not None
        self._file.seek(nodes_before(index) * HASH_BYTES)
        return self._file.read(HASH_BYTES)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def name_change(found: Sequence[bytes], stored: Sequence[bytes]) -> str:
    """What was done to events of which the first differs, by their hashes found now and those stored when appended."""
    if found[0] in stored[1:]:
        skipped = list(stored[1:]).index(found[0]) + 1
        rest = min(len(found), len(stored) - skipped)
        return "event_missing" if list(found[:rest]) == list(stored[skipped : skipped + rest]) else "event_reordered"
    return "event_inserted" if stored and stored[0] in found[1:] else "event_edited"
