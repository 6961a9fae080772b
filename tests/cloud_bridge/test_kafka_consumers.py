"""A subscriber's promises while its group shares anew, against a consumer whose every step the test decides."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest

pytest.importorskip("aiokafka", reason="the stack's extra is not installed")

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError, TopicAuthorizationFailedError

from cloud_bridge.kafka_consumers import KafkaSubscriber
from cloud_bridge.transport import REQUESTS, Record
from runtime.errors import ConfigurationError, TargetError

PLACE = TopicPartition(REQUESTS, 0)


class Found(NamedTuple):
    topic: str
    partition: int
    offset: int
    value: bytes


class Offset(NamedTuple):
    offset: int


class FakeConsumer:
    """One partition of ten records; ``committed_at`` and ``young_from`` are what the brokers would say."""

    def __init__(self, *, committed_at: int | None, young_from: int | None = 0) -> None:
        self.committed_at = committed_at
        self.young_from = young_from
        self.position = 0
        self.listener: Any = None
        self.failures: list[Exception] = []
        self.before_commit = asyncio.Event()
        self.before_commit.set()

    def subscribe(self, topics: list[str], listener: Any) -> None:
        self.listener = listener

    async def committed(self, place: TopicPartition) -> int | None:
        self._fail()
        return self.committed_at

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Offset | None]:
        return {PLACE: None if self.young_from is None else Offset(self.young_from)}

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.position = offset

    async def seek_to_beginning(self, place: TopicPartition) -> None:
        self.position = 0

    async def getone(self) -> Found:
        self._fail()
        offset, self.position = self.position, self.position + 1
        return Found(REQUESTS, 0, offset, b"%d" % offset)

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        await self.before_commit.wait()
        self._fail()
        self.committed_at = offsets[PLACE]

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


class Group:
    """A subscriber with its fake consumer, and the coordinator's calls."""

    def __init__(self, **offsets: Any) -> None:
        self.consumer = FakeConsumer(**offsets)
        self.earlier: list[int] = []
        self.subscriber = KafkaSubscriber(self.consumer, REQUESTS, lambda record: self.earlier.append(record.offset))

    async def share(self) -> None:
        await self.consumer.listener.on_partitions_revoked({PLACE})
        await self.consumer.listener.on_partitions_assigned({PLACE})


async def lost(group: Group, record: Record) -> None:
    with pytest.raises(TargetError) as caught:
        await group.subscriber.commit(record)
    assert caught.value.code == "partition_lost"


async def test_what_is_young_and_committed_is_shown_and_only_the_rest_given_out() -> None:
    group = Group(committed_at=5, young_from=2)
    await group.share()

    assert (await group.subscriber.get()).offset == 5
    assert group.earlier == [2, 3, 4]


@pytest.mark.parametrize("young_from", [None, 7], ids=["nothing young", "young ones not committed"])
async def test_nothing_that_is_not_committed_is_skipped(young_from: int | None) -> None:
    group = Group(committed_at=5, young_from=young_from)
    await group.share()

    assert (await group.subscriber.get()).offset == 5
    assert group.earlier == []


async def test_a_partition_never_committed_is_given_out_from_its_beginning() -> None:
    group = Group(committed_at=None, young_from=4)
    await group.share()

    assert (await group.subscriber.get()).offset == 0


async def test_a_record_given_out_before_the_group_shared_anew_cannot_be_committed() -> None:
    group = Group(committed_at=0)
    await group.share()
    record = await group.subscriber.get()
    await group.share()

    await lost(group, record)
    assert group.consumer.committed_at == 0
    assert (await group.subscriber.get()).offset == 0


async def test_a_commit_that_fails_leaves_the_record_alone() -> None:
    group = Group(committed_at=0)
    await group.share()
    record = await group.subscriber.get()
    group.consumer.failures = [CommitFailedError()]

    await lost(group, record)


async def test_the_member_joins_no_other_assignment_while_a_commit_is_under_way() -> None:
    group = Group(committed_at=0)
    await group.share()
    record = await group.subscriber.get()
    group.consumer.before_commit.clear()
    committing = asyncio.create_task(group.subscriber.commit(record))
    sharing = asyncio.create_task(group.share())
    done, _ = await asyncio.wait({committing, sharing}, timeout=0.05)
    assert not done
    group.consumer.before_commit.set()

    await committing
    await sharing
    assert group.consumer.committed_at == 1


async def test_a_record_that_comes_before_its_partition_is_taken_over_is_read_again() -> None:
    group = Group(committed_at=3, young_from=3)

    async def share_underway() -> Found:
        """The consumer already reads from the new partition when the subscriber is told of it."""
        del group.consumer.__dict__["getone"]
        await group.share()
        return Found(REQUESTS, 0, 3, b"3")

    group.consumer.__dict__["getone"] = share_underway

    assert (await group.subscriber.get()).offset == 3
    assert group.earlier == []


async def test_brokers_that_do_not_answer_delay_a_takeover_and_do_not_shorten_it() -> None:
    group = Group(committed_at=5, young_from=2)
    await group.share()
    group.consumer.failures = [KafkaConnectionError(), KafkaConnectionError()]

    assert (await group.subscriber.get()).offset == 5
    assert group.earlier == [2, 3, 4]


@pytest.mark.parametrize("shared", [True, False], ids=["while taking over", "while reading"])
async def test_a_refusal_is_raised_without_the_librarys_words(shared: bool) -> None:
    group = Group(committed_at=0)
    if shared:
        await group.share()
    group.consumer.failures = [TopicAuthorizationFailedError({REQUESTS})]
    with pytest.raises(ConfigurationError) as caught:
        await group.subscriber.get()

    assert caught.value.code == "kafka_forbidden"
    assert REQUESTS not in str(caught.value)
