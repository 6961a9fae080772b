"""Framing: whole records come back, and what is not whole is told from what a crash left."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.merkle import Frontier
from audit.segment import BrokenFrameError, Header, SegmentWriter, frames, path_of, read_frames, read_header

PAYLOADS = st.lists(st.binary(max_size=300).map(bytes.hex).map(str.encode), min_size=1, max_size=5)
COMMITS = st.lists(PAYLOADS, min_size=1, max_size=5)


def read(path: Path) -> tuple[list[bytes], BrokenFrameError | None]:
    found: list[bytes] = []
    try:
        for _, payload in read_frames(path):
            found.append(payload)
    except BrokenFrameError as error:
        return found, error
    return found, None


@given(COMMITS)
def test_what_was_written_is_read(tmp_path: Path, commits: list[list[bytes]]) -> None:
    path = tmp_path / "segment"
    path.write_bytes(b"".join(map(frames, commits)))
    assert read(path) == ([payload for commit in commits for payload in commit], None)


@given(COMMITS, st.data())
def test_a_cut_anywhere_leaves_the_whole_records_before_it_and_is_torn(
    tmp_path: Path, commits: list[list[bytes]], data: st.DataObject
) -> None:
    path = tmp_path / "segment"
    written = b"".join(map(frames, commits))
    cut = data.draw(st.integers(0, len(written) - 1))
    path.write_bytes(written[:cut])
    found, error = read(path)
    assert found == [payload for commit in commits for payload in commit][: len(found)]
    assert error is None or error.torn
    assert sum(12 + len(payload) for payload in found) == (error.offset if error else cut)


@given(COMMITS, st.data())
def test_a_flipped_bit_is_found_and_is_no_torn_tail_where_a_commit_follows(
    tmp_path: Path, commits: list[list[bytes]], data: st.DataObject
) -> None:
    path = tmp_path / "segment"
    written = bytearray(b"".join(map(frames, commits)))
    bit = data.draw(st.integers(0, len(written) * 8 - 1))
    written[bit // 8] ^= 1 << bit % 8
    path.write_bytes(written)
    found, error = read(path)
    assert error is not None
    assert error.offset <= bit // 8
    assert found == [payload for commit in commits for payload in commit][: len(found)]
    start_of_last = len(b"".join(map(frames, commits[:-1])))
    assert error.torn == (bit // 8 >= start_of_last)


def test_a_segment_begins_with_a_header_that_fits_its_name(tmp_path: Path) -> None:
    frontier = Frontier()
    for number in range(5):
        frontier.append(bytes([number]) * 32)
    header = Header.of("log-1", frontier, ())
    writer = SegmentWriter.create(tmp_path, header)
    writer.write(frames([b"{}"]))
    writer.close()
    path = path_of(tmp_path, 5)
    assert writer.size == path.stat().st_size
    offset, found = read_header(path)
    assert found == header
    assert found.frontier().root() == frontier.root()
    assert [payload for _, payload in read_frames(path, offset)] == [b"{}"]
    with pytest.raises(FileExistsError):
        SegmentWriter.create(tmp_path, header)
    renamed = path.rename(path_of(tmp_path, 6))
    with pytest.raises(BrokenFrameError):
        read_header(renamed)
