from __future__ import annotations

from pathlib import Path

import pytest

from audit.lines import append_line, last_line, read_lines


def test_lines_are_read_as_they_were_added(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert last_line(path) is None
    assert list(read_lines(path)) == []
    for line in (b"one", b"two" * 50_000, b"three"):
        append_line(path, line)
    assert list(read_lines(path)) == [b"one", b"two" * 50_000, b"three"]
    assert last_line(path) == b"three"


@pytest.mark.parametrize("rest", [b"x", b"x" * 200_000])
def test_a_half_written_line_is_passed_over_and_then_cut_off(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "file"
    append_line(path, b"one")
    with path.open("ab") as file:
        file.write(rest)
    assert list(read_lines(path)) == [b"one"]
    assert last_line(path) == b"one"
    append_line(path, b"two")
    assert list(read_lines(path)) == [b"one", b"two"]
    path.write_bytes(rest)
    assert last_line(path) is None
    append_line(path, b"one")
    assert list(read_lines(path)) == [b"one"]
