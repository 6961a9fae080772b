"""On-prem capacity: sensitive first, general within its share, nobody waits for ever."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.hold import Capacity, Slot
from runtime.errors import UnavailableError


def soon() -> float:
    return time.monotonic() + 5


async def test_general_traffic_takes_no_more_than_its_share() -> None:
    capacity = Capacity(4, 0.5)
    slots = [await capacity.acquire(general=True, until=soon()) for _ in range(2)]
    with pytest.raises(UnavailableError) as refused:
        await capacity.acquire(general=True, until=time.monotonic())
    assert refused.value.retry_after_s is not None
    assert await capacity.acquire(general=False, until=soon())
    slots[0].release()
    assert await capacity.acquire(general=True, until=soon())


async def test_sensitive_requests_go_first() -> None:
    capacity = Capacity(1, 1.0)
    slot = await capacity.acquire(general=False, until=soon())
    order: list[str] = []

    async def wait(name: str, general: bool) -> None:
        taken = await capacity.acquire(general=general, until=soon())
        order.append(name)
        taken.release()

    async with asyncio.TaskGroup() as group:
        group.create_task(wait("general", True))
        await asyncio.sleep(0)
        group.create_task(wait("sensitive", False))
        await asyncio.sleep(0)
        slot.release()
    assert order == ["sensitive", "general"]


async def test_a_share_of_nothing_lets_no_general_request_in() -> None:
    with pytest.raises(UnavailableError):
        await Capacity(4, 0.0).acquire(general=True, until=soon())


async def test_a_waiter_who_leaves_gives_its_place_up() -> None:
    capacity = Capacity(1, 1.0)
    slot = await capacity.acquire(general=False, until=soon())
    waiter = asyncio.create_task(capacity.acquire(general=False, until=soon()))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert capacity.waiting == 0
    slot.release()
    slot.release()  # a second release gives nothing away
    assert capacity.taken == 0


async def test_a_slot_that_comes_as_its_waiter_leaves_is_not_lost() -> None:
    capacity = Capacity(1, 1.0)
    slot = await capacity.acquire(general=False, until=soon())
    waiter = asyncio.create_task(capacity.acquire(general=False, until=soon()))
    await asyncio.sleep(0)
    slot.release()
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    if waiter.cancelled():
        assert capacity.taken == 0
    else:
        waiter.result().release()
        assert capacity.taken == 0


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_the_counts_always_hold(steps: list[tuple[bool, bool]], total: int, share: float) -> None:
    asyncio.run(_walk(steps, total, share))


async def _walk(steps: list[tuple[bool, bool]], total: int, share: float) -> None:
    capacity = Capacity(total, share)
    held: list[tuple[bool, Slot]] = []
    limit = max(int(total * share), 1) if share else 0
    for general, take in steps:
        if take:
            try:
                held.append((general, await capacity.acquire(general=general, until=time.monotonic())))
            except UnavailableError:
                full = len(held) >= total
                assert full or (general and sum(g for g, _ in held) >= limit)
        elif held:
            held.pop()[1].release()
        assert capacity.taken == len(held) <= total
        assert sum(g for g, _ in held) <= limit
