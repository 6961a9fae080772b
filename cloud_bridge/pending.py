"""The gateway's end of one answer: sealed frames in, opened frames out, and a limit on silence."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from prometheus_client import Counter

from cloud_bridge.answer import error_of
from cloud_bridge.messages import Beat, Body, End, Fault, Frame, Head, decode_frame
from cloud_bridge.sealing import AnswerOpener
from runtime.errors import DeadlineExceededError, SealingError, TargetError, UpstreamError, WatershedError
from runtime.telemetry import REGISTRY

MAX_WAITING_BYTES = 32 * 1024 * 1024
_DOUBT = 0.1  # part of the silence limit kept for a second look

DROPPED = Counter(
    "watershed_bridge_dropped_total", "Messages that the bridge dropped, by cause.", ["cause"], registry=REGISTRY
)


class PendingCall:
    """One call that is being answered.

    Args:
        cancellation: the message that stops its worker.
        deadline: ``time.monotonic()`` seconds.
        on_failure: called once when silence or the deadline ends the call, also where nobody reads.
    """

    def __init__(
        self,
        message_id: bytes,
        opener: AnswerOpener,
        cancellation: bytes,
        *,
        deadline: float,
        silence_s: float,
        on_failure: Callable[[PendingCall], None],
    ) -> None:
        self.message_id = message_id
        self.cancellation = cancellation
        self.ended = False
        self._opener = opener
        self._deadline = deadline
        self._silence_s = silence_s
        self._on_failure = on_failure
        self._messages: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._failure: WatershedError | None = None
        self._has_head = False
        self._last_sign = time.monotonic()
        self._doubted_sign: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch()

    def deliver(self, message: bytes) -> None:
        """Take a message for this call; it is opened when it is read."""
        self._last_sign = time.monotonic()
        self._waiting_bytes += len(message)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self._fail(UpstreamError("the answer is not read as fast as it comes", code="reader_too_slow"))
        else:
            self._messages.append(message)
            self._arrived.set()

    async def head(self) -> Head:
        """Wait for the answer's status and headers.

        Raises:
            TargetError: silence, or the worker could not reach the provider: another target may be tried.
            ClearanceError, UpstreamError: the worker refused or failed.
            DeadlineExceededError: the deadline passed, here or there.
            SealingError: the message is not the answer to this call.
        """
        frame = await self._next()
        if isinstance(frame, Fault):
            raise error_of(frame)
        if not isinstance(frame, Head):
            raise SealingError("the answer does not begin with its head", code="seal_content")
        self._has_head = True
        return frame

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, once ``head`` has come.

        Raises:
            UpstreamError: ``answer_broken``: the answer has no end.
            DeadlineExceededError, SealingError: as for ``head``.
        """
        while True:
            frame = await self._next()
            if isinstance(frame, Body):
                yield frame.data
            elif isinstance(frame, End):
                return
            elif isinstance(frame, Fault):
                error = error_of(frame)
                raise _broken() if isinstance(error, TargetError) else error
            else:
                raise SealingError("the answer has two heads", code="seal_content")

    def close(self) -> None:
        """Stop watching. What has arrived can still be read."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _next(self) -> Frame:
        while True:
            while self._messages:
                message = self._messages.popleft()
                self._waiting_bytes -= len(message)
                frame = self._open(message)
                if frame is not None and not isinstance(frame, Beat):
                    return frame
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()

    def _open(self, message: bytes) -> Frame | None:
        opened = self._opener.open(message)
        if opened is None:
            DROPPED.labels("duplicate").inc()
            return None
        payload, end = opened
        frame = decode_frame(payload)
        if end != isinstance(frame, End | Fault):
            raise SealingError("the end mark and the chunk disagree", code="seal_content")
        self.ended = end
        return frame

    def _watch(self) -> None:
        """One timer a call, armed again for what is left: a chunk costs no timer of its own.

        It looks twice before it calls a worker silent: when this process was held up itself, the signs are in the queue.
        """
        now = time.monotonic()
        doubtful_at = self._last_sign + self._silence_s * (1 - _DOUBT)
        if now >= self._deadline:
            self._fail(DeadlineExceededError("the answer was not whole by the deadline"))
        elif now < doubtful_at:
            self._look_again(doubtful_at - now)
        elif self._doubted_sign != self._last_sign:
            self._doubted_sign = self._last_sign
            self._look_again(self._silence_s * _DOUBT)
        else:
            self._fail(_broken() if self._has_head else TargetError("the cloud worker is silent", code="bridge_silent"))

    def _look_again(self, after_s: float) -> None:
        remaining_s = self._deadline - time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(min(remaining_s, after_s), self._watch)

    def _fail(self, error: WatershedError) -> None:
        if self._failure is None:
            self._failure = error
            self._arrived.set()
            self._on_failure(self)


def _broken() -> UpstreamError:
    return UpstreamError("the answer broke off before its end", code="answer_broken")
