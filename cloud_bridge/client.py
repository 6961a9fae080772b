"""The gateway's side of the crossing: publishes what is cleared, gives back the answer, gives up in bounded time.

    send(crossing, clearance) ─▶ verify ─▶ seal ─▶ requests
    HttpResponse ◀─ open ◀─ its call's messages ◀─ routed by message id ◀─ responses
    aclose, failure ─▶ cancellation ─▶ control

Silence of ``silence_s`` means that the worker has died: before the answer's head the call may be tried elsewhere
(TargetError), after it the answer is broken (UpstreamError).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from cloud_bridge.clearance import Clearance, ClearanceVerifier
from cloud_bridge.crossing import Crossing, returned_headers
from cloud_bridge.messages import Header, ReplyTo, Schema, SealedCall, encode, message_id_of, read_header
from cloud_bridge.pending import DROPPED, PendingCall
from cloud_bridge.sealing import AnswerOpener, seal_cancellation, seal_request
from cloud_bridge.transport import CONTROL, RESPONSES, Consumer, Transport
from runtime.errors import ClearanceError, DeadlineExceededError, SealingError, TargetError
from runtime.http import HttpResponse

SILENCE_S = 2.0
_CANCEL_WITHIN_S = 1.0
_MAX_CANCELLATIONS = 4096

_log = structlog.get_logger()


class Bridge:
    """Sends cleared crossings to one recipient's worker pool.

    Args:
        verifier: for this recipient, used by this bridge alone.
        recipient_key, recipient_epoch: the pool's public key and its epoch.
        reply_key: this instance's own; answers are sealed to it.
        reply_partition, reply_epoch: where this instance's answers stand, and its lease's epoch.
        silence_s: seconds without a sign of the worker after which a call has failed.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        verifier: ClearanceVerifier,
        recipient_key: X25519PublicKey,
        recipient_epoch: int,
        reply_key: X25519PrivateKey,
        reply_partition: int,
        reply_epoch: int,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._transport = transport
        self._verifier = verifier
        self._recipient_key = recipient_key
        self._recipient_epoch = recipient_epoch
        self._reply_key = reply_key
        self._reply_to = ReplyTo(RESPONSES, reply_partition, reply_epoch, reply_key.public_key().public_bytes_raw())
        self._silence_s = silence_s
        self._calls: dict[bytes, PendingCall] = {}
        self._cancellations: asyncio.Queue[bytes] = asyncio.Queue(_MAX_CANCELLATIONS)
        self._main: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        return self._main is not None and not self._main.done()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Begin to listen for answers; needed before ``send``."""
        answers = await self._transport.follow(RESPONSES, [self._reply_to.partition])
        self._main = asyncio.create_task(self._run(answers), name="bridge")

    async def aclose(self) -> None:
        """Stop listening. Calls still open fail by silence; their callers should have been closed before."""
        if self._main is not None:
            self._main.cancel()
            await asyncio.gather(self._main, return_exceptions=True)

    async def send(self, crossing: Crossing, clearance: Clearance | None, deadline: float) -> HttpResponse:
        """Send a crossing and return its answer once its head has come. ``deadline``: ``time.monotonic()`` seconds.

        Closing the answer before its end stops the worker's call.

        Raises:
            ClearanceError: no valid clearance for exactly this; nothing was published. Or the worker refused it.
            TargetError: no answer began; another target may be tried, with a clearance of its own.
            DeadlineExceededError: the deadline passed.
            UpstreamError, SealingError: an answer came that cannot be passed on.
        """
        if time.monotonic() >= deadline:
            raise DeadlineExceededError("the deadline passed before the request crossed")
        if not self.alive:
            raise TargetError("the bridge is closed", code="bridge_closed")
        self._verifier.verify(clearance, crossing)
        if clearance is None:
            raise ClearanceError("there is no clearance", code="clearance_missing")
        call, message = self._seal(crossing, clearance, deadline)
        self._calls[call.message_id] = call
        try:
            accepted_by = min(deadline, time.monotonic() + self._silence_s)
            await self._transport.publish(crossing.topic, crossing.partition, message, deadline=accepted_by)
            head = await call.head()
        except BaseException:
            self._finish(call)
            raise
        headers = dict(returned_headers(dict(head.headers)))  # a worker's word is not taken for it
        return _answer(head.status, headers, call, self._finish)

    def _seal(self, crossing: Crossing, clearance: Clearance, deadline: float) -> tuple[PendingCall, bytes]:
        message_id = message_id_of(clearance)
        header = Header(Schema.INTL_REQUEST, message_id, crossing.deadline_us, self._recipient_epoch)
        sealed = seal_request(header, encode(SealedCall.of(crossing, clearance, self._reply_to)), self._recipient_key)
        expected = Header(Schema.INTL_ANSWER, message_id, crossing.deadline_us, self._reply_to.epoch)
        call = PendingCall(
            message_id,
            AnswerOpener(expected, self._reply_key, sealed.secret),
            seal_cancellation(header, sealed.secret),
            deadline=deadline,
            silence_s=self._silence_s,
            on_failure=self._finish,
        )
        return call, sealed.message

    def _finish(self, call: PendingCall) -> None:
        """Forget a call; one that has not ended is cancelled. Safe to call again."""
        call.close()
        if self._calls.pop(call.message_id, None) is None or call.ended:
            return
        try:
            self._cancellations.put_nowait(call.cancellation)
        except asyncio.QueueFull:
            DROPPED.labels("cancellation").inc()  # the worker stops at the deadline by itself

    async def _run(self, answers: Consumer) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send_cancellations())
                while True:
                    self._route((await answers.get()).value)
        except Exception as error:
            _log.error("the bridge stopped", error=type(error).__name__)
            raise
        finally:
            await answers.aclose()

    def _route(self, message: bytes) -> None:
        try:
            header = read_header(message, Schema.INTL_ANSWER)
        except SealingError as error:
            DROPPED.labels(error.code).inc()
            return
        if header.key_epoch != self._reply_to.epoch:
            DROPPED.labels("epoch").inc()
        elif (call := self._calls.get(header.message_id)) is None:
            DROPPED.labels("unknown").inc()
        else:
            call.deliver(message)

    async def _send_cancellations(self) -> None:
        while True:
            message = await self._cancellations.get()
            try:
                await self._transport.publish(CONTROL, 0, message, deadline=time.monotonic() + _CANCEL_WITHIN_S)
            except TargetError:
                DROPPED.labels("cancellation").inc()


def _answer(
    status: int, headers: dict[str, str], call: PendingCall, finish: Callable[[PendingCall], None]
) -> HttpResponse:
    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in call.chunks():
                yield chunk
        finally:
            finish(call)

    async def close() -> None:
        finish(call)

    return HttpResponse(status, headers, chunks(), close)
