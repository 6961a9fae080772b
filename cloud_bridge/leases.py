"""Leased reply partitions: each gateway process reads its answers from a partition of its own.

A lease has an epoch, named in every request and outside the seal of every answer: answers to an earlier holder of the
partition are told apart by it. A claim is one autocommitted UPDATE whose row count is checked, by the database's clock.
Where two database nodes take writes, both may accept a claim; the commit of one then fails with a deadlock, which counts
as lost. So no read needs to be causal: what a read says is only ever a guess that the UPDATE checks.
"""

from __future__ import annotations

import asyncio
import time
from typing import Self

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud_bridge.tables import database_now_us, reply_partitions
from runtime.errors import UnavailableError
from runtime.ids import new_id

LEASE_S = 30.0
_RENEWALS_PER_LEASE = 3
_STATEMENT_S = 5.0
_ROWS = reply_partitions.c

_log = structlog.get_logger()


class ReplyLease:
    """The right to one partition of answers, for ``LEASE_S`` from the last renewal.

    Attributes:
        partition: of ``transport.RESPONSES``.
        epoch: higher than that of every lease of this partition before.
    """

    def __init__(self, engine: AsyncEngine, partition: int, epoch: int, owner: str, held_until: float) -> None:
        self.partition = partition
        self.epoch = epoch
        self._engine = engine
        self._owner = owner
        self._held_until = held_until

    @classmethod
    async def acquire(cls, engine: AsyncEngine) -> Self:
        """Claim the free partition that has been free the longest.

        Raises:
            UnavailableError: all are leased (``reply_partitions_taken``), or the database fails (``database_unavailable``).
        """
        owner = new_id("lease")
        try:
            async with asyncio.timeout(_STATEMENT_S), engine.connect() as connection:
                for partition in await _free(connection):
                    # Counted from before the claim: the database's clock starts later than this one.
                    held_until = time.monotonic() + LEASE_S
                    if (epoch := await _claim(connection, partition, owner)) is not None:
                        return cls(engine, partition, epoch, owner, held_until)
        except (SQLAlchemyError, TimeoutError, OSError):
            raise UnavailableError(
                "the leases cannot be read", code="database_unavailable", retry_after_s=1.0
            ) from None
        raise UnavailableError("every reply partition is leased", code="reply_partitions_taken", retry_after_s=LEASE_S)

    @property
    def held(self) -> bool:
        """Whether the lease certainly stands; when it does not, another process may hold the partition."""
        return time.monotonic() < self._held_until

    async def renew(self) -> None:
        """Hold the partition for another ``LEASE_S``.

        Raises:
            UnavailableError: it has run out (``reply_lease_lost``), or the database fails (``database_unavailable``): try
                again while ``held``.
        """
        held_until = time.monotonic() + LEASE_S
        if not await self._update(database_now_us() + int(LEASE_S * 1e6)):
            self._held_until = 0.0
            raise UnavailableError("the reply partition's lease is lost", code="reply_lease_lost")
        self._held_until = held_until

    async def release(self) -> None:
        """Give the partition back; one whose lease is lost already is left alone.

        Raises:
            UnavailableError: the database fails; the lease then ends by itself.
        """
        self._held_until = 0.0
        await self._update(database_now_us())

    async def keep(self) -> None:
        """Renew until cancelled.

        Raises:
            UnavailableError: the lease is lost: the process needs another, with a bridge of its own.
        """
        while True:
            await asyncio.sleep(LEASE_S / _RENEWALS_PER_LEASE if self._fresh else 1.0)
            try:
                await self.renew()
            except UnavailableError as error:
                if not self.held:
                    raise
                _log.warning("a reply partition's lease was not renewed", code=error.code)

    @property
    def _fresh(self) -> bool:
        return self._held_until - time.monotonic() > LEASE_S * (1 - 1 / _RENEWALS_PER_LEASE)

    async def _update(self, until_us: sa.ColumnElement[int]) -> bool:
        """Move the end of a lease that still stands; whether it did."""
        mine = (_ROWS.number == self.partition) & (_ROWS.owner == self._owner) & (_ROWS.epoch == self.epoch)
        statement = (
            sa.update(reply_partitions)
            .where(mine, _ROWS.lease_until_us > database_now_us())
            .values(lease_until_us=until_us)
        )
        try:
            async with asyncio.timeout(_STATEMENT_S), self._engine.connect() as connection:
                updated = await connection.execute(statement)
                await connection.commit()
                return updated.rowcount == 1
        except (SQLAlchemyError, TimeoutError, OSError):
            raise UnavailableError(
                "the lease cannot be written", code="database_unavailable", retry_after_s=1.0
            ) from None


async def _free(connection: AsyncConnection) -> list[int]:
    statement = (
        sa.select(_ROWS.number)
        .where(_ROWS.lease_until_us < database_now_us())
        .order_by(_ROWS.lease_until_us, _ROWS.number)
    )
    found = list((await connection.execute(statement)).scalars())
    await connection.rollback()
    return found


async def _claim(connection: AsyncConnection, partition: int, owner: str) -> int | None:
    """The new epoch, None where another process was faster."""
    claim = (
        sa.update(reply_partitions)
        .where(_ROWS.number == partition, _ROWS.lease_until_us < database_now_us())
        .values(owner=owner, epoch=_ROWS.epoch + 1, lease_until_us=database_now_us() + int(LEASE_S * 1e6))
    )
    try:
        claimed = (await connection.execute(claim)).rowcount
        await connection.commit()
    except SQLAlchemyError as error:
        # A deadlock, or a commit whose outcome is not known: the owner's name is new, so the row tells.
        _log.warning("a claim was not confirmed", error=type(error).__name__)
        await connection.rollback()
        claimed = 1
    if claimed != 1:
        return None
    mine = sa.select(_ROWS.epoch).where(_ROWS.number == partition, _ROWS.owner == owner)
    epoch: int | None = (await connection.execute(mine)).scalar()
    await connection.rollback()
    return epoch
