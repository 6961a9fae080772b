"""The log a gateway appends to: durable receipts, one holder, interrupted requests closed, no audit no traffic."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Checkpoint, Cosignature, last_checkpoint
from audit.event import AdminEvent, ClosingEvent, Event, Receipt, leaf_hash_of
from audit.query import events
from audit.register import RegisterEntry
from audit.segment import segments
from runtime import telemetry
from runtime.errors import AuditError, ConfigurationError
from tests.audit.conftest import Bench, clearance, closing, decision, until


def all_events(bench: Bench, log_id: str) -> list[Event]:
    return [event for id_, _, event in sorted(events(bench.root), key=lambda entry: entry[:2]) if id_ == log_id]


def open_flags(folder: Path) -> dict[str, int]:
    """The flags under which this process has files in ``folder`` open, by suffix."""
    flags = {}
    for descriptor in Path("/proc/self/fd").iterdir():
        path = Path(os.path.realpath(descriptor))
        if path.is_relative_to(folder):
            told = Path(f"/proc/self/fdinfo/{descriptor.name}").read_text(encoding="utf-8")
            flags[path.suffix] = int(told.partition("flags:")[2].split()[0], 8)
    return flags


async def test_a_receipt_names_log_place_and_leaf_and_is_held(bench: Bench) -> None:
    log = bench.open()
    first, second = await log.append(decision(1)), await log.append(closing(1))
    await log.aclose()
    assert first == Receipt(log.log_id, 1, leaf_hash_of(decision(1)))  # 0 is the log's own opening
    assert second == Receipt(log.log_id, 2, leaf_hash_of(closing(1)))
    assert all_events(bench, log.log_id)[1:] == [decision(1), closing(1)]


async def test_a_forged_receipt_is_not_held(bench: Bench) -> None:
    log = bench.open()
    receipt = await log.append(decision(1))
    assert log.holds(receipt)
    for forged in (
        msgspec.structs.replace(receipt, log_id="log-other"),
        msgspec.structs.replace(receipt, index=receipt.index - 1),
        msgspec.structs.replace(receipt, index=receipt.index + 1),
        msgspec.structs.replace(receipt, index=-1),
        msgspec.structs.replace(receipt, leaf_hash=leaf_hash_of(decision(2))),
    ):
        assert not log.holds(forged)
    await log.aclose()
    assert not log.holds(receipt)


async def test_an_append_returns_after_a_synchronous_write(bench: Bench) -> None:
    log = bench.open()
    flags = open_flags(bench.root)
    assert flags[".seg"] & os.O_DSYNC
    assert flags[".seg"] & os.O_APPEND
    await log.aclose()


async def test_concurrent_appends_get_places_of_their_own_and_each_callers_stay_in_order(bench: Bench) -> None:
    log = bench.open()

    async def one_caller(caller: int) -> list[Receipt]:
        return [await log.append(decision(caller * 100 + step)) for step in range(25)]

    by_caller = await asyncio.gather(*(one_caller(caller) for caller in range(16)))
    await log.aclose()
    assert sorted(receipt.index for receipts in by_caller for receipt in receipts) == list(range(1, 401))
    assert all(receipts == sorted(receipts, key=lambda receipt: receipt.index) for receipts in by_caller)
    stored = all_events(bench, log.log_id)
    for caller, receipts in enumerate(by_caller):
        for step, receipt in enumerate(receipts):
            assert stored[receipt.index] == decision(caller * 100 + step)


async def test_many_events_at_once_keep_their_order_over_commits_and_segments(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.writer.SEGMENT_BYTES", 64 * 1024)
    log = bench.open()
    batch: list[Event] = [event for number in range(3000) for event in (decision(number), closing(number))]
    receipts = await log.append_all(batch)
    receipts += [await log.append(decision(number)) for number in range(3000, 3010)]
    assert all(map(log.holds, receipts))
    await log.aclose()
    assert [receipt.index for receipt in receipts] == list(range(1, 6011))
    assert len(segments(bench.root / log.log_id)) > 2
    assert all_events(bench, log.log_id)[1:6001] == batch


async def test_no_events_are_no_commit(bench: Bench) -> None:
    log = bench.open()
    assert await log.append_all([]) == []
    assert log.size == 1
    await log.aclose()


async def test_an_instance_goes_on_with_its_log_and_another_has_its_own(bench: Bench) -> None:
    log_id = await bench.filled()
    again, other = bench.open(), bench.open(instance="gw-b")
    receipt = await again.append(decision(99))
    await again.aclose()
    await other.aclose()
    assert again.log_id == log_id
    assert receipt.index == 42  # the opening, 20 requests of two events, the continuing
    assert other.log_id != log_id
    assert bench.verify().ok


async def test_a_new_key_begins_a_new_log_that_closes_what_the_old_one_left(bench: Bench) -> None:
    log = bench.open()
    await log.append(decision(1))
    await log.aclose()
    renewed = bench.open(key=Ed25519PrivateKey.generate())
    await renewed.aclose()
    assert renewed.log_id != log.log_id
    closed = [event for event in all_events(bench, renewed.log_id) if isinstance(event, ClosingEvent)]
    assert [(event.request_id, event.outcome) for event in closed] == [("req-000001", "interrupted")]
    assert bench.verify().ok
    assert "request_not_closed" not in bench.warnings()


async def test_one_process_at_a_time_holds_a_log(bench: Bench) -> None:
    log = bench.open()
    with pytest.raises(ConfigurationError, match="another process holds"):
        bench.open()
    await log.aclose()
    await bench.open().aclose()


async def test_requests_left_open_are_closed_as_interrupted_with_the_calls_they_may_have_cost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.writer.SEGMENT_BYTES", 4096)  # so that the open ones are known from a header only
    log = bench.open()
    await log.append_all([decision(1), decision(2), clearance(2), clearance(2, attempt=2), decision(3), closing(3)])
    for number in range(10, 40):
        await log.append_all([decision(number), closing(number)])
    assert [request.request_id for request in log.open_requests()] == ["req-000001", "req-000002"]
    await log.aclose()
    again = bench.open()
    assert again.open_requests() == ()
    await again.aclose()
    ended = [e for e in all_events(bench, log.log_id) if isinstance(e, ClosingEvent) and e.outcome == "interrupted"]
    assert [(e.request_id, e.tenant, e.attempts, e.target) for e in ended] == [
        ("req-000001", "default", 0, "none"),
        ("req-000002", "default", 2, "cloud-a"),
    ]
    assert bench.verify().ok


async def test_what_a_crash_left_of_a_commit_is_cut_off_and_noted(bench: Bench) -> None:
    log_id = await bench.filled()
    segment = segments(bench.root / log_id)[-1]
    whole = segment.read_bytes()
    segment.write_bytes(whole + b"\xf5cm1\x00\x00\x10\x00half of a record")
    log = bench.open()
    await log.aclose()
    noted = all_events(bench, log_id)[-1]
    assert isinstance(noted, AdminEvent)
    assert (noted.action, dict(noted.detail)["torn_bytes"]) == ("log.continued", "24")
    assert segment.read_bytes().startswith(whole)
    assert bench.verify().ok


async def test_a_damaged_record_before_a_later_commit_is_no_torn_tail(bench: Bench) -> None:
    log = bench.open()
    await log.aclose()  # witnessed: the opening only
    checkpoints = (bench.root / log.log_id / "checkpoints.jsonl").read_bytes()
    store = (bench.store / f"{log.log_id}.jsonl").read_bytes()
    again = bench.open()
    for number in range(5):
        await again.append(decision(number))
    await again.aclose()
    (bench.root / log.log_id / "checkpoints.jsonl").write_bytes(checkpoints)
    (bench.store / f"{log.log_id}.jsonl").write_bytes(store)
    segment = segments(bench.root / log.log_id)[-1]
    segment.write_bytes(segment.read_bytes().replace(b"req-000001", b"req-900001", 1))
    with pytest.raises(AuditError, match="event 3 is damaged"):
        bench.open()


@pytest.mark.parametrize("file", ["segment", "checkpoints.jsonl"])
async def test_a_log_that_lost_acknowledged_events_is_not_opened(bench: Bench, file: str) -> None:
    log_id = await bench.filled()
    path = segments(bench.root / log_id)[-1] if file == "segment" else bench.root / log_id / file
    path.write_bytes(path.read_bytes()[:300])
    if file == "segment":
        with pytest.raises(AuditError, match=r"before its last checkpoint"):
            bench.open()
    else:  # events are all there: checkpoints are for others, and the witness goes on from what it has seen
        await bench.open().aclose()
        assert bench.verify().ok


async def test_a_log_put_back_to_an_older_state_is_not_opened(bench: Bench) -> None:
    log_id = await bench.filled()
    shutil.copytree(bench.root, bench.folder / "older")
    await bench.filled()
    shutil.rmtree(bench.root)
    (bench.folder / "older").rename(bench.root)
    with pytest.raises(AuditError, match="the witness has seen"):
        bench.open()
    shutil.rmtree(bench.root / log_id)
    with pytest.raises(AuditError, match="folder is missing"):
        bench.open()


@pytest.mark.parametrize("change", ["missing", "short", "wrong"])
async def test_the_tree_is_made_anew_where_its_file_does_not_fit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr("audit.writer.SEGMENT_BYTES", 4096)
    log_id = await bench.filled(60)
    path = bench.root / log_id / "nodes"
    whole = path.read_bytes()
    changed = {"missing": b"", "short": whole[:640], "wrong": bytes(len(whole))}[change]
    path.write_bytes(changed)
    log = bench.open()
    receipt = await log.append(decision(1000))
    assert log.holds(receipt)
    await log.aclose()
    assert path.read_bytes().startswith(whole)
    assert bench.verify().ok


async def test_within_a_second_an_event_is_under_a_cosigned_checkpoint(bench: Bench) -> None:
    log = bench.open()
    await log.append(decision(1))
    path = bench.root / log.log_id / "checkpoints.jsonl"
    await until(lambda: (last := last_checkpoint(path)) is not None and last.size == 2)
    await until(lambda: log.lag_s == 0)
    last = last_checkpoint(path)
    assert last is not None
    assert last.is_signed_by(bench.key.public_key())
    assert last.is_cosigned_by(bench.witness_key.public_key())
    assert not last.is_cosigned_by(bench.key.public_key())
    await log.aclose()


class AbsentWitness:
    """Cannot be reached until it is back."""

    def __init__(self, real: Bench) -> None:
        self.there = False
        self._witness = real.witness()

    def enrol(self, entry: RegisterEntry) -> int:
        if not self.there:
            raise ConnectionError
        return self._witness.enrol(entry)

    def cosign(self, checkpoint: Checkpoint, proof: Sequence[bytes]) -> Cosignature:
        if not self.there:
            raise ConnectionError
        return self._witness.cosign(checkpoint, proof)


async def test_too_long_without_a_witness_stops_appends_until_it_is_back(bench: Bench) -> None:
    witness = AbsentWitness(bench)
    log = bench.open(witness=witness, witness_limit_s=0)
    await until(lambda: not log.healthy)
    assert log.reason == "audit_unwitnessed"
    with pytest.raises(AuditError) as refused:
        await log.append(decision(1))
    assert refused.value.code == "audit_unwitnessed"
    witness.there = True
    await until(lambda: log.healthy)
    await log.append(decision(1))
    await log.aclose()
    assert bench.verify().ok


async def test_a_short_absence_of_the_witness_stops_nothing(bench: Bench) -> None:
    witness = AbsentWitness(bench)
    log = bench.open(witness=witness)
    await until(lambda: log.lag_s > 0)
    assert log.healthy
    await log.append(decision(1))
    await log.aclose()
    assert not (bench.root / log.log_id / "checkpoints.jsonl").exists()


async def test_a_closed_log_takes_nothing(bench: Bench) -> None:
    log = bench.open()
    await log.aclose()
    await log.aclose()
    assert not log.healthy
    with pytest.raises(AuditError) as refused:
        await log.append(decision(1))
    assert refused.value.code == "audit_closed"


async def test_an_event_that_is_too_large_is_refused_and_harms_nobody(bench: Bench) -> None:
    log = bench.open()
    huge = msgspec.structs.replace(decision(1), rules=("r" * 1000,) * 20_000)
    with pytest.raises(AuditError) as refused:
        await log.append(huge)
    assert refused.value.code == "audit_event_too_large"
    assert log.healthy
    assert log.holds(await log.append(decision(2)))
    await log.aclose()


async def test_the_queue_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.writer.MAX_QUEUED_EVENTS", 10)
    log = bench.open()
    with pytest.raises(AuditError) as refused:
        await log.append_all([decision(number) for number in range(11)])
    assert (refused.value.code, refused.value.retry_after_s) == ("audit_backlog", 1)
    await log.append_all([decision(number) for number in range(10)])
    await log.aclose()


async def test_a_cancelled_callers_event_is_recorded_and_the_log_goes_on(bench: Bench) -> None:
    log = bench.open()
    task = asyncio.create_task(log.append(decision(1)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    receipt = await log.append(decision(2))
    await log.aclose()
    assert receipt.index == 2
    assert all_events(bench, log.log_id)[1:] == [decision(1), decision(2)]


async def test_durable_events_are_counted_by_kind(bench: Bench) -> None:
    def count() -> float:
        return telemetry.REGISTRY.get_sample_value("watershed_audit_events_total", {"kind": "closing"}) or 0.0

    before = count()
    log = bench.open()
    await log.append_all([closing(1), closing(2), decision(1)])
    await log.aclose()
    assert count() - before == 2


async def test_an_instance_has_a_name_that_can_stand_in_the_register(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match="instance"):
        bench.open(instance="gw\na")
