"""The two ways of reading from Kafka: as a member of a group that shares the work, or along with whoever else reads.

A subscriber that is given a partition first goes back over a clearance's lifetime before the committed offset:

    ──┬───────────────────────┬──────────────▶ offsets
      lifetime ago            committed
      └─ shown to ``earlier`` ┴─ given out, each committed before it is worked on
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError

from cloud_bridge.clearance import CLOCK_SKEW_US, MAX_LIFETIME_S
from cloud_bridge.kafka_errors import refusal
from cloud_bridge.transport import Earlier, Record
from runtime.errors import TargetError
from runtime.ids import now_us

COMMIT_S = 3.0
_STOP_S = 3.0
_LOOK_UP_S = 5.0
_RETRY_S = 0.1
_READ_BACK_US = MAX_LIFETIME_S * 1_000_000 + 2 * CLOCK_SKEW_US

_log = structlog.get_logger()


class KafkaFollower:
    """Reads partitions on from where they stand; nothing is committed."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    async def get(self) -> Record:
        return await _next(self._consumer)

    async def commit(self, record: Record) -> None:
        """There is no position to commit."""

    async def aclose(self) -> None:
        await _stop(self._consumer)


class KafkaSubscriber:
    """A member of the consumer group.

    A record is given out, and its commit sent, under one assignment, and the member joins no other while a commit is
    under way. So the brokers accept it only where no later owner can have read the position before; a commit that went
    out under the next assignment would be accepted too, though the partition may be another's.
    """

    def __init__(self, consumer: Any, topic: str, earlier: Earlier) -> None:
        self._consumer = consumer
        self._earlier = earlier
        self._assignments = 0
        self._commits = asyncio.Lock()
        self._new: set[TopicPartition] = set()  # assigned, position not yet known
        self._first: dict[TopicPartition, int] = {}  # the committed offset at which each partition was taken over
        self._given: dict[TopicPartition, int] = {}  # the last offset given out under this assignment
        consumer.subscribe([topic], listener=_Listener(self))

    async def get(self) -> Record:
        while True:
            await self._take_over()
            record = await _next(self._consumer)
            place = TopicPartition(record.topic, record.partition)
            first = self._first.get(place)
            if first is None:
                continue  # assigned while we waited: it is read again from where the last owner stopped
            if record.offset < first:
                self._earlier(record)
                continue
            self._given[place] = record.offset
            return record

    async def commit(self, record: Record) -> None:
        place = TopicPartition(record.topic, record.partition)
        async with self._commits:
            if self._given.get(place, -1) < record.offset:
                raise _lost()
            try:
                async with asyncio.timeout(COMMIT_S):
                    await self._consumer.commit({place: record.offset + 1})
            except (KafkaError, TimeoutError) as error:
                _log.warning("an offset was not committed", error=type(error).__name__)
                raise _lost() from None

    async def aclose(self) -> None:
        await _stop(self._consumer)

    async def revoked(self) -> None:
        """The group shares anew: what was given out and not committed may go to another member."""
        async with self._commits:
            self._assignments += 1
            self._new.clear()
            self._first.clear()
            self._given.clear()

    def assigned(self, places: Collection[TopicPartition]) -> None:
        self._assignments += 1
        self._new = set(places)

    async def _take_over(self) -> None:
        """Set each new partition's position back by a clearance's lifetime; until then nothing of it is given out."""
        while self._new:
            place = next(iter(self._new))
            assignment = self._assignments
            try:
                async with asyncio.timeout(_LOOK_UP_S):
                    committed, begin = await self._look_up(place)
                    if assignment != self._assignments:
                        continue
                    if committed is None:
                        await self._consumer.seek_to_beginning(place)
                    else:
                        self._consumer.seek(place, min(begin, committed))
            except (KafkaError, TimeoutError) as error:
                refused = refusal(error)
                if not isinstance(refused, TargetError):
                    raise refused from None
                # Brokers that are being replaced, or the group shares anew.
                _log.warning("a partition is not taken over yet", error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)
                continue
            if assignment == self._assignments:
                self._first[place] = committed or 0
                self._new.discard(place)

    async def _look_up(self, place: TopicPartition) -> tuple[int | None, int]:
        """The committed offset, and that of the first record that is young enough to matter."""
        committed: int | None = await self._consumer.committed(place)
        since_ms = (now_us() - _READ_BACK_US) // 1000
        found = (await self._consumer.offsets_for_times({place: since_ms}))[place]
        return committed, (committed or 0) if found is None else found.offset


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    def __init__(self, subscriber: KafkaSubscriber) -> None:
        self._subscriber = subscriber

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._subscriber.revoked()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._subscriber.assigned(assigned)


async def _next(consumer: Any) -> Record:
    try:
        found = await consumer.getone()
    except KafkaError as error:
        raise refusal(error) from None
    except ConsumerStoppedError:
        raise TargetError("the consumer is closed", code="bridge_closed") from None
    return Record(found.topic, found.partition, found.offset, found.value)


async def _stop(consumer: Any) -> None:
    try:
        async with asyncio.timeout(_STOP_S):
            await consumer.stop()
    except (KafkaError, TimeoutError):
        _log.warning("a consumer was not closed in time: its group waits for the session to end")


def _lost() -> TargetError:
    return TargetError("the record's partition may have another owner", code="partition_lost")
