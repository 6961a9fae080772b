"""The cloud side: opens what crossed, checks its clearance, calls the provider, streams the sealed answer back.

    requests ─▶ commit ─▶ open ─▶ verify ─▶ prepare ─▶ provider
                                                          │ chunks
    responses ◀─ Head, Body…, End │ Fault ◀─ seal ◀───────┘      and a Beat each 500 ms

The offset is committed before the provider is called (a record whose commit fails is left alone), and nothing is ever
tried again: retries are the gateway's, which alone knows what its caller has seen. A message that does not open gets no
answer, since nobody is known to have sent it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from prometheus_client import Counter

from cloud_bridge.answer import AnswerStream
from cloud_bridge.clearance import ClearanceVerifier
from cloud_bridge.crossing import returned_headers
from cloud_bridge.earlier import EarlierMessages
from cloud_bridge.epochs import EpochWatch, OneProcess
from cloud_bridge.messages import Schema, SealedCall, decode_call, message_id_of, read_header
from cloud_bridge.providers.base import Provider
from cloud_bridge.sealing import OpenedRequest, check_cancellation, open_request
from cloud_bridge.transport import CONTROL, REQUESTS, Consumer, Record, Transport
from runtime.errors import ClearanceError, DeadlineExceededError, SealingError, TargetError, WatershedError
from runtime.http import HttpRequest, Sender
from runtime.ids import now_us
from runtime.telemetry import REGISTRY

BEAT_S = 0.5
CALLS_IN_FLIGHT = 64
_EARLY_CANCELLATIONS = 4096
_AGAIN_S = 1.0
_EPOCH = Schema.INTL_EPOCH.to_bytes(2, "big")

CALLS = Counter(
    "watershed_worker_calls_total", "Messages a cloud worker took, by outcome.", ["outcome"], registry=REGISTRY
)
_log = structlog.get_logger()


class Worker:
    """Serves one recipient's requests from the partitions it is given.

    Args:
        keys: the pool's private keys by epoch.
        verifier: this pool's; hand it on to a worker that replaces this one in the same process.
        sender: how the provider is reached: ``HttpClient.send``, or an in-process model for the stand-in.
        epochs: the pool's minimum key epoch; while it is not fresh the worker takes nothing (calls in flight go on).
        beat_s: seconds between signs of life of a call.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        partitions: Sequence[int],
        keys: Mapping[int, X25519PrivateKey],
        verifier: ClearanceVerifier,
        provider: Provider,
        sender: Sender,
        epochs: EpochWatch | None = None,
        calls_in_flight: int = CALLS_IN_FLIGHT,
        beat_s: float = BEAT_S,
        clock_us: Callable[[], int] = now_us,
    ) -> None:
        self._transport = transport
        self._partitions = partitions
        self._keys = keys
        self._verifier = verifier
        self._provider = provider
        self._sender = sender
        self._epochs = epochs or OneProcess()
        self._earlier = EarlierMessages(clock_us)
        self._slots = asyncio.Semaphore(calls_in_flight)
        self._beat_s = beat_s
        self._clock_us = clock_us
        self._calls: dict[bytes, tuple[asyncio.Task[None], bytes]] = {}  # message id → its task and secret
        self._cancelled_early: dict[bytes, bytes] = {}
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
        """Begin to take requests; what was published before is waiting."""
        control = await self._transport.follow(CONTROL, [0])
        self._main = asyncio.create_task(self._run(control), name="cloud worker")

    async def aclose(self) -> None:
        """Stop taking requests and break off the calls in flight; their gateways notice within the silence limit."""
        if self._main is not None:
            self._main.cancel()
            await asyncio.gather(self._main, return_exceptions=True)

    async def _run(self, control: Consumer) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._take_control(control))
                while True:
                    await self._epochs.fresh()
                    try:
                        await self._take_requests(tasks)
                    except TargetError as error:
                        _log.warning("the brokers give no requests", code=error.code)
                        await asyncio.sleep(_AGAIN_S)
        except Exception as error:
            _log.error("the cloud worker stopped", error=type(error).__name__)
            raise
        finally:
            await control.aclose()

    async def _take_requests(self, tasks: asyncio.TaskGroup) -> None:
        """Serve until the minimum epoch is no longer fresh; then leave the partitions to others."""
        requests = await self._transport.subscribe(REQUESTS, self._partitions, earlier=self._earlier.note)
        try:
            while True:
                await self._slots.acquire()
                record = await self._next(requests)
                if record is None:
                    self._slots.release()
                    return
                try:
                    await requests.commit(record)
                except TargetError as error:
                    CALLS.labels(error.code).inc()
                    self._slots.release()
                    continue
                tasks.create_task(self._serve(record)).add_done_callback(lambda _: self._slots.release())
        finally:
            await requests.aclose()

    async def _next(self, requests: Consumer) -> Record | None:
        """The next request, None once the worker must stop."""
        while (remaining_s := self._epochs.fresh_for_s()) is None or remaining_s > 0:
            try:
                async with asyncio.timeout(remaining_s):
                    return await requests.get()
            except TimeoutError:
                continue  # a notice may have come meanwhile
        _log.warning("the cloud worker takes no requests: it hears no minimum epoch")
        return None

    async def _take_control(self, control: Consumer) -> None:
        while True:
            message = (await control.get()).value
            try:
                if message[:2] == _EPOCH:
                    self._epochs.take(message)
                else:
                    self._take_cancellation(message)
            except SealingError as error:
                CALLS.labels(error.code).inc()

    def _take_cancellation(self, message: bytes) -> None:
        message_id = read_header(message, Schema.INTL_CANCEL).message_id
        call = self._calls.get(message_id)
        if call is not None:
            task, secret = call
            check_cancellation(message, secret)
            task.cancel()
            return
        # It may have overtaken its request; whether it is genuine can be told once that is here.
        if len(self._cancelled_early) >= _EARLY_CANCELLATIONS:
            del self._cancelled_early[next(iter(self._cancelled_early))]
        self._cancelled_early[message_id] = message

    async def _serve(self, record: Record) -> None:
        """Take one message to its end; whatever happens to it, the worker goes on."""
        try:
            outcome = await self._take(record)
        except asyncio.CancelledError:
            CALLS.labels("cancelled").inc()
            raise
        except WatershedError as error:
            outcome = error.code
        except Exception as error:
            # The text of an unknown error may quote the request: its type must do.
            outcome = "worker_error"
            _log.error("a call failed", error=type(error).__name__)
        CALLS.labels(outcome).inc()

    async def _take(self, record: Record) -> str:
        self._epochs.check(read_header(record.value, Schema.INTL_REQUEST).key_epoch)
        opened = open_request(record.value, self._keys)
        call = decode_call(opened.payload)
        answer = AnswerStream(self._transport, opened, call.reply_to)
        message_id = opened.header.message_id
        try:
            self._admit(record, opened, call)
        except (ClearanceError, DeadlineExceededError) as error:
            _log.warning("a message was refused", code=error.code, param=error.param)
            # A replay is not answered: its answer would fall into the one that the first message gets.
            if error.code != "clearance_used":
                await answer.fault(error)
            return error.code
        if self._was_cancelled(message_id, opened.secret):
            return "cancelled"
        task = asyncio.current_task()
        assert task is not None
        self._calls[message_id] = (task, opened.secret)
        beats = asyncio.create_task(answer.beat(self._beat_s))
        try:
            return await self._call_provider(opened, call, answer)
        finally:
            beats.cancel()
            del self._calls[message_id]

    def _admit(self, record: Record, opened: OpenedRequest, call: SealedCall) -> None:
        """Law 4 on this side: nothing goes to the provider unless it was cleared for here and now."""
        header = opened.header
        if self._clock_us() >= header.deadline_us:
            raise DeadlineExceededError("the deadline passed before the worker had the request")
        if header.message_id != message_id_of(call.clearance):
            raise ClearanceError("the message is not the clearance's", code="clearance_mismatch")
        self._earlier.check(header.message_id)
        crossing = call.crossing(topic=record.topic, partition=record.partition, deadline_us=header.deadline_us)
        self._verifier.verify(call.clearance, crossing)

    def _was_cancelled(self, message_id: bytes, secret: bytes) -> bool:
        message = self._cancelled_early.pop(message_id, None)
        if message is None:
            return False
        try:
            check_cancellation(message, secret)
        except SealingError:
            return False
        return True

    async def _call_provider(self, opened: OpenedRequest, call: SealedCall, answer: AnswerStream) -> str:
        remaining_s = (opened.header.deadline_us - self._clock_us()) / 1e6
        deadline = time.monotonic() + remaining_s
        try:
            async with asyncio.timeout(remaining_s):
                request = self._provider.prepare(HttpRequest(call.method, call.url, call.headers, call.body))
                response = await self._sender(request, deadline)
                try:
                    await answer.head(response.status, returned_headers(response.headers))
                    async for chunk in response.chunks:
                        await answer.body(chunk)
                finally:
                    await response.aclose()
        except Exception as error:
            fault = await answer.fault(error)
            _log.warning("a call was not finished", code=fault.code)
            return fault.code
        await answer.end()
        return "answered"
