"""Reply partitions are leased: one holder at a time, by the database's clock, with an epoch that only grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_bridge import leases
from cloud_bridge.leases import ReplyLease
from cloud_bridge.tables import database_now_us, reply_partitions
from cloud_bridge.transport import RESPONSE_PARTITIONS
from deploy import topology
from deploy.native import packages
from deploy.native.drivers import DRIVERS
from deploy.native.supervisor import Supervisor, open_stack
from deploy.topology import Kind
from runtime.database import migrate, open_async_engine, sqlite_url
from runtime.errors import UnavailableError
from runtime.ids import now_us


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    await asyncio.to_thread(migrate, sqlite_url(tmp_path))
    engine = open_async_engine(sqlite_url(tmp_path))
    yield engine
    await engine.dispose()


async def end(engine: AsyncEngine, lease: ReplyLease) -> None:
    """Let a lease run out, as if its process had been held up."""
    async with engine.begin() as connection:
        await connection.execute(
            sa.update(reply_partitions).where(reply_partitions.c.number == lease.partition).values(lease_until_us=1)
        )


async def leave_free(engine: AsyncEngine, *numbers: int) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            sa.update(reply_partitions)
            .where(reply_partitions.c.number.not_in(numbers))
            .values(lease_until_us=now_us() + 3_600_000_000)
        )


async def test_there_is_a_lease_for_each_partition_of_the_topic(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        numbers = (await connection.execute(sa.select(reply_partitions.c.number))).scalars().all()

    assert sorted(numbers) == list(range(RESPONSE_PARTITIONS))


async def test_processes_that_start_together_get_partitions_of_their_own(engine: AsyncEngine) -> None:
    held = await asyncio.gather(*(ReplyLease.acquire(engine) for _ in range(8)))

    assert len({lease.partition for lease in held}) == 8
    assert all(lease.held and lease.epoch == 1 for lease in held)


async def test_one_free_partition_has_one_winner(engine: AsyncEngine) -> None:
    await leave_free(engine, 7)

    outcomes = await asyncio.gather(*(ReplyLease.acquire(engine) for _ in range(6)), return_exceptions=True)

    won = [outcome for outcome in outcomes if isinstance(outcome, ReplyLease)]
    lost = [outcome.code for outcome in outcomes if isinstance(outcome, UnavailableError)]
    assert [lease.partition for lease in won] == [7]
    assert lost == ["reply_partitions_taken"] * 5


async def test_a_partition_whose_lease_ran_out_goes_to_another_under_a_higher_epoch(engine: AsyncEngine) -> None:
    await leave_free(engine, 3)
    first = await ReplyLease.acquire(engine)
    await end(engine, first)
    second = await ReplyLease.acquire(engine)

    assert (second.partition, second.epoch) == (first.partition, first.epoch + 1)
    with pytest.raises(UnavailableError) as caught:
        await first.renew()
    assert caught.value.code == "reply_lease_lost"
    assert not first.held
    await second.renew()


async def test_a_late_holder_neither_renews_nor_releases_what_ran_out(engine: AsyncEngine) -> None:
    await leave_free(engine, 3)
    first = await ReplyLease.acquire(engine)
    await end(engine, first)
    with pytest.raises(UnavailableError):
        await first.renew()
    second = await ReplyLease.acquire(engine)
    await first.release()

    with pytest.raises(UnavailableError):
        await ReplyLease.acquire(engine)
    assert second.held


async def test_a_released_partition_is_free_at_once_and_its_epoch_still_grows(engine: AsyncEngine) -> None:
    await leave_free(engine, 3)
    first = await ReplyLease.acquire(engine)
    await first.release()
    assert not first.held

    async with asyncio.timeout(5):
        while True:
            try:
                second = await ReplyLease.acquire(engine)
                break
            except UnavailableError:  # SQLite's clock counts milliseconds
                continue
    assert (second.partition, second.epoch) == (3, 2)


async def test_renewing_moves_the_end_of_the_lease(engine: AsyncEngine) -> None:
    lease = await ReplyLease.acquire(engine)
    row = sa.select(reply_partitions.c.lease_until_us).where(reply_partitions.c.number == lease.partition)
    async with engine.begin() as connection:
        await connection.execute(
            sa.update(reply_partitions)
            .where(reply_partitions.c.number == lease.partition)
            .values(lease_until_us=now_us() + 1_000_000)
        )
    await lease.renew()

    async with engine.connect() as connection:
        until = (await connection.execute(row)).scalar_one()
    assert until > now_us() + (leases.LEASE_S - 5) * 1e6


async def test_keeping_a_lease_ends_when_it_is_lost(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 0.3)
    lease = await ReplyLease.acquire(engine)
    keeping = asyncio.create_task(lease.keep())
    await end(engine, lease)

    with pytest.raises(UnavailableError) as caught:
        await asyncio.wait_for(keeping, 10)
    assert caught.value.code == "reply_lease_lost"


async def test_a_database_without_the_table_is_unavailable_and_says_no_more(tmp_path: Path) -> None:
    engine = open_async_engine(sqlite_url(tmp_path))
    with pytest.raises(UnavailableError) as caught:
        await ReplyLease.acquire(engine)
    await engine.dispose()

    assert caught.value.code == "database_unavailable"
    assert caught.value.__cause__ is None


async def test_the_databases_clock_is_in_microseconds_of_the_unix_epoch(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        now = (await connection.execute(sa.select(database_now_us()))).scalar_one()

    assert abs(now - now_us()) < 60_000_000


def test_each_dialect_has_its_own_clock() -> None:
    statement = sa.select(database_now_us())
    assert "julianday" in str(statement.compile(dialect=sqlite.dialect()))
    assert "NOW(6)" in str(statement.compile(dialect=mysql.dialect()))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """One MariaDB node, migrated; skipped where its package is missing."""
    pytest.importorskip("aiomysql", reason="the stack's extra is not installed")
    if absent := packages.missing(DRIVERS[Kind.MARIADB].requirements()):
        pytest.skip(f"the database needs:\n{packages.describe(absent)}")
    supervisor = open_stack(tmp_path_factory.mktemp("leases"), topology.small(), lambda line: None)
    try:
        supervisor.up({"mariadb-a"})
        yield supervisor
    finally:
        supervisor.down(wipe=True)


@pytest.mark.stack
async def test_the_same_claims_hold_in_mariadb(stack: Supervisor) -> None:
    engine = open_async_engine(stack.site.database_url("operator"))
    await leave_free(engine, 0, 1, 2, 3)

    outcomes = await asyncio.gather(*(ReplyLease.acquire(engine) for _ in range(6)), return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, ReplyLease)]
    assert sorted(lease.partition for lease in won) == [0, 1, 2, 3]
    async with engine.connect() as connection:
        now = (await connection.execute(sa.select(database_now_us()))).scalar_one()
    assert abs(now - now_us()) < 60_000_000

    await won[0].renew()
    await end(engine, won[0])
    second = await ReplyLease.acquire(engine)
    assert (second.partition, second.epoch) == (won[0].partition, 2)
    with pytest.raises(UnavailableError) as caught:
        await won[0].renew()
    await engine.dispose()
    assert caught.value.code == "reply_lease_lost"
