"""The one pass: windows in code points, for each probe that has a match."""

from __future__ import annotations

import threading

from classifiers.scan import Probe, Scanner


def test_only_probes_with_a_match_get_windows() -> None:
    scanner = Scanner([Probe(("abc",), before=3, after=0), Probe(("xyz",))])
    assert scanner.scan("..abc..") == {0: [(2, 5)]}
    assert scanner.scan("nothing") == {}


def test_windows_are_in_code_points_and_cut_at_the_edges() -> None:
    scanner = Scanner([Probe((r"[0-9]{3}",), before=3, after=2)])
    assert scanner.scan("身份证123号码很长") == {0: [(3, 8)]}
    assert scanner.scan("号12") == {}
    assert scanner.scan("12号𝔸123") == {0: [(4, 7)]}


def test_a_match_that_ends_inside_a_character_counts_it_whole() -> None:
    scanner = Scanner([Probe(("1[^0-9]",), before=2, after=0)])
    assert scanner.scan("身1份") == {0: [(1, 3)]}


def test_windows_that_touch_are_one() -> None:
    scanner = Scanner([Probe(("a", "b"), before=2, after=2)])
    assert scanner.scan("a...b" + "." * 200 + "a") == {0: [(0, 7), (204, 206)]}


def test_a_probe_that_needs_one_match_gets_the_whole_text() -> None:
    scanner = Scanner([Probe(("a",), once=True)])
    assert scanner.scan("xxaxxaxx") == {0: [(0, 8)]}


def test_non_ascii_expressions_match_characters() -> None:
    scanner = Scanner([Probe(("密码|口令",), before=2, after=0)])
    assert scanner.scan("我的密码") == {0: [(2, 4)]}


def test_threads_scan_at_once() -> None:
    scanner = Scanner([Probe((r"\bneedle\b",), before=6, after=0)])
    wrong: list[object] = []
    start = threading.Barrier(4)

    def work(offset: int) -> None:
        start.wait(10)
        for _ in range(200):
            windows = scanner.scan("x" * offset + " needle")
            if windows != {0: [(offset + 1, offset + 7)]}:
                wrong.append(windows)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in (0, 10, 500, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
