"""Every way to tamper with what was witnessed is found, and named by log, place and cause."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Checkpoint, cosign, sign
from audit.event import encode
from audit.merkle import Frontier, leaf_hash
from audit.nodes import NodeFile
from audit.segment import frames, read_header, segments
from audit.verify_log import name_change
from tests.audit.conftest import Bench, closing, decision, payloads_of, rewrite, until


def segment_of(bench: Bench, log_id: str) -> Path:
    return segments(bench.root / log_id)[0]


async def test_an_untouched_log_is_verified_with_nothing_to_remark(bench: Bench) -> None:
    log_id = await bench.filled()
    report = bench.verify()
    assert report.ok
    assert report.warnings == ()
    (log,) = report.logs
    assert (log.log_id, log.instance, log.events, log.witnessed, log.open_requests) == (log_id, "gw-a", 41, 41, 0)
    assert log.checkpoints >= 1
    assert list(report.lines())[-1] == "verified: 1 logs, 41 events"
    assert msgspec.to_builtins(report)["ok"] is True


async def test_a_log_of_many_segments_is_verified(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.writer.SEGMENT_BYTES", 4096)
    log_id = await bench.filled(60)
    assert len(segments(bench.root / log_id)) > 4
    assert bench.verify().ok


# --- tampering with events; index 7 is the decision of request 3 ----------------------------------------------------


async def test_one_byte_changed_on_disk(bench: Bench) -> None:
    log_id = await bench.filled()
    path = segment_of(bench, log_id)
    path.write_bytes(path.read_bytes().replace(b'"req-000003"', b'"req-000004"', 1))
    assert bench.causes() == [(log_id, 7, "event_damaged")]


def edited(payloads: list[bytes]) -> None:
    payloads[7] = payloads[7].replace(b"onprem", b"public")


def dropped(payloads: list[bytes]) -> None:
    del payloads[7]


def several_dropped(payloads: list[bytes]) -> None:
    del payloads[7:12]


def swapped(payloads: list[bytes]) -> None:
    payloads[7], payloads[8] = payloads[8], payloads[7]


def moved_to_the_end(payloads: list[bytes]) -> None:
    payloads.append(payloads.pop(7))


def inserted(payloads: list[bytes]) -> None:
    payloads.insert(7, encode(decision(1000)))


def truncated(payloads: list[bytes]) -> None:
    del payloads[30:]


TAMPERS: list[tuple[Callable[[list[bytes]], None], int, str]] = [
    (edited, 7, "event_edited"),
    (dropped, 7, "event_missing"),
    (several_dropped, 7, "event_missing"),
    (swapped, 7, "event_reordered"),
    (moved_to_the_end, 7, "event_missing"),
    (inserted, 7, "event_inserted"),
    (truncated, 30, "truncated"),
]


@pytest.mark.parametrize(("tamper", "index", "cause"), TAMPERS, ids=[tamper.__name__ for tamper, _, _ in TAMPERS])
async def test_events_changed_with_care_for_their_framing(
    bench: Bench, tamper: Callable[[list[bytes]], None], index: int, cause: str
) -> None:
    log = bench.open()
    for number in range(20):
        await log.append_all([decision(number), closing(number)])
    await log.aclose()
    path = segment_of(bench, log.log_id)
    payloads = payloads_of(path)
    tamper(payloads)
    rewrite(path, payloads)
    assert bench.causes() == [(log.log_id, index, cause)]
    assert any(line.startswith(f"FAULT: {log.log_id}[{index}]: ") for line in bench.verify().lines())


async def test_an_edit_and_a_cut_are_both_named(bench: Bench) -> None:
    log_id = await bench.filled()
    path = segment_of(bench, log_id)
    payloads = payloads_of(path)
    edited(payloads)
    truncated(payloads)
    rewrite(path, payloads)
    assert bench.causes() == [(log_id, 7, "event_edited"), (log_id, 30, "truncated")]


async def test_an_edit_that_also_forges_the_trees_file_is_narrowed_to_its_checkpoint(bench: Bench) -> None:
    log_id = await bench.filled()
    path = segment_of(bench, log_id)
    payloads = payloads_of(path)
    edited(payloads)
    rewrite(path, payloads)
    forge_tree(bench.root / log_id / "nodes", payloads)
    ((found, index, cause),) = bench.causes()
    assert (found, cause) == (log_id, "history_changed")
    assert index is not None
    assert index <= 7


def forge_tree(path: Path, payloads: list[bytes]) -> bytes:
    """The tree's file over these events; their root."""
    path.unlink()
    frontier, nodes = Frontier(), NodeFile(path)
    for payload in payloads:
        nodes.append(frontier.append(leaf_hash(payload)))
    nodes.close()
    return frontier.root()


async def test_a_removed_segment(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.writer.SEGMENT_BYTES", 4096)
    log_id = await bench.filled(60)
    first, second, third, *_ = segments(bench.root / log_id)
    second.unlink()
    assert bench.causes() == [(log_id, read_header(first)[1].first + len(payloads_of(first)), "segment_missing")]
    third.unlink()
    for path in segments(bench.root / log_id):
        path.unlink()
    assert bench.causes() == [(log_id, 0, "truncated")]


async def test_a_segment_header_that_hides_an_open_request(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.writer.SEGMENT_BYTES", 4096)
    log = bench.open()
    for number in range(40):
        await log.append(decision(number))
    await log.aclose()
    path = segments(bench.root / log.log_id)[1]
    offset, header = read_header(path)
    rest = path.read_bytes()[offset:]
    path.write_bytes(frames([msgspec.json.encode(msgspec.structs.replace(header, open_requests=()))]) + rest)
    assert bench.causes() == [(log.log_id, header.first, "segment_header")]


# --- tampering with checkpoints -------------------------------------------------------------------------------------


async def test_everything_rewritten_and_signed_with_a_fresh_key(bench: Bench) -> None:
    log_id = await bench.filled()
    path = segment_of(bench, log_id)
    payloads = payloads_of(path)
    edited(payloads)
    rewrite(path, payloads)
    root = forge_tree(bench.root / log_id / "nodes", payloads)
    fresh = Ed25519PrivateKey.generate()
    forged = sign(fresh, log_id, len(payloads), root, 1)
    forged = msgspec.structs.replace(forged, cosignature=cosign(fresh, forged, 1))
    (bench.root / log_id / "checkpoints.jsonl").write_bytes(msgspec.json.encode(forged) + b"\n")
    assert (log_id, 41, "checkpoint_signature") in bench.causes(with_witness=False)
    assert {cause for _, _, cause in bench.causes()} == {"checkpoint_signature", "history_changed"}


async def test_everything_rewritten_and_signed_with_the_logs_own_stolen_key(bench: Bench) -> None:
    log_id = await bench.filled()
    path = segment_of(bench, log_id)
    payloads = payloads_of(path)
    edited(payloads)
    rewrite(path, payloads)
    root = forge_tree(bench.root / log_id / "nodes", payloads)
    forged = sign(bench.key, log_id, len(payloads), root, 1)
    forged = msgspec.structs.replace(forged, cosignature=cosign(Ed25519PrivateKey.generate(), forged, 1))
    (bench.root / log_id / "checkpoints.jsonl").write_bytes(msgspec.json.encode(forged) + b"\n")
    assert bench.causes(with_witness=False) == [(log_id, 41, "checkpoint_cosignature")]


async def test_a_whole_root_made_anew_with_fresh_keys(bench: Bench, tmp_path: Path) -> None:
    await bench.filled()
    fresh = Ed25519PrivateKey.generate()
    forger = Bench(tmp_path / "forged", fresh, fresh, fresh)
    forged_id = await forger.filled()
    shutil.rmtree(bench.root)
    shutil.copytree(forger.root, bench.root)
    causes = bench.causes()
    assert ("", 0, "register_signature") in causes
    assert (forged_id, "checkpoint_cosignature") in [(log_id, cause) for log_id, _, cause in causes]
    assert "register_cut" in {cause for _, _, cause in causes}  # the witness remembers the real one


async def test_a_line_that_is_no_checkpoint(bench: Bench) -> None:
    log_id = await bench.filled()
    with (bench.root / log_id / "checkpoints.jsonl").open("ab") as file:
        file.write(b"{}\n")
    assert bench.causes() == [(log_id, None, "checkpoint_unreadable")]


async def test_checkpoints_out_of_order(bench: Bench) -> None:
    log_id = await bench.filled()
    await bench.filled()
    path = bench.root / log_id / "checkpoints.jsonl"
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    assert (log_id, "checkpoint_order") in [(found, cause) for found, _, cause in bench.causes(with_witness=False)]


async def test_a_log_cut_back_together_with_its_checkpoints_is_known_to_the_witness(bench: Bench) -> None:
    log_id = await bench.filled()
    older = bench.folder / "older"
    shutil.copytree(bench.root, older)
    await bench.filled()
    shutil.rmtree(bench.root)
    older.rename(bench.root)
    assert bench.causes() == [(log_id, 41, "truncated")]
    blind = bench.verify(with_witness=False)
    assert blind.ok  # and it says that it cannot know:
    assert [warning.cause for warning in blind.warnings] == ["witness_record_not_given"]


# --- tampering with the register ------------------------------------------------------------------------------------


async def three_logs(bench: Bench) -> list[str]:
    logs = [bench.open(instance=f"gw-{name}") for name in "abc"]
    for log in logs:
        await log.append_all([decision(1), closing(1)])
        await log.aclose()
    return [log.log_id for log in logs]


async def test_a_deleted_log(bench: Bench) -> None:
    _, second, _ = await three_logs(bench)
    shutil.rmtree(bench.root / second)
    assert bench.causes() == [(second, None, "missing_log")]


@pytest.mark.parametrize("dropped_entry", [0, 1, 2])
async def test_a_dropped_register_entry(bench: Bench, dropped_entry: int) -> None:
    ids = await three_logs(bench)
    path = bench.root / "register.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for number, line in enumerate(lines) if number != dropped_entry))
    causes = bench.causes()
    assert (ids[dropped_entry], None, "unregistered_log") in causes
    if dropped_entry < 2:
        assert ("", dropped_entry, "register_chain") in causes


async def test_a_dropped_last_entry_whose_log_is_gone_too_is_known_to_the_witness(bench: Bench) -> None:
    *_, last = await three_logs(bench)
    path = bench.root / "register.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    shutil.rmtree(bench.root / last)
    assert bench.causes() == [(last, None, "register_cut")]


async def test_a_changed_register_entry(bench: Bench) -> None:
    await three_logs(bench)
    path = bench.root / "register.jsonl"
    lines = path.read_bytes().splitlines()
    entry = json.loads(lines[1])
    lines[1] = json.dumps({**entry, "instance": "gw-z"}).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert {("", 1, "register_signature"), ("", 2, "register_chain")} <= set(bench.causes())
    path.write_bytes(b"{}\n")
    assert ("", None, "register_unreadable") in bench.causes()


# --- what is no fault -----------------------------------------------------------------------------------------------


async def test_a_running_log_is_verified_to_its_last_checkpoint_and_the_rest_is_called_unwitnessed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.checkpointer.PACE_S", 60)
    log = bench.open()
    await until(lambda: (bench.root / log.log_id / "checkpoints.jsonl").exists())
    await log.append_all([decision(1), closing(1), decision(2)])
    report = bench.verify()
    assert report.ok
    assert [(warning.index, warning.cause) for warning in report.warnings] == [(1, "not_yet_witnessed")]
    assert (report.logs[0].events, report.logs[0].witnessed, report.logs[0].open_requests) == (4, 1, 1)
    await log.aclose()


async def test_a_log_is_verified_while_it_is_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.writer.SEGMENT_BYTES", 16 * 1024)
    monkeypatch.setattr("audit.checkpointer.PACE_S", 0.01)
    log = bench.open()
    done = asyncio.Event()

    async def write() -> None:
        number = 0
        while not done.is_set():
            await log.append_all([decision(number), closing(number)])
            number += 1

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        await until(lambda: log.size > 50)
        reports = [await asyncio.to_thread(bench.verify) for _ in range(10)]
        done.set()
    await log.aclose()
    assert [report.faults for report in reports] == [()] * 10
    assert reports[-1].logs[0].witnessed > 1


async def test_a_torn_tail_is_a_warning(bench: Bench) -> None:
    log_id = await bench.filled()
    with segment_of(bench, log_id).open("ab") as file:
        file.write(b"\xf5cm1\x00\x00")
    assert bench.verify().ok
    assert bench.warnings() == ["torn_tail"]


async def test_a_spoilt_tree_file_is_a_warning_since_the_events_are_whole(bench: Bench) -> None:
    log_id = await bench.filled()
    path = bench.root / log_id / "nodes"
    path.write_bytes(bytes(path.stat().st_size))
    assert bench.verify().ok
    assert bench.warnings() == ["tree_file"]


async def test_a_request_left_open_in_a_log_that_nobody_continues_is_a_warning(bench: Bench) -> None:
    log = bench.open()
    await log.append(decision(1))
    await log.aclose()
    assert bench.warnings() == []  # still the instance's last log: its next start will close it
    segment = segment_of(bench, log.log_id)
    hidden = segment.rename(segment.with_suffix(".away"))  # so that the next log cannot know
    renewed = bench.open(key=Ed25519PrivateKey.generate())
    await renewed.aclose()
    hidden.rename(segment)
    assert bench.verify().ok
    assert bench.warnings() == ["request_not_closed"]


def test_kinds_of_change_are_told_by_what_follows() -> None:
    a, b, c, d, x = (bytes([n]) * 32 for n in range(5))
    assert name_change([x, b, c], [a, b, c]) == "event_edited"
    assert name_change([b, c, d], [a, b, c, d]) == "event_missing"
    assert name_change([c, d], [a, b, c, d]) == "event_missing"
    assert name_change([b, a, c], [a, b, c]) == "event_reordered"
    assert name_change([x, a, b], [a, b, c]) == "event_inserted"
    assert name_change([x], []) == "event_edited"


def test_a_checkpoint_without_a_cosignature_counts_for_nothing(bench: Bench) -> None:
    checkpoint: Checkpoint = sign(bench.key, "log-1", 1, bytes(32), 1)
    assert checkpoint.is_signed_by(bench.key.public_key())
    assert not checkpoint.is_cosigned_by(bench.key.public_key())
