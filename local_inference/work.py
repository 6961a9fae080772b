"""A request's work in a task of its own, so that whoever holds the answer can stop it from any other task.

produce(put) ──pieces──▶ bounded queue ──▶ async for piece in work
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from local_inference.answer import Piece
from runtime.errors import UnavailableError, WatershedError

BUFFERED_PIECES = 64

Put = Callable[[Piece | None], Awaitable[None]]
"""Waits while the queue is full. None, the last thing put, says that the answer is whole."""


class Work:
    """Runs ``produce`` at once; a reader that is slower than it holds it up. Owned by whoever made it: ``aclose`` it."""

    def __init__(self, produce: Callable[[Put], Awaitable[None]]) -> None:
        self._queue: asyncio.Queue[Piece | WatershedError | None] = asyncio.Queue(BUFFERED_PIECES)
        self._task = asyncio.create_task(self._run(produce))

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self._pieces()

    async def first(self) -> Piece:
        """The first piece, which then is not iterated again.

        Raises:
            WatershedError: what the work failed with.
        """
        return await anext(self._pieces())

    async def aclose(self) -> None:
        """Stop the work and wait until it has stopped. Safe to call twice, and from any task."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _pieces(self) -> AsyncIterator[Piece]:
        while (item := await self._queue.get()) is not None:
            if isinstance(item, WatershedError):
                raise item
            yield item

    async def _run(self, produce: Callable[[Put], Awaitable[None]]) -> None:
        try:
            await produce(self._queue.put)
        except WatershedError as error:
            self._fail(error)
        except asyncio.CancelledError:
            self._fail(UnavailableError("the answer was stopped", code="stopped"))
            raise
        except Exception as error:
            # The exception's own text may quote the request: its type alone is told.
            structlog.get_logger().error("the engine failed", error=type(error).__name__)
            self._fail(WatershedError("the engine failed", code="engine_failed"))

    def _fail(self, error: WatershedError) -> None:
        if self._queue.full():  # nobody may be reading any more, so this must not wait; the answer is broken anyway
            self._queue.get_nowait()
        self._queue.put_nowait(error)
