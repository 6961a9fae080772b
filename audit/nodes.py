"""The log's tree on disk: every complete node's hash, so that a proof costs a few reads and no memory.

A leaf's hash is followed by those of the subtrees it completes, so nothing is ever rewritten and a node's place follows
from its level and index alone:

    leaf      0 1   2 3    4 5   6 7
    written   a b n c d n N e f n g h n N R      (n: two leaves, N: four, R: eight)

The file is derived from the segments and is made again from them where it is missing or behind.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from audit.merkle import HASH_BYTES

_FLUSH_BYTES = 64 * 1024


def nodes_before(size: int) -> int:
    """How many complete nodes a tree of ``size`` leaves has."""
    return 2 * size - size.bit_count()


def position_of(level: int, index: int) -> int:
    """A node's place in the file, in hashes from its beginning."""
    return nodes_before((index + 1 << level) - 1) + level


def read_node(path: Path, level: int, index: int) -> bytes:
    """A node's hash from the file of a log that another process may be writing.

    Raises:
        IndexError: it is not there, or not yet.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(position_of(level, index) * HASH_BYTES)
        found = file.read(HASH_BYTES)
    if len(found) < HASH_BYTES:
        raise IndexError("the tree has no such node")
    return found


class NodeFile:
    """Appended to by the writer's thread, read by any; the last 64 KiB may be in memory only."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._flushed = os.fstat(self._descriptor).st_size // HASH_BYTES
        self._pending = bytearray()
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Hashes in all."""
        return self._flushed + len(self._pending) // HASH_BYTES

    def append(self, hashes: Sequence[bytes]) -> None:
        """Raises OSError."""
        with self._lock:
            self._pending += b"".join(hashes)
        if len(self._pending) >= _FLUSH_BYTES:
            self.flush()

    def node(self, level: int, index: int) -> bytes:
        """A complete node's hash (``audit.merkle.Nodes``).

        Raises:
            IndexError: it does not exist yet.
        """
        position = position_of(level, index)
        with self._lock:
            if position < self._flushed:
                return os.pread(self._descriptor, HASH_BYTES, position * HASH_BYTES)
            offset = (position - self._flushed) * HASH_BYTES
            found = bytes(self._pending[offset : offset + HASH_BYTES])
        if not found:
            raise IndexError("the tree has no such node")
        return found

    def flush(self) -> None:
        """Hand what is pending to the system. Raises OSError."""
        with self._lock:
            view = memoryview(bytes(self._pending))
            offset = self._flushed * HASH_BYTES
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[written:], offset + written
            self._flushed += len(self._pending) // HASH_BYTES
            self._pending = bytearray()

    def sync(self) -> None:
        """Make everything durable. Raises OSError."""
        self.flush()
        os.fdatasync(self._descriptor)

    def cut(self, count: int) -> None:
        """Keep the first ``count`` hashes. Raises OSError."""
        self.flush()
        os.ftruncate(self._descriptor, count * HASH_BYTES)
        self._flushed = count

    def close(self) -> None:
        """Raises OSError, as does every later call."""
        self.flush()
        os.close(self._descriptor)
        self._descriptor = -1  # its number may be another file's by the time a late reader comes
