"""A whole crossing in one process, with a provider that records what it received: the oracle of these tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cloud_bridge.clearance import Clearance, ClearanceAuthority, ClearanceVerifier
from cloud_bridge.client import Bridge
from cloud_bridge.crossing import Crossing, new_traceparent
from cloud_bridge.messages import Header, ReplyTo, Schema, SealedCall, encode, message_id_of
from cloud_bridge.providers.openai import OpenAIProvider
from cloud_bridge.sealing import SealedRequest, seal_request
from cloud_bridge.transport import REQUESTS, RESPONSES, InProcessTransport
from cloud_bridge.worker import Worker
from runtime.http import HttpRequest, HttpResponse
from runtime.ids import new_id, now_us

RECIPIENT = "provider.example"
BASE_URL = "https://provider.example/v1"
POOL_EPOCH = 3
REPLY_EPOCH = 11
RECEIPT = "receipt"

Answer = Callable[[HttpRequest], AsyncIterator[bytes]]


def crossing(**changes: Any) -> Crossing:
    """A crossing that may be cleared; ``url``, ``headers``, ``body`` and ``method`` change its request."""
    request = HttpRequest(
        changes.pop("method", "POST"),
        changes.pop("url", f"{BASE_URL}/chat/completions"),
        changes.pop("headers", (("content-type", "application/json"), ("traceparent", new_traceparent()))),
        changes.pop("body", b'{"model":"m"}'),
    )
    fields: dict[str, Any] = {
        "request_id": new_id("req"), "decision_id": new_id("dec"), "policy_version": "unsigned:3f", "tenant": "default",
        "recipient": RECIPIENT, "attempt": 1, "request": request, "stream": False, "topic": REQUESTS, "partition": 2,
        "deadline_us": now_us() + 60_000_000,
    }  # fmt: skip
    return Crossing(**(fields | changes))


async def echo(request: HttpRequest) -> AsyncIterator[bytes]:
    yield b"echo:"
    yield request.body


@dataclass
class RecordingProvider:
    """An in-process sender. ``closed`` counts answers whose work was stopped or came to its end."""

    answer: Answer = echo
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    before: Callable[[HttpRequest], Awaitable[None]] | None = None
    received: list[HttpRequest] = field(default_factory=list)
    closed: list[HttpRequest] = field(default_factory=list)

    async def send(self, request: HttpRequest, deadline: float) -> HttpResponse:
        self.received.append(request)
        if self.before is not None:
            await self.before(request)

        async def close() -> None:
            self.closed.append(request)

        return HttpResponse(self.status, self.headers, self.answer(request), close)


class WatchedTransport(InProcessTransport):
    """Keeps every byte that a broker would have seen; ``tamper`` may change, drop or add messages underway."""

    def __init__(self, capacity: int = 4096) -> None:
        super().__init__(capacity=capacity)
        self.carried: list[tuple[str, int, bytes]] = []
        self.tamper: Callable[[str, bytes], list[bytes]] = lambda _topic, value: [value]

    async def publish(self, topic: str, partition: int, value: bytes, *, deadline: float) -> int:
        offset = -1
        for message in self.tamper(topic, value):
            self.carried.append((topic, partition, message))
            offset = await super().publish(topic, partition, message, deadline=deadline)
        return offset

    def values(self, topic: str) -> list[bytes]:
        return [value for carried_topic, _, value in self.carried if carried_topic == topic]


async def allow(_crossing: Crossing, _receipt: Any) -> None:
    """A recheck that finds nothing wrong."""


class Scene:
    """Authority, bridge, transport, worker and provider; ``async with`` starts the bridge and the worker."""

    def __init__(
        self, provider: RecordingProvider | None = None, *, silence_s: float = 2.0, beat_s: float = 0.5
    ) -> None:
        self.provider = provider or RecordingProvider()
        self.transport = WatchedTransport()
        self.pool_key = X25519PrivateKey.generate()
        self.reply_key = X25519PrivateKey.generate()
        self.authority = ClearanceAuthority(
            key=Ed25519PrivateKey.generate(), recheck=allow, receipt_holds=lambda r: r == RECEIPT, rate_per_s=1e6
        )
        self.worker_verifier = ClearanceVerifier(self.authority.public_key, recipient=RECIPIENT)
        self.beat_s = beat_s
        self.worker = self.new_worker()
        self.bridge = Bridge(
            transport=self.transport,
            verifier=ClearanceVerifier(self.authority.public_key, recipient=RECIPIENT),
            recipient_key=self.pool_key.public_key(),
            recipient_epoch=POOL_EPOCH,
            reply_key=self.reply_key,
            reply_partition=5,
            reply_epoch=REPLY_EPOCH,
            silence_s=silence_s,
        )

    def new_worker(self, calls_in_flight: int = 64) -> Worker:
        return Worker(
            transport=self.transport,
            partitions=range(4),
            keys={POOL_EPOCH: self.pool_key},
            verifier=self.worker_verifier,
            provider=OpenAIProvider(BASE_URL, "sk-provider-key"),
            sender=self.provider.send,
            calls_in_flight=calls_in_flight,
            beat_s=self.beat_s,
        )

    async def __aenter__(self) -> Self:
        await self.bridge.start()
        await self.worker.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.worker.aclose()
        await self.bridge.aclose()

    async def clear(self, what: Crossing) -> Clearance:
        return await self.authority.clear(what, RECEIPT)

    async def ask(self, what: Crossing, within_s: float = 30) -> HttpResponse:
        return await self.bridge.send(what, await self.clear(what), time.monotonic() + within_s)

    async def answer_to(self, what: Crossing) -> bytes:
        return await (await self.ask(what)).body(max_bytes=1 << 26)

    def seal(self, what: Crossing, clearance: Clearance, *, epoch: int = POOL_EPOCH, **reply: Any) -> SealedRequest:
        """A message as a gateway without any checks of its own would make it."""
        reply_to = ReplyTo(RESPONSES, 5, REPLY_EPOCH, self.reply_key.public_key().public_bytes_raw())
        reply_to = msgspec.structs.replace(reply_to, **reply)
        header = Header(Schema.INTL_REQUEST, message_id_of(clearance), what.deadline_us, epoch)
        return seal_request(header, encode(SealedCall.of(what, clearance, reply_to)), self.pool_key.public_key())

    async def publish(self, message: bytes, *, topic: str = REQUESTS, partition: int = 2) -> None:
        await self.transport.publish(topic, partition, message, deadline=time.monotonic() + 5)


async def until(condition: Callable[[], bool], within_s: float = 10) -> None:
    """Wait for a condition; fails where it does not come."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)
