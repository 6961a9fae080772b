"""What carries messages, shaped after Kafka: topics with partitions, offsets, a committed position.

``InProcessTransport`` is the embedded mode's; ``kafka.KafkaTransport`` is the stack's. Messages, sealing and checks do
not know which.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from runtime.errors import ConfigurationError, TargetError

REQUESTS = "watershed.inference.requests"
RESPONSES = "watershed.inference.responses"
CONTROL = "watershed.control"
_SHARED = frozenset({REQUESTS})  # topics whose records wait for a subscriber; the others are only followed
RESPONSE_PARTITIONS = 64
REQUEST_PARTITIONS = 12


class Record(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    offset: int
    value: bytes


Earlier = Callable[[Record], None]


class Consumer(Protocol):
    async def get(self) -> Record:
        """The next record; waits without a limit, its owner cancels it."""
        ...

    async def commit(self, record: Record) -> None:
        """After this the record, and those before it in its partition, are never given out again.

        Raises:
            TargetError: ``partition_lost``: the record may have gone, or go, to another subscriber; leave it alone.
        """
        ...

    async def aclose(self) -> None: ...


class Transport(Protocol):
    async def publish(self, topic: str, partition: int, value: bytes, *, deadline: float) -> int:
        """Hand over a message; returns its offset once it is accepted. ``deadline``: ``time.monotonic()`` seconds.

        Raises:
            TargetError: not accepted by the deadline; it may still arrive.
            PayloadTooLargeError: larger than the transport carries.
        """
        ...

    async def subscribe(self, topic: str, partitions: Sequence[int], *, earlier: Earlier) -> Consumer:
        """Share the work: each record goes to one subscriber, from the first that was not committed.

        Args:
            earlier: is shown, before anything of a partition is given out, the records of a clearance's lifetime that
                others have committed there, so that what they used is known.
        """
        ...

    async def follow(self, topic: str, partitions: Sequence[int]) -> Consumer:
        """Read along: every record from now on, whoever else reads it; there is nothing to commit."""
        ...


def partition_of(secret: bytes, name: str, partitions: int) -> int:
    """The partition for a conversation or request: an HMAC under the epoch's secret, so that it tells nothing."""
    return int.from_bytes(hmac.digest(secret, name.encode(), "sha256")[:8], "big") % partitions


class InProcessTransport:
    """Topics in this process's memory: bounded, in order, lost with the process.

    Args:
        capacity: messages that a partition, or a follower, holds before publishers wait.
    """

    def __init__(self, *, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._partitions: dict[tuple[str, int], _Partition] = {}

    async def publish(self, topic: str, partition: int, value: bytes, *, deadline: float) -> int:
        target = self._partition(topic, partition)
        if target.full():
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                    while target.full():
                        target.room.clear()
                        await target.room.wait()
            except TimeoutError:
                raise TargetError("the bridge is full", code="bridge_full", retry_after_s=1.0) from None
        return target.append(value)

    async def subscribe(self, topic: str, partitions: Sequence[int], *, earlier: Earlier) -> _Consumer:
        """``earlier`` sees nothing: what was committed is gone. A worker's successor takes over its verifier."""
        consumer = _Consumer([self._partition(topic, number) for number in partitions])
        for partition in consumer.partitions:
            partition.give_to(consumer)
        return consumer

    async def follow(self, topic: str, partitions: Sequence[int]) -> _Consumer:
        consumer = _Consumer([self._partition(topic, number) for number in partitions])
        for partition in consumer.partitions:
            partition.followers.append(consumer)
        return consumer

    def _partition(self, topic: str, number: int) -> _Partition:
        found = self._partitions.get((topic, number))
        if found is None:
            found = self._partitions[topic, number] = _Partition(topic, number, self._capacity)
        return found


class _Partition:
    """One partition. Of a shared topic it keeps what no subscriber has committed; of others, nothing."""

    def __init__(self, topic: str, number: int, capacity: int) -> None:
        self.topic = topic
        self.number = number
        self.room = asyncio.Event()
        self.followers: list[_Consumer] = []
        self._capacity = capacity
        self._next_offset = 0
        self._kept: deque[Record] = deque()
        self._subscriber: _Consumer | None = None

    def full(self) -> bool:
        return len(self._kept) >= self._capacity or any(len(f.ready) >= self._capacity for f in self.followers)

    def append(self, value: bytes) -> int:
        record = Record(self.topic, self.number, self._next_offset, value)
        self._next_offset += 1
        for follower in self.followers:
            follower.offer(record)
        if self._subscriber is not None:
            self._subscriber.offer(record)
        if self.topic in _SHARED:
            self._kept.append(record)
        return record.offset

    def give_to(self, subscriber: _Consumer) -> None:
        if self._subscriber is not None:
            raise ConfigurationError("a partition has one subscriber at a time")
        self._subscriber = subscriber
        for record in self._kept:
            subscriber.offer(record)

    def commit(self, offset: int) -> None:
        while self._kept and self._kept[0].offset <= offset:
            self._kept.popleft()
        self.room.set()

    def leave(self, consumer: _Consumer) -> None:
        if self._subscriber is consumer:
            self._subscriber = None
        if consumer in self.followers:
            self.followers.remove(consumer)
        self.room.set()


class _Consumer:
    def __init__(self, partitions: list[_Partition]) -> None:
        self.partitions = partitions
        self.ready: deque[Record] = deque()
        self._arrived = asyncio.Event()
        self._by_place = {(partition.topic, partition.number): partition for partition in partitions}

    def offer(self, record: Record) -> None:
        self.ready.append(record)
        self._arrived.set()

    async def get(self) -> Record:
        while not self.ready:
            self._arrived.clear()
            await self._arrived.wait()
        record = self.ready.popleft()
        self._by_place[record.topic, record.partition].room.set()
        return record

    async def commit(self, record: Record) -> None:
        self._by_place[record.topic, record.partition].commit(record.offset)

    async def aclose(self) -> None:
        for partition in self.partitions:
            partition.leave(self)
        self.ready.clear()
