"""Append-only files of JSON lines: the register, the checkpoints, the witness's store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_TAIL_BYTES = 64 * 1024


def append_line(path: Path, line: bytes) -> None:
    """Add one line, durable when this returns. A line that a crash left half written before it is cut off first.

    Only one process may append to a file at a time.

    Raises:
        OSError: the line may be missing or half there.
    """
    created = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_DSYNC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        whole = _end_of_last_line(descriptor, size)
        if whole < size:
            os.ftruncate(descriptor, whole)
        write_all(descriptor, line + b"\n")
    finally:
        os.close(descriptor)
    if created:
        sync_folder(path.parent)


def last_line(path: Path) -> bytes | None:
    """The last whole line (at most 64 KiB); None where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        end = _end_of_last_line(descriptor, os.fstat(descriptor).st_size)
        tail = os.pread(descriptor, min(end, _TAIL_BYTES), max(end - _TAIL_BYTES, 0))
    finally:
        os.close(descriptor)
    return tail[:-1].rpartition(b"\n")[2] or None


def read_lines(path: Path) -> Iterator[bytes]:
    """Every whole line; a half-written last one is left out. No file, no lines."""
    try:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line[:-1]
    except FileNotFoundError:
        return


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, however few the system takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Make names created or removed in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _end_of_last_line(descriptor: int, size: int) -> int:
    end = size
    while end > 0:
        start = max(end - _TAIL_BYTES, 0)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
