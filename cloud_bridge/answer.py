"""The worker's end of an answer: frames sealed in order and published to the gateway that asked."""

from __future__ import annotations

import asyncio
import time

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from cloud_bridge.messages import MAX_CHUNK_BYTES, Beat, Body, End, Fault, Frame, Head, Header, ReplyTo, Schema, encode
from cloud_bridge.sealing import AnswerSealer, OpenedRequest
from cloud_bridge.transport import RESPONSE_PARTITIONS, RESPONSES, Transport
from runtime.errors import (
    ClearanceError,
    DeadlineExceededError,
    SealingError,
    TargetError,
    UpstreamError,
    WatershedError,
)
from runtime.http import Headers

PUBLISH_S = 2.0  # a gateway that takes nothing for so long has gone


class AnswerStream:
    """Sends the frames of one answer.

    Raises:
        SealingError: the request names no place where answers go.
    """

    def __init__(self, transport: Transport, request: OpenedRequest, reply_to: ReplyTo) -> None:
        if (
            reply_to.topic != RESPONSES
            or not 0 <= reply_to.partition < RESPONSE_PARTITIONS
            or len(reply_to.public_key) != 32
        ):
            raise SealingError("the request names no place for its answer", code="seal_content")
        self._transport = transport
        self._reply_to = reply_to
        header = Header(Schema.INTL_ANSWER, request.header.message_id, request.header.deadline_us, reply_to.epoch)
        self._sealer = AnswerSealer(header, X25519PublicKey.from_public_bytes(reply_to.public_key), request.secret)
        self._ended = False
        # Beats come from a task of their own; chunks are published in the order of their numbers.
        self._order = asyncio.Lock()

    async def head(self, status: int, headers: Headers) -> None:
        await self._send(Head(status, headers))

    async def body(self, data: bytes) -> None:
        if len(data) <= MAX_CHUNK_BYTES:
            await self._send(Body(data))
            return
        for start in range(0, len(data), MAX_CHUNK_BYTES):
            await self._send(Body(data[start : start + MAX_CHUNK_BYTES]))

    async def end(self) -> None:
        await self._send(End(), end=True)

    async def fault(self, error: Exception) -> Fault:
        """End the answer with the fault that stands for ``error``."""
        fault = fault_of(error)
        await self._send(fault, end=True)
        return fault

    async def beat(self, every_s: float) -> None:
        """Show life until cancelled, or until nobody takes it."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self._send(Beat())
            except TargetError:
                return

    async def _send(self, frame: Frame, *, end: bool = False) -> None:
        buffer = encode(frame)
        async with self._order:
            if self._ended:
                return  # a beat that waited while the end was sent
            self._ended = end
            message = self._sealer.seal(buffer, end=end)
            await self._transport.publish(
                self._reply_to.topic, self._reply_to.partition, message, deadline=time.monotonic() + PUBLISH_S
            )


_KINDS: tuple[tuple[type[WatershedError], str], ...] = (
    (ClearanceError, "clearance"),
    (DeadlineExceededError, "deadline"),
    (TargetError, "target"),
    (UpstreamError, "upstream"),
)


def fault_of(error: Exception) -> Fault:
    """The fault that stands for an error: its kind and code, never its text."""
    for cls, kind in _KINDS:
        if isinstance(error, cls):
            return Fault(kind, error.code, error.retry_after_s)
    if isinstance(error, TimeoutError):
        return Fault("deadline", DeadlineExceededError.default_code)
    return Fault("upstream", "worker_error")


def error_of(fault: Fault) -> WatershedError:
    """The error that a fault stands for, with a text of our own."""
    for cls, kind in _KINDS:
        if fault.kind == kind:
            return cls("the cloud worker could not finish the call", code=fault.code, retry_after_s=fault.retry_after_s)
    return UpstreamError("the cloud worker could not finish the call")
