"""On-prem capacity: sensitive requests first, general ones within their share, everyone until a deadline.

acquire ─▶ free slot? ─yes─▶ Slot
               └─no──▶ wait (sensitive queue before general queue) ─▶ Slot, or UnavailableError with Retry-After
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from runtime.errors import UnavailableError

MAX_WAITING = 4096
_SMOOTHING = 0.2


class Slot:
    """A place in the zone; ``release`` is safe to call twice."""

    __slots__ = ("_release",)

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        if self._release is not None:
            release, self._release = self._release, None
            release()


class Capacity:
    """``total`` requests in flight, of which general traffic may be ``general_share``, rounded down but at least one
    unless the share is 0.
    """

    def __init__(self, total: int, general_share: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._general_limit = max(int(total * general_share), 1) if general_share > 0 else 0
        self._clock = clock
        self._taken = 0
        self._general_taken = 0
        self._sensitive: deque[asyncio.Future[None]] = deque()
        self._general: deque[asyncio.Future[None]] = deque()
        self._service_s = 1.0

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def waiting(self) -> int:
        return len(self._sensitive) + len(self._general)

    async def acquire(self, *, general: bool, until: float) -> Slot:
        """A slot, waiting for one until ``until`` (monotonic seconds).

        Raises:
            UnavailableError: none came free in time, or too many wait already; says when to try again.
        """
        if self._free(general) and not self._sensitive and not (general and self._general):
            return self._take(general)
        if self.waiting >= MAX_WAITING or (general and self._general_limit == 0):
            raise self._full()
        queue = self._general if general else self._sensitive
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            async with asyncio.timeout(max(until - self._clock(), 0)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._give_back(general)  # the slot came while this waiter was leaving
            elif turn in queue:
                queue.remove(turn)
            if isinstance(error, TimeoutError):
                raise self._full() from None
            raise
        return self._slot(general)

    def _free(self, general: bool) -> bool:
        return self._taken < self._total and not (general and self._general_taken >= self._general_limit)

    def _take(self, general: bool) -> Slot:
        self._count(general, 1)
        return self._slot(general)

    def _slot(self, general: bool) -> Slot:
        started = self._clock()

        def release() -> None:
            self._service_s += _SMOOTHING * (self._clock() - started - self._service_s)
            self._give_back(general)

        return Slot(release)

    def _count(self, general: bool, change: int) -> None:
        self._taken += change
        if general:
            self._general_taken += change

    def _give_back(self, general: bool) -> None:
        self._count(general, -1)
        for queue, is_general in ((self._sensitive, False), (self._general, True)):
            while queue and self._free(is_general):
                turn = queue.popleft()
                if not turn.done():
                    self._count(is_general, 1)
                    turn.set_result(None)

    def _full(self) -> UnavailableError:
        retry_after_s = min(max(self._service_s * (self.waiting + 1) / self._total, 1.0), 60.0)
        return UnavailableError(
            "the on-prem zone is at capacity; the request may not go elsewhere",
            code="onprem_at_capacity",
            retry_after_s=retry_after_s,
        )
