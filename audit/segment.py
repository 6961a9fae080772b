"""A log's events on disk: append-only segments of framed records.

    00000000000000000000.seg   [header] [commit: event event …] [commit: event …] …
    00000000000000031337.seg   [header] …            named by the index of the first event

    frame = magic (4 bytes) | length (4, big endian) | CRC-32 (4, big endian) | payload

The first frame of each commit has a magic of its own. A commit is written only after the one before it is durable, so a
broken frame with a commit behind it was durable once and is damage, and one with none behind it is what a crash left of
a commit that nobody was told of. The byte 0xF5 occurs in no UTF-8 text, so a magic is never found inside an event.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import msgspec

from audit.lines import sync_folder, write_all
from audit.merkle import Frontier
from audit.open_requests import OpenRequest

SEGMENT_BYTES = 8 * 1024 * 1024
"""A commit that finds its segment at least this large begins the next one."""

MAX_RECORD_BYTES = 16 * 1024 * 1024

_COMMIT = b"\xf5cm1"
_EVENT = b"\xf5ev1"
_HEAD = struct.Struct(">4sII")
_FORMAT = "watershed-log/1"


class Header(msgspec.Struct, frozen=True):
    """A segment's first frame: where it begins and all that is needed to go on from there.

    Attributes:
        first: index of the segment's first event.
        peaks: the Merkle frontier before that event, hex, largest first.
        open_requests: requests decided and not closed before that event.
    """

    format: str
    log_id: str
    first: int
    peaks: tuple[str, ...]
    open_requests: tuple[OpenRequest, ...]

    @classmethod
    def of(cls, log_id: str, frontier: Frontier, open_requests: Sequence[OpenRequest]) -> Self:
        peaks = tuple(peak.hex() for peak in frontier.peaks)
        return cls(_FORMAT, log_id, frontier.size, peaks, tuple(open_requests))

    def frontier(self) -> Frontier:
        """Raises ValueError where the peaks do not belong to ``first`` leaves."""
        return Frontier(self.first, [bytes.fromhex(peak) for peak in self.peaks])


class BrokenFrameError(Exception):
    """A frame that is not whole.

    Attributes:
        offset: its first byte in the segment.
        torn: nothing durable can have stood there: no commit follows in this segment.
    """

    def __init__(self, offset: int, *, torn: bool) -> None:
        super().__init__(f"broken frame at byte {offset}")
        self.offset = offset
        self.torn = torn


def segments(folder: Path) -> list[Path]:
    """The log's segments, oldest first."""
    return sorted(folder.glob("*.seg"))


def path_of(folder: Path, first: int) -> Path:
    return folder / f"{first:020}.seg"


def frames(payloads: Sequence[bytes]) -> bytes:
    """One commit of these payloads."""
    parts: list[bytes] = []
    magic = _COMMIT
    for payload in payloads:
        parts += (_HEAD.pack(magic, len(payload), zlib.crc32(payload, len(payload))), payload)
        magic = _EVENT
    return b"".join(parts)


def read_frames(path: Path, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(offset of the frame's end, payload) of each frame from the byte ``offset`` on, which must begin a frame.

    Raises:
        BrokenFrameError: at the first frame that is not whole.
    """
    with path.open("rb") as file:
        file.seek(offset)
        while head := file.read(_HEAD.size):
            payload = _payload(head, file.read(_length(head)))
            if payload is None:
                raise BrokenFrameError(offset, torn=not _commit_follows(path, offset + 1))
            offset += len(head) + len(payload)
            yield offset, payload


def read_header(path: Path) -> tuple[int, Header]:
    """(offset of the first event's frame, header).

    Raises:
        BrokenFrameError: there is no whole header.
    """
    for end, payload in read_frames(path):
        try:
            header = msgspec.json.decode(payload, type=Header)
            header.frontier()
        except (msgspec.MsgspecError, ValueError):
            break
        if header.format != _FORMAT or path.name != path_of(path.parent, header.first).name:
            break
        return end, header
    raise BrokenFrameError(0, torn=path.stat().st_size == 0)


class SegmentWriter:
    """The segment being written. Every write is durable when it returns (O_DSYNC: one system call, not two)."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_DSYNC)
        self.size = os.fstat(self._descriptor).st_size

    @classmethod
    def create(cls, folder: Path, header: Header) -> Self:
        """Begin a segment, its header and its name durable. Raises OSError."""
        path = path_of(folder, header.first)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        writer = cls(path)
        writer.write(frames([msgspec.json.encode(header)]))
        sync_folder(folder)
        return writer

    def write(self, data: bytes) -> None:
        write_all(self._descriptor, data)
        self.size += len(data)

    def close(self) -> None:
        os.close(self._descriptor)


def _length(head: bytes) -> int:
    if len(head) < _HEAD.size:
        return 0
    length: int = _HEAD.unpack(head)[1]
    return length if length <= MAX_RECORD_BYTES else 0


def _payload(head: bytes, payload: bytes) -> bytes | None:
    if len(head) < _HEAD.size:
        return None
    magic, length, crc = _HEAD.unpack(head)
    whole = magic in (_COMMIT, _EVENT) and length == len(payload) and crc == zlib.crc32(payload, length)
    return payload if whole else None


def _commit_follows(path: Path, offset: int) -> bool:
    """Whether a whole frame that opens a commit stands anywhere from ``offset`` on."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while (offset := data.find(_COMMIT, offset)) >= 0:
            body = offset + _HEAD.size
            head = data[offset:body]
            if _payload(head, data[body : body + _length(head)]) is not None:
                return True
            offset += 1
    return False
