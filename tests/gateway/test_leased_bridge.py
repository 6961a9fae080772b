"""A gateway has a bridge for as long as it has a reply partition, and gets another when it loses one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_bridge.client import Bridge
from cloud_bridge.leases import ReplyLease
from cloud_bridge.tables import reply_partitions
from gateway.leased_bridge import LeasedBridge
from runtime.database import migrate, open_async_engine, sqlite_url
from runtime.errors import TargetError


class FakeBridge:
    """Runs until it is told to break."""

    def __init__(self, lease: ReplyLease) -> None:
        self.lease = lease
        self.alive = False
        self.closed = asyncio.Event()

    async def __aenter__(self) -> FakeBridge:
        self.alive = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.alive = False
        self.closed.set()

    async def send(self, crossing: Any, clearance: Any, deadline: float) -> tuple[int, int]:
        return self.lease.partition, self.lease.epoch


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    migrate(sqlite_url(tmp_path))
    opened = open_async_engine(sqlite_url(tmp_path))
    yield opened
    await opened.dispose()


@pytest.fixture
def made() -> asyncio.Queue[FakeBridge]:
    return asyncio.Queue()


@pytest.fixture
async def bridge(engine: AsyncEngine, made: asyncio.Queue[FakeBridge]) -> AsyncIterator[LeasedBridge]:
    def make(lease: ReplyLease) -> Bridge:
        fake = FakeBridge(lease)
        made.put_nowait(fake)
        return cast(Bridge, fake)

    leased = LeasedBridge(engine, make)
    running = asyncio.create_task(leased.run())
    yield leased
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def next_bridge(made: asyncio.Queue[FakeBridge]) -> FakeBridge:
    async with asyncio.timeout(10):
        found = await made.get()
        while not found.alive:
            await asyncio.sleep(0)
    return found


async def send(bridge: LeasedBridge) -> Any:
    return await bridge.send(cast(Any, None), None, 0.0)


async def test_without_a_partition_nothing_is_sent(engine: AsyncEngine) -> None:
    idle = LeasedBridge(engine, lambda lease: cast(Bridge, FakeBridge(lease)))
    with pytest.raises(TargetError) as caught:
        await send(idle)
    assert caught.value.code == "bridge_unleased"


async def test_what_is_sent_goes_over_the_leased_partition(
    bridge: LeasedBridge, made: asyncio.Queue[FakeBridge]
) -> None:
    first = await next_bridge(made)
    assert await send(bridge) == (first.lease.partition, first.lease.epoch)


async def test_a_bridge_that_broke_is_replaced_with_a_lease_of_its_own(
    bridge: LeasedBridge, made: asyncio.Queue[FakeBridge]
) -> None:
    first = await next_bridge(made)
    first.alive = False
    second = await next_bridge(made)
    assert first.closed.is_set()
    assert not first.lease.held, "its partition was given back"
    assert await send(bridge) == (second.lease.partition, second.lease.epoch)


async def test_the_partition_is_given_back_at_the_end(
    engine: AsyncEngine, bridge: LeasedBridge, made: asyncio.Queue[FakeBridge]
) -> None:
    first = await next_bridge(made)
    first.alive = False
    async with asyncio.timeout(10):
        await first.closed.wait()
        await next_bridge(made)
    async with engine.connect() as connection:
        rows = (await connection.execute(sa.select(reply_partitions).where(reply_partitions.c.epoch > 0))).all()
    running = [row for row in rows if row.lease_until_us > max(r.lease_until_us for r in rows) - 1_000_000]
    assert len(running) == 1, "one gateway, one lease"
