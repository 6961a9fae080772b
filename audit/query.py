"""Reading events: the last ones, those that come, those of one request. Whether they are genuine, ``verify`` says.

Reading a log stops at a record that is not whole.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from audit.event import Event, decode
from audit.segment import BrokenFrameError, read_frames, read_header, segments

Entry: TypeAlias = tuple[str, int, Event]
"""(log id, index in the log, event)."""

_POLL_S = 0.2


def tail(root: Path, count: int, follow: bool = False) -> Iterator[Entry]:
    """The last ``count`` events of all logs in the order of their times; with ``follow`` goes on, without end, as they come.

    Raises:
        msgspec.MsgspecError: a whole record is no event.
    """
    cursors = {folder.name: _Cursor(folder) for folder in _logs(root)}
    last: list[Entry] = []
    for log_id, cursor in cursors.items():
        last += ((log_id, index, decode(payload)) for index, payload in cursor.skip_to_last(count))
    last.sort(key=_time)
    yield from last[len(last) - min(count, len(last)) :]
    while follow:
        time.sleep(_POLL_S)
        for folder in _logs(root):
            cursors.setdefault(folder.name, _Cursor(folder))
        came = [(log_id, *event) for log_id, cursor in cursors.items() for event in cursor.events()]
        yield from sorted(came, key=_time)


def events(root: Path, *, request_id: str | None = None) -> Iterator[Entry]:
    """All events, or those of one request, in the order of their times.

    Raises:
        msgspec.MsgspecError: a whole record is no event.
    """
    return heapq.merge(*(_of_log(folder, request_id) for folder in _logs(root)), key=_time)


def _of_log(folder: Path, request_id: str | None) -> Iterator[Entry]:
    needle = b"" if request_id is None else request_id.encode()
    for index, payload in _Cursor(folder).payloads():
        if needle not in payload:  # much cheaper than decoding
            continue
        event = decode(payload)
        if request_id is None or getattr(event, "request_id", None) == request_id:
            yield folder.name, index, event


def _logs(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*") if path.is_dir() and segments(path))


def _time(entry: Entry) -> int:
    return entry[2].at_us


class _Cursor:
    """A place in a log, from which it reads what is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._offset = 0
        self._index = 0

    def payloads(self) -> Iterator[tuple[int, bytes]]:
        """(index, bytes) of each event from here to the end, wherever that is now."""
        listed = segments(self._folder)
        for path in listed if self._path is None else listed[listed.index(self._path) :]:
            try:
                if path != self._path:
                    offset, header = read_header(path)
                    self._path, self._offset, self._index = path, offset, header.first
                for end, payload in read_frames(path, self._offset):
                    self._offset = end
                    self._index += 1
                    yield self._index - 1, payload
            except BrokenFrameError:
                return

    def events(self) -> Iterator[tuple[int, Event]]:
        for index, payload in self.payloads():
            yield index, decode(payload)

    def skip_to_last(self, count: int) -> deque[tuple[int, bytes]]:
        """Go to the end; the last ``count`` events on the way, read from as late a segment as will do."""
        listed = segments(self._folder)
        start = len(listed) - 1
        last: deque[tuple[int, bytes]] = deque(maxlen=count)
        while start >= 0:
            self._path = None
            last.clear()
            last.extend(self._from(listed[start]))
            if len(last) == count:
                break
            start -= 1
        return last

    def _from(self, path: Path) -> Iterator[tuple[int, bytes]]:
        try:
            self._offset, header = read_header(path)
        except BrokenFrameError:
            return
        self._path, self._index = path, header.first
        yield from self.payloads()
