from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_inference.scheduler import Priority, Scheduler
from runtime.errors import UnavailableError
from tests.local_inference.fakes import until

SENSITIVE, GENERAL = Priority.SENSITIVE, Priority.GENERAL


def _soon(seconds: float = 30) -> float:
    return time.monotonic() + seconds


class _Holder:
    """A task that holds a slot until it is let go."""

    def __init__(
        self, scheduler: Scheduler, priority: Priority, order: list[str] | None = None, name: str = ""
    ) -> None:
        self.inside = False
        self._leave = asyncio.Event()
        self._scheduler, self._priority, self._order, self._name = scheduler, priority, order, name
        self.task = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        async with self._scheduler.slot(self._priority, _soon()):
            self.inside = True
            if self._order is not None:
                self._order.append(self._name)
            await self._leave.wait()
        self.inside = False

    async def leave(self) -> None:
        self._leave.set()
        await self.task


async def test_sensitive_requests_go_before_general_ones_that_came_earlier() -> None:
    scheduler, order = Scheduler(1), list[str]()
    first = _Holder(scheduler, SENSITIVE)
    await until(lambda: first.inside)
    general = _Holder(scheduler, GENERAL, order, "general")
    await until(lambda: scheduler.waiting == 1)
    sensitive = _Holder(scheduler, SENSITIVE, order, "sensitive")
    await until(lambda: scheduler.waiting == 2)
    for holder in (first, sensitive, general):
        await holder.leave()
    assert order == ["sensitive", "general"]


async def test_general_traffic_leaves_the_rest_of_the_slots_to_sensitive_traffic() -> None:
    scheduler = Scheduler(4, general_share=0.5)
    general = [_Holder(scheduler, GENERAL) for _ in range(4)]
    await until(lambda: scheduler.running == 2)
    assert scheduler.waiting == 2
    sensitive = [_Holder(scheduler, SENSITIVE) for _ in range(2)]
    await until(lambda: all(holder.inside for holder in sensitive))
    for holder in (*sensitive, *general):
        await holder.leave()
    assert scheduler.running == scheduler.waiting == 0


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    scheduler = Scheduler(1, queue_limit=1)
    running = _Holder(scheduler, SENSITIVE)
    waiting = _Holder(scheduler, SENSITIVE)
    await until(lambda: scheduler.waiting == 1)
    with pytest.raises(UnavailableError) as refused:
        async with scheduler.slot(SENSITIVE, _soon()):
            pytest.fail("the queue was full")
    assert refused.value.code == "queue_full"
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s >= 1
    await running.leave()
    await waiting.leave()


async def test_general_traffic_cannot_fill_the_queue() -> None:
    scheduler = Scheduler(1, queue_limit=4, general_share=0.5)
    holders = [_Holder(scheduler, SENSITIVE), _Holder(scheduler, GENERAL), _Holder(scheduler, GENERAL)]
    await until(lambda: scheduler.waiting == 2)
    with pytest.raises(UnavailableError):
        async with scheduler.slot(GENERAL, _soon()):
            pytest.fail("general traffic had its places")
    holders.insert(1, _Holder(scheduler, SENSITIVE))
    await until(lambda: scheduler.waiting == 3)
    for holder in holders:
        await holder.leave()


async def test_general_traffic_without_a_share_is_refused() -> None:
    with pytest.raises(UnavailableError):
        async with Scheduler(4, general_share=0).slot(GENERAL, _soon()):
            pytest.fail("there is no share")


async def test_no_slot_by_the_deadline_is_unavailable_and_frees_the_place() -> None:
    scheduler = Scheduler(1, queue_limit=1)
    running = _Holder(scheduler, SENSITIVE)
    await until(lambda: running.inside)
    with pytest.raises(UnavailableError) as refused:
        async with scheduler.slot(SENSITIVE, _soon(0.01)):
            pytest.fail("the slot was taken")
    assert refused.value.code == "queue_timeout"
    assert scheduler.waiting == 0
    await running.leave()


async def test_the_time_to_come_back_follows_the_work_ahead() -> None:
    scheduler = Scheduler(1)
    idle_s = scheduler.retry_after_s
    holders = [_Holder(scheduler, SENSITIVE) for _ in range(4)]
    await until(lambda: scheduler.running + scheduler.waiting == 4)
    assert scheduler.retry_after_s > idle_s
    for holder in holders:
        await holder.leave()
    assert scheduler.retry_after_s == 1.0


@settings(max_examples=60, deadline=None)
@given(
    concurrency=st.integers(min_value=1, max_value=4),
    share=st.sampled_from([0.25, 0.5, 1.0]),
    steps=st.lists(
        st.tuples(st.sampled_from(["sensitive", "general", "leave", "cancel"]), st.integers(0, 9)), max_size=40
    ),
)
def test_slots_are_never_overdrawn_and_always_come_back(
    concurrency: int, share: float, steps: list[tuple[str, int]]
) -> None:
    async def run() -> None:
        scheduler = Scheduler(concurrency, general_share=share)
        allowed_general = max(1, int(concurrency * share))
        holders: list[tuple[Priority, _Holder]] = []
        for step, pick in steps:
            if step in {"sensitive", "general"}:
                holders.append((Priority(step), _Holder(scheduler, Priority(step))))
            elif holders:
                _, holder = holders.pop(pick % len(holders))
                if step == "cancel":
                    holder.task.cancel()  # perhaps in the very moment in which it is given its slot
                else:
                    holder._leave.set()
            if pick % 2:
                for _ in range(4):
                    await asyncio.sleep(0)
            inside = [priority for priority, holder in holders if holder.inside]
            assert len(inside) <= concurrency
            assert inside.count(GENERAL) <= allowed_general
            assert scheduler.running <= concurrency
        for _, holder in holders:
            holder._leave.set()
        await until(lambda: scheduler.running == scheduler.waiting == 0)

    asyncio.run(run())
