"""Kafka in the place of the in-process transport: mutual TLS 1.3, explicit partitions, every record replicated.

    publish ───▶ idempotent producer, acks=all, no linger ───▶ brokers
    subscribe ◀─ consumer group, offsets committed by hand ◀──┤      kafka_consumers.py
    follow ◀──── assigned partitions, from their end ◀────────┘

Imported only where a stack is meant: aiokafka comes with an extra.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from cloud_bridge.kafka_consumers import KafkaFollower, KafkaSubscriber
from cloud_bridge.kafka_errors import refusal, too_large
from cloud_bridge.transport import Consumer, Earlier
from runtime.errors import ConfigurationError, TargetError
from runtime.tls import TlsFiles, client_context

RECORD_OVERHEAD_BYTES = 4096
MAX_MESSAGE_BYTES = 16 * 1024 * 1024 - RECORD_OVERHEAD_BYTES
"""With what Kafka puts around it, no more than ``max.message.bytes`` of the requests' topic."""

GROUP = "watershed.workers"
START_S = 10.0
_STOP_S = 3.0
_IDENTITY_CHECK_S = 60.0

_log = structlog.get_logger()


class KafkaTransport:
    """A ``Transport`` over Kafka; ``async with`` opens and closes it. Consumers are closed by their owners before it.

    Args:
        servers: ``host:port`` of brokers, by commas.
        files: this process's identity and the brokers' CA; read again when they are replaced.
    """

    def __init__(self, servers: str, files: TlsFiles) -> None:
        """Raises ConfigurationError for files that are missing or do not belong together."""
        self._servers = servers
        self._files = files
        self._tls = client_context(files)
        self._producer: Any = None
        self._renewal: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Connect to the brokers.

        Raises:
            TargetError: no broker lets us in within ``START_S``.
        """
        self._producer = AIOKafkaProducer(
            **self._settings(),
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_request_size=MAX_MESSAGE_BYTES + RECORD_OVERHEAD_BYTES,
        )
        try:
            async with asyncio.timeout(START_S):
                await self._producer.start()
        except (KafkaError, TimeoutError) as error:
            await self._stop_producer()
            raise refusal(error) from None
        self._renewal = asyncio.create_task(self._renew_identity(), name="kafka identity")

    async def aclose(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        if self._producer is not None:
            await self._stop_producer()

    async def publish(self, topic: str, partition: int, value: bytes, *, deadline: float) -> int:
        """See ``Transport.publish``. Where it raises TargetError, the message may still arrive: its own deadline and a
        cancellation end it.

        Raises:
            TargetError: ``bridge_full`` (no broker took it in time), ``bridge_unavailable``.
            PayloadTooLargeError: more than ``MAX_MESSAGE_BYTES``, or than the topic takes.
            ConfigurationError: no ACL allows it, or there is no such partition.
        """
        if len(value) > MAX_MESSAGE_BYTES:
            raise too_large()
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                if partition not in await self._producer.partitions_for(topic):
                    raise ConfigurationError(f"the topic {topic} has no such partition", code="kafka_partition")
                sent = await self._producer.send(topic, value, partition=partition)
                offset: int = (await sent).offset
                return offset
        except TimeoutError:
            raise TargetError("the brokers took no message", code="bridge_full", retry_after_s=1.0) from None
        except KafkaError as error:
            raise refusal(error) from None

    async def subscribe(self, topic: str, partitions: Sequence[int], *, earlier: Earlier) -> Consumer:
        """See ``Transport.subscribe``: the group divides all partitions of the topic among its members.

        Raises:
            ConfigurationError: ``partitions`` are not those of the topic, or no ACL allows it.
            TargetError: the brokers do not answer.
        """
        if await self._partitions_of(topic) != frozenset(partitions):
            raise ConfigurationError(
                f"the topic {topic} has other partitions than those asked for", code="kafka_partition"
            )
        consumer = AIOKafkaConsumer(
            **self._settings(),
            group_id=GROUP,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=3000,
            heartbeat_interval_ms=500,
        )
        await self._start(consumer)
        return KafkaSubscriber(consumer, topic, earlier)

    async def follow(self, topic: str, partitions: Sequence[int]) -> Consumer:
        """See ``Transport.follow``: when it returns, the position stands at the end of each partition.

        Raises:
            ConfigurationError: the topic has no such partition, or no ACL allows it.
            TargetError: the brokers do not answer.
        """
        # A consumer that may not describe its topic says nothing and waits for ever: so ask first.
        if not frozenset(partitions) <= await self._partitions_of(topic):
            raise ConfigurationError(f"the topic {topic} has no such partition", code="kafka_partition")
        consumer = AIOKafkaConsumer(**self._settings(), auto_offset_reset="latest", enable_auto_commit=False)
        await self._start(consumer)
        places = [TopicPartition(topic, number) for number in partitions]
        consumer.assign(places)
        try:
            if not await consumer.seek_to_end(*places):
                raise TargetError("the brokers do not tell where the topic ends", code="bridge_unavailable")
        except KafkaError as error:
            await consumer.stop()
            raise refusal(error) from None
        except BaseException:
            await consumer.stop()
            raise
        return KafkaFollower(consumer)

    async def _partitions_of(self, topic: str) -> frozenset[int]:
        try:
            async with asyncio.timeout(START_S):
                return frozenset(await self._producer.partitions_for(topic))
        except (KafkaError, TimeoutError) as error:
            raise refusal(error) from None

    async def _start(self, consumer: Any) -> None:
        try:
            async with asyncio.timeout(START_S):
                await consumer.start()
        except BaseException as error:
            await consumer.stop()
            if isinstance(error, KafkaError | TimeoutError):
                raise refusal(error) from None
            raise

    async def _stop_producer(self) -> None:
        try:
            async with asyncio.timeout(_STOP_S):
                await self._producer.stop()
        except (KafkaError, TimeoutError):
            _log.warning("the producer was not closed in time")

    def _settings(self) -> dict[str, Any]:
        """Common to producer and consumers: a broker that is lost is noticed, and its successor found, in seconds."""
        return {
            "bootstrap_servers": self._servers,
            "client_id": "watershed",
            "security_protocol": "SSL",
            "ssl_context": self._tls,
            "request_timeout_ms": 3000,
            "retry_backoff_ms": 50,
            "metadata_max_age_ms": 2000,
        }

    async def _renew_identity(self) -> None:
        """Certificates live for a day and are replaced in place: new connections show the new one.

        aiokafka keeps its context, so the files are loaded into that one.
        """
        loaded = await asyncio.to_thread(self._files.stamp)
        while True:
            await asyncio.sleep(_IDENTITY_CHECK_S)
            try:
                stamp = await asyncio.to_thread(self._files.stamp)
                if stamp != loaded:
                    await asyncio.to_thread(self._load)
                    loaded = stamp
            except OSError as error:  # ssl.SSLError is one: in the midst of a renewal, say
                _log.warning("renewed TLS files not taken up", cause=type(error).__name__)

    def _load(self) -> None:
        self._tls.load_cert_chain(self._files.certificate, self._files.key)
        self._tls.load_verify_locations(self._files.crl)
