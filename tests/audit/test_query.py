from __future__ import annotations

from contextlib import closing as closed

import pytest

from audit.event import ClosingEvent, DecisionEvent
from audit.query import events, tail
from audit.segment import segments
from tests.audit.conftest import Bench, clearance, closing, decision


async def test_the_last_events_come_in_the_order_of_their_times_over_all_logs(bench: Bench) -> None:
    one, other = bench.open(), bench.open(instance="gw-b")
    for number in range(0, 40, 2):
        await one.append(decision(number))
        await other.append(decision(number + 1))
    await one.aclose()
    await other.aclose()
    assert [e.request_id for _, _, e in tail(bench.root, 50) if isinstance(e, DecisionEvent)] == [
        f"req-{number:06}" for number in range(40)
    ]
    assert [event for _, _, event in tail(bench.root, 2)] == [decision(38), decision(39)]
    assert list(tail(bench.root, 0)) == []


@pytest.mark.parametrize("count", [1, 3, 30, 100, 1000])
async def test_a_tail_reaches_over_as_many_segments_as_it_needs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("audit.writer.SEGMENT_BYTES", 4096)
    log_id = await bench.filled(60)
    assert len(segments(bench.root / log_id)) > 4
    found = sorted(index for _, index, _ in tail(bench.root, count))
    assert found == list(range(121))[-count:]


async def test_following_shows_what_comes_over_new_segments_and_new_logs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.writer.SEGMENT_BYTES", 4096)
    monkeypatch.setattr("audit.query._POLL_S", 0)
    log = bench.open()
    await log.append(decision(0))
    with closed(tail(bench.root, 1, follow=True)) as shown:
        assert next(shown)[2] == decision(0)
        await log.append_all([decision(number) for number in range(1, 30)])
        for number in range(30, 50):
            await log.append(decision(number))
        other = bench.open(instance="gw-b")
        came = [next(shown) for _ in range(50)]
    assert [event.request_id for _, _, event in came if isinstance(event, DecisionEvent)] == [
        f"req-{number:06}" for number in range(1, 50)
    ]
    assert came[-1][0] == other.log_id
    await log.aclose()
    await other.aclose()


async def test_all_events_of_one_request_and_of_no_other(bench: Bench) -> None:
    log = bench.open()
    await log.append_all([decision(1), decision(2), clearance(1), closing(2), closing(1)])
    await log.append(decision(3, request_id="req-000001x"))
    await log.aclose()
    assert [event for _, _, event in events(bench.root, request_id="req-000001")] == [
        decision(1),
        clearance(1),
        closing(1),
    ]
    assert list(events(bench.root, request_id="req-none")) == []


async def test_reading_stops_at_a_record_that_is_not_whole(bench: Bench) -> None:
    log_id = await bench.filled(3)
    path = segments(bench.root / log_id)[-1]
    path.write_bytes(path.read_bytes()[:-5])
    found = [event for _, _, event in events(bench.root)]
    assert len(found) == 6
    assert sum(isinstance(event, ClosingEvent) for event in found) == 2


def test_where_there_is_no_log_there_is_no_event(bench: Bench) -> None:
    assert list(events(bench.root)) == []
    assert list(tail(bench.root, 5)) == []
