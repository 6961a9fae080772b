"""The scene of the crossing over a real broker: gateway and workers under their own certificates."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Self

from cloud_bridge.clearance import ClearanceVerifier
from cloud_bridge.client import Bridge
from cloud_bridge.kafka import KafkaTransport
from cloud_bridge.providers.openai import OpenAIProvider
from cloud_bridge.transport import REQUEST_PARTITIONS, REQUESTS
from cloud_bridge.worker import Worker
from deploy.site import Site
from runtime.tls import TlsFiles
from tests.cloud_bridge.scene import BASE_URL, POOL_EPOCH, RECIPIENT, REPLY_EPOCH, RecordingProvider, Scene, crossing


def tls_of(site: Site, name: str) -> TlsFiles:
    files = site.files(name)
    return TlsFiles(files.identity, files.identity, files.ca, files.crl)


def transport_of(site: Site, name: str) -> KafkaTransport:
    return KafkaTransport(site.bootstrap(), tls_of(site, name))


class KafkaScene(Scene):
    """``async with`` opens the gateway's side and one worker; ``another_worker`` opens more, each knowing nothing yet.

    Args:
        silence_s: long by default, since a worker that has just come waits for its share of the partitions.
    """

    def __init__(
        self,
        site: Site,
        provider: RecordingProvider | None = None,
        *,
        silence_s: float = 15.0,
        reply_epoch: int = REPLY_EPOCH,
        workers: int = 1,
    ) -> None:
        super().__init__(provider)
        self.site = site
        self.silence_s = silence_s
        self.reply_epoch = reply_epoch
        self._workers = workers
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.gateway = await self._stack.enter_async_context(transport_of(self.site, "gateway-a"))
        self.bridge = Bridge(
            transport=self.gateway,
            verifier=ClearanceVerifier(self.authority.public_key, recipient=RECIPIENT),
            recipient_key=self.pool_key.public_key(),
            recipient_epoch=POOL_EPOCH,
            reply_key=self.reply_key,
            reply_partition=5,
            reply_epoch=self.reply_epoch,
            silence_s=self.silence_s,
        )
        await self._stack.enter_async_context(self.bridge)
        for _ in range(self._workers):
            self.worker = await self.another_worker(self.provider)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def another_worker(self, provider: RecordingProvider) -> Worker:
        """A worker as a new process would be: its verifier has seen nothing."""
        transport = await self._stack.enter_async_context(transport_of(self.site, "worker-a"))
        worker = Worker(
            transport=transport,
            partitions=range(REQUEST_PARTITIONS),
            keys={POOL_EPOCH: self.pool_key},
            verifier=ClearanceVerifier(self.authority.public_key, recipient=RECIPIENT),
            provider=OpenAIProvider(BASE_URL, "sk-provider-key"),
            sender=provider.send,
        )
        return await self._stack.enter_async_context(worker)

    async def publish(self, message: bytes, *, topic: str = REQUESTS, partition: int = 2) -> None:
        await self.gateway.publish(topic, partition, message, deadline=time.monotonic() + 10)

    async def goes_on(self, *, received: int) -> None:
        """A good request still passes, and what came before it in the partition has reached nobody else."""
        for partition in (2, 3):
            assert await self.answer_to(crossing(partition=partition)) == b'echo:{"model":"m"}'
        assert len(self.provider.received) == received + 2
