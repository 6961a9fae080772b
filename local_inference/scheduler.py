"""Who may use the engine next: a bounded number at a time, sensitive requests before general ones.

    slot(priority, deadline) ──▶ waiting: sensitive │ general ──▶ a slot, for as long as the answer takes

General traffic is what could have crossed (docs/architecture.md, "Zones and failover"). It takes at most its share of the
slots and of the places in the queue, and at least one of each unless the share is 0; with a single slot it takes turns
behind sensitive requests.
"""

from __future__ import annotations

import asyncio
import enum
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runtime.errors import UnavailableError


class Priority(enum.Enum):
    SENSITIVE = "sensitive"
    GENERAL = "general"


UNMEASURED_SERVICE_S = 5.0
"""Taken for one answer's time until the first one has been measured."""

_SMOOTHING = 0.2  # weight of the newest answer in the mean service time


class Scheduler:
    """Slots of one engine.

    Args:
        concurrency: answers under way at a time.
        queue_limit: requests that may wait; another is refused at once.
        general_share: part of both that general traffic may take, 0 … 1.
    """

    def __init__(self, concurrency: int, *, queue_limit: int = 64, general_share: float = 0.5) -> None:
        self._concurrency = concurrency
        general = max(1, math.floor(concurrency * general_share)) if general_share > 0 else 0
        waiting_general = max(1, math.floor(queue_limit * general_share)) if general_share > 0 else 0
        self._slots = {Priority.SENSITIVE: concurrency, Priority.GENERAL: general}
        self._places = {Priority.SENSITIVE: queue_limit, Priority.GENERAL: waiting_general}
        self._running = dict.fromkeys(Priority, 0)
        self._waiting: dict[Priority, deque[asyncio.Future[None]]] = {priority: deque() for priority in Priority}
        self._service_s = UNMEASURED_SERVICE_S
        self._measured = False

    @property
    def running(self) -> int:
        return sum(self._running.values())

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def retry_after_s(self) -> float:
        """When a place is likely to be free: the work ahead over the measured throughput, 1 s at least."""
        return max(1.0, (self.running + self.waiting) * self._service_s / self._concurrency)

    @asynccontextmanager
    async def slot(self, priority: Priority, deadline: float) -> AsyncIterator[None]:
        """Wait for a slot and hold it. ``deadline`` is in ``time.monotonic()`` seconds.

        Raises:
            UnavailableError: the queue is full, or no slot came free by ``deadline``; with ``retry_after_s``.
        """
        await self._enter(priority, deadline)
        began = time.monotonic()
        try:
            yield
        finally:
            self._measure(time.monotonic() - began)
            self._running[priority] -= 1
            self._admit()

    async def _enter(self, priority: Priority, deadline: float) -> None:
        queue = self._waiting[priority]
        if not self._can_run(priority) and (
            self.waiting >= self._places[Priority.SENSITIVE] or len(queue) >= self._places[priority]
        ):
            raise self._busy("the node's queue is full", "queue_full")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._admit()
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # the slot was given in the same moment: hand it on
                self._running[priority] -= 1
                self._admit()
            elif turn in queue:
                queue.remove(turn)
            if isinstance(error, TimeoutError):
                raise self._busy("no slot came free by the deadline", "queue_timeout") from None
            raise

    def _can_run(self, priority: Priority) -> bool:
        return self.running < self._concurrency and self._running[priority] < self._slots[priority]

    def _admit(self) -> None:
        for priority in Priority:  # in order: sensitive first
            queue = self._waiting[priority]
            while queue and self._can_run(priority):
                turn = queue.popleft()
                if not turn.cancelled():  # its waiter has not run yet to take it out
                    self._running[priority] += 1
                    turn.set_result(None)

    def _measure(self, service_s: float) -> None:
        weight = _SMOOTHING if self._measured else 1.0
        self._service_s += weight * (service_s - self._service_s)
        self._measured = True

    def _busy(self, message: str, code: str) -> UnavailableError:
        return UnavailableError(message, code=code, retry_after_s=round(self.retry_after_s, 1))
