"""The in-process transport keeps Kafka's promises: order, one subscriber, a committed position, bounds."""

from __future__ import annotations

import asyncio
import time

import pytest

from cloud_bridge.transport import CONTROL, REQUESTS, RESPONSES, InProcessTransport, Record, partition_of
from runtime.errors import ConfigurationError, TargetError


def unseen(record: Record) -> None:
    raise AssertionError("in process, what was committed is gone")


def soon() -> float:
    return time.monotonic() + 5


async def test_what_was_not_committed_is_given_to_the_next_subscriber() -> None:
    transport = InProcessTransport()
    for value in (b"a", b"b", b"c"):
        await transport.publish(REQUESTS, 0, value, deadline=soon())
    first = await transport.subscribe(REQUESTS, [0], earlier=unseen)
    await first.commit(await first.get())
    assert (await first.get()).value == b"b"  # given out, not committed: the first subscriber dies here
    await first.aclose()

    second = await transport.subscribe(REQUESTS, [0], earlier=unseen)
    found = [await second.get(), await second.get()]

    assert [(record.offset, record.value) for record in found] == [(1, b"b"), (2, b"c")]


async def test_a_partition_has_one_subscriber() -> None:
    transport = InProcessTransport()
    await transport.subscribe(REQUESTS, [0, 1], earlier=unseen)

    with pytest.raises(ConfigurationError):
        await transport.subscribe(REQUESTS, [1], earlier=unseen)


async def test_followers_all_see_what_comes_after_them_and_nothing_before() -> None:
    transport = InProcessTransport()
    await transport.publish(CONTROL, 0, b"before", deadline=soon())
    followers = [await transport.follow(CONTROL, [0]) for _ in range(3)]
    await transport.publish(CONTROL, 0, b"after", deadline=soon())

    assert [(await follower.get()).value for follower in followers] == [b"after"] * 3


async def test_what_nobody_follows_takes_no_room() -> None:
    transport = InProcessTransport(capacity=1)

    assert [await transport.publish(RESPONSES, 0, b"x", deadline=soon()) for _ in range(3)] == [0, 1, 2]


async def test_a_full_partition_makes_publishers_wait_until_there_is_room() -> None:
    transport = InProcessTransport(capacity=2)
    consumer = await transport.subscribe(REQUESTS, [0], earlier=unseen)
    for value in (b"a", b"b"):
        await transport.publish(REQUESTS, 0, value, deadline=soon())
    waiting = asyncio.create_task(transport.publish(REQUESTS, 0, b"c", deadline=soon()))
    record = await consumer.get()
    assert not waiting.done()

    await consumer.commit(record)

    assert await waiting == 2


async def test_a_publisher_waits_no_longer_than_its_deadline() -> None:
    transport = InProcessTransport(capacity=1)
    await transport.follow(RESPONSES, [0])
    await transport.publish(RESPONSES, 0, b"a", deadline=soon())

    with pytest.raises(TargetError) as caught:
        await transport.publish(RESPONSES, 0, b"b", deadline=time.monotonic() + 0.01)

    assert caught.value.code == "bridge_full"


def test_a_partition_is_found_by_the_epochs_secret() -> None:
    names = [f"conversation-{n}" for n in range(200)]
    one = [partition_of(b"1" * 32, name, 16) for name in names]

    assert one == [partition_of(b"1" * 32, name, 16) for name in names]
    assert one != [partition_of(b"2" * 32, name, 16) for name in names]
    assert set(one) == set(range(16))
