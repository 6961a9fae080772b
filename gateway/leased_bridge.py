"""A bridge for as long as there is a reply partition for it: a lost lease, or a bridge that broke, is replaced.

lease a partition ─▶ Bridge(partition, epoch) ─▶ until the lease is lost or the bridge stops ─▶ again
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_bridge.clearance import Clearance
from cloud_bridge.client import Bridge
from cloud_bridge.crossing import Crossing
from cloud_bridge.leases import ReplyLease
from runtime.errors import TargetError, UnavailableError, WatershedError
from runtime.http import HttpResponse

RETRY_S = 1.0
_LOOK_EVERY_S = 0.25

log = structlog.get_logger()


class LeasedBridge:
    """Sends over the bridge in force; ``run`` keeps one there.

    Args:
        make: a bridge, not yet started, that reads its answers from the lease's partition.
    """

    def __init__(self, engine: AsyncEngine, make: Callable[[ReplyLease], Bridge]) -> None:
        self._engine = engine
        self._make = make
        self._bridge: Bridge | None = None

    async def send(self, crossing: Crossing, clearance: Clearance | None, deadline: float) -> HttpResponse:
        """As ``Bridge.send``. Raises TargetError (``bridge_unleased``) while there is none."""
        if self._bridge is None:
            raise TargetError("the gateway has no reply partition", code="bridge_unleased", retry_after_s=RETRY_S)
        return await self._bridge.send(crossing, clearance, deadline)

    async def run(self) -> None:
        """Keep a bridge until cancelled."""
        while True:
            try:
                await self._hold()
            except WatershedError as error:
                log.warning("the gateway is without a reply partition", code=error.code)
            await asyncio.sleep(RETRY_S)

    async def _hold(self) -> None:
        """One lease, from its claim until it or its bridge ends."""
        lease = await ReplyLease.acquire(self._engine)
        try:
            async with self._make(lease) as bridge:
                self._bridge = bridge
                log.info("reply partition leased", partition=lease.partition, epoch=lease.epoch)
                keeping = asyncio.create_task(lease.keep())
                stopping = asyncio.create_task(_until_stopped(bridge))
                try:
                    await asyncio.wait({keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    self._bridge = None
                    keeping.cancel()
                    stopping.cancel()
                    await asyncio.gather(keeping, stopping, return_exceptions=True)
        finally:
            await _release(lease)


async def _until_stopped(bridge: Bridge) -> None:
    while bridge.alive:  # noqa: ASYNC110 - it has no event for it
        await asyncio.sleep(_LOOK_EVERY_S)


async def _release(lease: ReplyLease) -> None:
    try:
        await lease.release()
    except UnavailableError as error:
        log.warning("a reply partition was not given back", code=error.code)  # the lease ends by itself
