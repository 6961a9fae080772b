"""Going on with a log after its process ended, however it ended.

The last checkpoint says what must be there. Reading starts at the last segment that begins at or before it, so a long
log opens as fast as a short one; the tree's nodes are made again from there. What a crash left of a commit that was
never acknowledged is cut off; anything else that is not as it was refuses to open: no audit, no traffic.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.checkpoint import CHECKPOINTS, Checkpoint, last_checkpoint
from audit.event import decode
from audit.lines import sync_folder
from audit.merkle import Frontier, leaf_hash
from audit.nodes import NodeFile, nodes_before
from audit.open_requests import OpenRequest, OpenRequests
from audit.segment import BrokenFrameError, Header, SegmentWriter, read_frames, read_header, segments
from runtime.errors import AuditError

NODES = "nodes"


@dataclass(slots=True)
class Recovered:
    """A log ready to be appended to.

    Attributes:
        torn_bytes: how much of an unacknowledged commit was cut off.
    """

    frontier: Frontier
    open_requests: OpenRequests
    nodes: NodeFile
    segment: SegmentWriter
    torn_bytes: int


def damaged(log_id: str, cause: str) -> AuditError:
    return AuditError(f"audit log {log_id}: {cause}; see `watershed audit verify`", code="audit_log_damaged")


def recover(folder: Path, log_id: str, log_key: Ed25519PublicKey) -> Recovered:
    """Open a log's folder for writing; the caller holds its lock.

    Raises:
        AuditError: acknowledged events are missing or changed.
        OSError: a file cannot be read or written.
    """
    checkpoint = last_checkpoint(folder / CHECKPOINTS)
    if checkpoint is not None and not (checkpoint.log_id == log_id and checkpoint.is_signed_by(log_key)):
        raise damaged(log_id, "its last checkpoint is not signed by its key")
    torn = _drop_unbegun_segment(folder, log_id)
    nodes = NodeFile(folder / NODES)
    try:
        reader = _Reader(folder, log_id, checkpoint, nodes, torn)
        reader.read()
    except BaseException:
        nodes.close()
        raise
    return Recovered(reader.frontier, reader.open_requests, nodes, reader.writer(), reader.torn_bytes)


def left_open(folder: Path) -> tuple[OpenRequest, ...]:
    """The requests that a log to be left behind has not closed, as far as it can be read (``verify`` judges it)."""
    requests = OpenRequests()
    for path in segments(folder)[-1:]:
        with contextlib.suppress(BrokenFrameError, msgspec.MsgspecError):
            offset, header = read_header(path)
            requests = OpenRequests(header.open_requests)
            for _, payload in read_frames(path, offset):
                requests.note(decode(payload))
    return requests.all()


def _drop_unbegun_segment(folder: Path, log_id: str) -> int:
    """A crash may leave a last segment without a whole header; it then has no event. Returns its size."""
    found = segments(folder)
    if not found:
        return 0
    try:
        read_header(found[-1])
    except BrokenFrameError as error:
        if not error.torn:
            raise damaged(log_id, f"segment {found[-1].name} has no readable header") from None
        size = found[-1].stat().st_size
        found[-1].unlink()
        sync_folder(folder)
        return size
    return 0


class _Reader:
    def __init__(
        self, folder: Path, log_id: str, checkpoint: Checkpoint | None, nodes: NodeFile, torn_bytes: int
    ) -> None:
        self.frontier = Frontier()
        self.open_requests = OpenRequests()
        self.torn_bytes = torn_bytes
        self._folder = folder
        self._log_id = log_id
        self._checkpoint = checkpoint
        self._nodes = nodes
        self._segments = segments(folder)

    def read(self) -> None:
        start = self._start()
        if start:
            header = self._opened(self._segments[start])[1]
            self.frontier = header.frontier()
            self.open_requests = OpenRequests(header.open_requests)
        self._nodes.cut(nodes_before(self.frontier.size))
        self._check_root()
        for path in self._segments[start:]:
            self._read_segment(path)
        if self._checkpoint is not None and self.frontier.size < self._checkpoint.size:
            raise damaged(self._log_id, f"it ends at event {self.frontier.size}, before its last checkpoint")

    def writer(self) -> SegmentWriter:
        if self._segments:
            return SegmentWriter(self._segments[-1])
        header = Header.of(self._log_id, self.frontier, self.open_requests.all())
        return SegmentWriter.create(self._folder, header)

    def _start(self) -> int:
        """The last segment from which reading on proves the checkpoint and whose tree is on disk; else the first."""
        witnessed = self._checkpoint.size if self._checkpoint else 0
        for number in range(len(self._segments) - 1, 0, -1):
            header = self._opened(self._segments[number])[1]
            if header.first <= witnessed and self._tree_reaches(header.frontier()):
                return number
        return 0

    def _tree_reaches(self, frontier: Frontier) -> bool:
        if self._nodes.count < nodes_before(frontier.size):
            return False
        end = 0
        for peak in frontier.peaks:
            level = (frontier.size - end).bit_length() - 1
            if self._nodes.node(level, end >> level) != peak:
                return False
            end += 1 << level
        return True

    def _opened(self, path: Path) -> tuple[int, Header]:
        try:
            return read_header(path)
        except BrokenFrameError:
            raise damaged(self._log_id, f"segment {path.name} has no readable header") from None

    def _read_segment(self, path: Path) -> None:
        offset, header = self._opened(path)
        if header.log_id != self._log_id or header.frontier().peaks != self.frontier.peaks:
            raise damaged(self._log_id, f"segment {path.name} does not continue the one before")
        try:
            for _, payload in read_frames(path, offset):
                self.open_requests.note(decode(payload))
                self._nodes.append(self.frontier.append(leaf_hash(payload)))
                self._check_root()
        except msgspec.MsgspecError:
            raise damaged(self._log_id, f"event {self.frontier.size} cannot be read") from None
        except BrokenFrameError as error:
            if not error.torn or path != self._segments[-1]:
                raise damaged(self._log_id, f"event {self.frontier.size} is damaged") from None
            self.torn_bytes += path.stat().st_size - error.offset
            _cut(path, error.offset)

    def _check_root(self) -> None:
        checkpoint = self._checkpoint
        if checkpoint is None or checkpoint.size != self.frontier.size:
            return
        if self.frontier.root() != checkpoint.root:
            raise damaged(self._log_id, f"its first {checkpoint.size} events are not those of its last checkpoint")


def _cut(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
