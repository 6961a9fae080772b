"""The request journal: of all nodes only one answers a request, and a peer may take over when that one has fallen silent.

    claim ─▶ insert ─ taken ─▶ UPDATE … WHERE lease_until < now, its row count checked ─▶ Lease
               └─ won ─▶ Lease ── keep (renewed while the answer goes on) ──▶ end: answered, or released for a peer

Times are the database's clock, so nodes need not agree on theirs; a node judges its own lease by the time that has passed
since it last asked for it, and stops in time even where the database is gone. Each statement is committed by itself, and
where the outcome of a commit is unknown the row is read back. Law 6.
"""

from __future__ import annotations

import asyncio
import enum
import time
from typing import NamedTuple

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from local_inference.tables import journal
from runtime.errors import DeadlineExceededError, InvalidRequestError, UnavailableError
from runtime.ids import new_id

LEASE_S = 4.0
"""Longer than the 2 s for which a pair of database nodes stalls when one dies; a peer waits so long for a dead node."""

KEPT_S = 3600.0
"""How long a request's id is remembered, and so not answered again."""

_POLL_S = 0.1
_STATEMENT_TIMEOUT_S = 3.0
_UNKNOWN = (DBAPIError, OSError, TimeoutError)

log = structlog.get_logger()


class State(enum.StrEnum):
    """Of one request. ``RUNNING`` with a lease that has run out is free to be taken, like ``RELEASED``."""

    RUNNING = "running"
    RELEASED = "released"
    ANSWERED = "answered"


class _Row(NamedTuple):
    owner: str
    digest: bytes
    fence: int
    state: str


class Lease:
    """The right to answer one request, until it is lost or ended.

    Attributes:
        fence: greater with each owner of the request.
    """

    def __init__(self, book: Journal, request_id: str, owner: str, fence: int, held_until: float) -> None:
        """For ``Journal.claim``."""
        self.request_id = request_id
        self.owner = owner
        self.fence = fence
        self._book = book
        self._held_until = held_until

    async def keep(self) -> None:
        """Renew the lease until it is lost, then return: the answer must stop at once. Cancel it when the answer ends."""
        while (left_s := self._held_until - time.monotonic()) > 0:
            await asyncio.sleep(min(self._book.lease_s / 4, left_s))
            began = time.monotonic()
            if began >= self._held_until:
                break
            try:
                async with asyncio.timeout(self._held_until - began):
                    renewed = await self._book.renew(self)
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                log.warning("lease not renewed", request_id=self.request_id, cause=type(error).__name__)
                continue
            if not renewed:
                break
            self._held_until = began + self._book.lease_s
        log.warning("lease lost", request_id=self.request_id, fence=self.fence)

    async def end(self, *, answered: bool) -> None:
        """Close the request for ever, or leave it to a peer. Never raises: an unended lease runs out by itself."""
        try:
            await self._book.end(self, State.ANSWERED if answered else State.RELEASED)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("lease not ended", request_id=self.request_id, cause=type(error).__name__)


class Journal:
    """The journal as one node sees it. ``node``: its name, ``[\\w.-]{1,128}``."""

    def __init__(self, engine: AsyncEngine, *, node: str, lease_s: float = LEASE_S) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._now_us = _clock(engine.dialect.name)
        self._node = node
        self.lease_s = lease_s

    async def claim(self, request_id: str, digest: bytes, deadline: float) -> Lease:
        """The lease of a request that nobody has answered; waits while another node has it, up to twice its length.

        Args:
            digest: SHA-256 of what is asked, so that an id cannot stand for something else.
            deadline: in ``time.monotonic()`` seconds.

        Raises:
            InvalidRequestError: it has been answered, or the id was used for something else.
            UnavailableError: another node goes on answering it, or the database cannot be reached.
            DeadlineExceededError
        """
        owner = f"{self._node}/{new_id('claim')}"
        until = min(deadline, time.monotonic() + 2 * self.lease_s)
        reached = False
        while True:
            if (lease := await self._insert(request_id, digest, owner)) is not None:
                return lease
            lease, found = await self._take_over(request_id, digest, owner)
            if lease is not None:
                return lease
            reached = reached or found
            if time.monotonic() + _POLL_S >= until:
                break
            await asyncio.sleep(_POLL_S)
        if until == deadline:
            raise DeadlineExceededError("no node's lease of this request ended within its deadline")
        if not reached:
            raise UnavailableError("the journal cannot be reached", code="journal_unavailable", retry_after_s=1)
        raise UnavailableError("another node is answering this request", code="request_leased", retry_after_s=1)

    async def renew(self, lease: Lease) -> bool:
        """Whether the lease was still ours, and now is for ``lease_s`` more. Raises SQLAlchemyError, TimeoutError."""
        return await self._update(
            self._owned(lease).values(lease_until_us=self._now_us + _us(self.lease_s)), _STATEMENT_TIMEOUT_S
        )

    async def end(self, lease: Lease, state: State) -> bool:
        """Whether the lease was still ours when it ended. Raises SQLAlchemyError, TimeoutError."""
        return await self._update(self._owned(lease).values(state=state.value, lease_until_us=0), _STATEMENT_TIMEOUT_S)

    async def sweep(self) -> int:
        """Forget requests older than KEPT_S; returns how many. Raises SQLAlchemyError, TimeoutError."""
        async with asyncio.timeout(30), self._engine.connect() as connection:
            result = await connection.execute(sa.delete(journal).where(journal.c.expires_us <= self._now_us))
            return int(result.rowcount)

    async def _insert(self, request_id: str, digest: bytes, owner: str) -> Lease | None:
        began = time.monotonic()
        row = {"id": request_id, "digest": digest, "owner": owner, "fence": 1, "state": State.RUNNING.value}
        statement = sa.insert(journal).values(
            **row, lease_until_us=self._now_us + _us(self.lease_s), expires_us=self._now_us + _us(KEPT_S)
        )
        try:
            async with asyncio.timeout(_STATEMENT_TIMEOUT_S), self._engine.connect() as connection:
                await connection.execute(statement)
        except IntegrityError:
            return None
        except _UNKNOWN as error:
            log.warning("claim's commit unknown", request_id=request_id, cause=type(error).__name__)
            return None
        return Lease(self, request_id, owner, 1, began + self.lease_s)

    async def _take_over(self, request_id: str, digest: bytes, owner: str) -> tuple[Lease | None, bool]:
        """The lease, should it be ours now; and whether the row could be read."""
        free = sa.and_(journal.c.state != State.ANSWERED.value, journal.c.lease_until_us < self._now_us)
        statement = (
            sa.update(journal)
            .where(journal.c.id == request_id, journal.c.digest == digest, free)
            .values(
                owner=owner,
                fence=journal.c.fence + 1,
                state=State.RUNNING.value,
                lease_until_us=self._now_us + _us(self.lease_s),
            )
        )
        began = time.monotonic()
        taken = False
        try:
            taken = await self._update(statement, _STATEMENT_TIMEOUT_S)
        except _UNKNOWN as error:
            log.warning("claim's commit unknown", request_id=request_id, cause=type(error).__name__)
        try:
            row = await self._read(request_id)
        except _UNKNOWN as error:
            log.warning("journal not read", request_id=request_id, cause=type(error).__name__)
            return None, False
        if row is None:
            return None, True
        if row.owner == owner and row.state == State.RUNNING:
            lease = Lease(self, request_id, owner, row.fence, began + self.lease_s)
            return (lease, True) if taken or await self._confirm(lease) else (None, True)
        if row.digest != digest:
            raise InvalidRequestError("this request id was used for another request", code="request_id_reused")
        if row.state == State.ANSWERED:
            raise InvalidRequestError("this request has been answered", code="request_answered")
        return None, True

    async def _confirm(self, lease: Lease) -> bool:
        """For a lease whose commit was unknown: it may have been running for some time, so it begins anew."""
        try:
            return await self.renew(lease)
        except _UNKNOWN:
            return False

    async def _update(self, statement: sa.Update, timeout_s: float) -> bool:
        async with asyncio.timeout(timeout_s), self._engine.connect() as connection:
            result = await connection.execute(statement)
            return int(result.rowcount) == 1

    async def _read(self, request_id: str) -> _Row | None:
        columns = (journal.c.owner, journal.c.digest, journal.c.fence, journal.c.state)
        async with asyncio.timeout(_STATEMENT_TIMEOUT_S), self._engine.connect() as connection:
            row = (await connection.execute(sa.select(*columns).where(journal.c.id == request_id))).one_or_none()
        return None if row is None else _Row(*row)

    @staticmethod
    def _owned(lease: Lease) -> sa.Update:
        return sa.update(journal).where(
            journal.c.id == lease.request_id, journal.c.owner == lease.owner, journal.c.state == State.RUNNING.value
        )


def _clock(dialect: str) -> sa.ColumnElement[int]:
    """The database's clock, in microseconds since the Unix epoch. In UTC: a local hour that comes twice would mislead."""
    if dialect == "sqlite":
        return sa.literal_column("CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)", sa.BigInteger)
    return sa.literal_column("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))", sa.BigInteger)


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)
