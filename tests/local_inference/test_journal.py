"""The journal: one node answers a request, a peer may win the lease after its end, nobody answers twice (law 6)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from local_inference.journal import Journal, Lease
from local_inference.tables import journal
from runtime.database import metadata, migrate, open_async_engine, open_engine, sqlite_url
from runtime.errors import DeadlineExceededError, InvalidRequestError, UnavailableError

DIGEST = b"d" * 32
LONG_S = 60.0


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    await asyncio.to_thread(migrate, sqlite_url(tmp_path))
    engine = open_async_engine(sqlite_url(tmp_path))
    yield engine
    await engine.dispose()


def node(engine: AsyncEngine, name: str, lease_s: float = LONG_S) -> Journal:
    return Journal(engine, node=name, lease_s=lease_s)


async def claim(book: Journal, request_id: str = "req-1", digest: bytes = DIGEST, within_s: float = 0.5) -> Lease:
    return await book.claim(request_id, digest, time.monotonic() + within_s)


async def expire(engine: AsyncEngine, request_id: str = "req-1") -> None:
    """As if the lease's time had passed without a word from its owner."""
    async with engine.begin() as connection:
        await connection.execute(sa.update(journal).where(journal.c.id == request_id).values(lease_until_us=1))


async def state(engine: AsyncEngine, request_id: str = "req-1") -> tuple[str, int]:
    async with engine.connect() as connection:
        row = (
            await connection.execute(sa.select(journal.c.state, journal.c.fence).where(journal.c.id == request_id))
        ).one()
    return row[0], row[1]


@contextmanager
def breaking(engine: AsyncEngine, verb: str, *, after: bool) -> Iterator[list[str]]:
    """The next statement beginning with ``verb`` loses its connection, before or after the database has carried it out."""
    broken: list[str] = []

    def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(verb) and not broken:
            broken.append(statement)
            raise OperationalError(statement, None, Exception("connection lost"))

    name = "after_cursor_execute" if after else "before_cursor_execute"
    sa.event.listen(engine.sync_engine, name, fail)
    try:
        yield broken
    finally:
        sa.event.remove(engine.sync_engine, name, fail)


def test_the_migration_makes_the_declared_table(tmp_path: Path) -> None:
    migrate(sqlite_url(tmp_path))
    engine = open_engine(sqlite_url(tmp_path))
    inspector = sa.inspect(engine)
    made = {column["name"]: column["nullable"] for column in inspector.get_columns("journal")}
    assert made == {column.name: column.nullable for column in metadata.tables["journal"].columns}
    assert [index["column_names"] for index in inspector.get_indexes("journal")] == [["expires_us"]]
    engine.dispose()


async def test_of_many_claims_at_once_one_wins(engine: AsyncEngine) -> None:
    books = [node(engine, f"node-{number}") for number in range(8)]
    outcomes = await asyncio.gather(*(claim(book, within_s=3) for book in books), return_exceptions=True)
    assert sum(isinstance(outcome, Lease) for outcome in outcomes) == 1
    assert all(isinstance(o, Lease | DeadlineExceededError) for o in outcomes), outcomes


async def test_a_lease_that_ran_out_is_won_by_one_peer_with_a_greater_fence(engine: AsyncEngine) -> None:
    first = await claim(node(engine, "node-a"))
    await expire(engine)
    outcomes = await asyncio.gather(
        *(claim(node(engine, f"node-{number}"), within_s=3) for number in range(6)), return_exceptions=True
    )
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Lease)]
    assert winner.fence == first.fence + 1 == 2


async def test_a_released_request_is_a_peers_at_once(engine: AsyncEngine) -> None:
    lease = await claim(node(engine, "node-a"))
    waiting = asyncio.create_task(claim(node(engine, "node-b"), within_s=5))
    await lease.end(answered=False)
    assert (await waiting).fence == 2


async def test_an_answered_request_is_nobodys_again(engine: AsyncEngine) -> None:
    lease = await claim(node(engine, "node-a"))
    await lease.end(answered=True)
    for name in ("node-a", "node-b"):
        with pytest.raises(InvalidRequestError) as refused:
            await claim(node(engine, name))
        assert refused.value.code == "request_answered"


async def test_an_id_stands_for_one_request_only(engine: AsyncEngine) -> None:
    lease = await claim(node(engine, "node-a"))
    await lease.end(answered=False)
    with pytest.raises(InvalidRequestError) as refused:
        await claim(node(engine, "node-b"), digest=b"e" * 32)
    assert refused.value.code == "request_id_reused"
    assert await state(engine) == ("released", 1)


async def test_waiting_ends_with_the_deadline_or_with_two_leases(engine: AsyncEngine) -> None:
    await claim(node(engine, "node-a"))
    with pytest.raises(DeadlineExceededError):
        await claim(node(engine, "node-b"), within_s=0.3)
    with pytest.raises(UnavailableError) as refused:
        await claim(node(engine, "node-b", lease_s=0.2), within_s=60)
    assert refused.value.code == "request_leased"


async def test_a_kept_lease_outlives_its_length_and_ends_when_a_peer_has_it(engine: AsyncEngine) -> None:
    lease = await claim(node(engine, "node-a", lease_s=1.0))
    keeping = asyncio.create_task(lease.keep())
    with pytest.raises(DeadlineExceededError):
        await claim(node(engine, "node-b"), within_s=1.6)
    assert not keeping.done()
    await expire(engine)
    async with asyncio.timeout(10):
        winner = None
        while winner is None:  # the owner's renewal may come first
            await expire(engine)
            try:
                winner = await claim(node(engine, "node-b"), within_s=0.15)
            except DeadlineExceededError:
                continue
        await keeping
    await lease.end(answered=True)
    assert await state(engine) == ("running", winner.fence), "a node that lost its lease changes nothing"


async def test_a_node_without_its_database_gives_up_when_its_lease_may_have_run_out(engine: AsyncEngine) -> None:
    lease = await claim(node(engine, "node-a", lease_s=0.6))

    def gone(*_: Any) -> None:
        raise OperationalError("", None, Exception("connection lost"))

    sa.event.listen(engine.sync_engine, "before_cursor_execute", gone)
    async with asyncio.timeout(5):
        await lease.keep()
    await lease.end(answered=True)
    with pytest.raises(UnavailableError) as refused:
        await claim(node(engine, "node-b", lease_s=0.2), "req-2", within_s=60)
    assert refused.value.code == "journal_unavailable"
    sa.event.remove(engine.sync_engine, "before_cursor_execute", gone)


@pytest.mark.parametrize("after", [False, True], ids=["lost before", "lost after"])
async def test_a_claim_whose_commit_is_unknown_is_read_back(engine: AsyncEngine, after: bool) -> None:
    with breaking(engine, "INSERT", after=after) as broken:
        lease = await claim(node(engine, "node-a"), within_s=3)
    assert broken
    assert lease.fence == 1
    await lease.end(answered=False)
    with breaking(engine, "UPDATE", after=after) as broken:
        lease = await claim(node(engine, "node-b"), within_s=3)
    assert broken
    assert lease.fence == 2
    assert await state(engine) == ("running", 2)


async def test_old_requests_are_forgotten(engine: AsyncEngine) -> None:
    book = node(engine, "node-a")
    await claim(book, "req-old")
    await claim(book, "req-new")
    async with engine.begin() as connection:
        await connection.execute(sa.update(journal).where(journal.c.id == "req-old").values(expires_us=1))
    assert await book.sweep() == 1
    assert (await state(engine, "req-new"))[0] == "running"
