"""Tables of the crossing, and the one clock that leases are measured by: the database's."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from runtime.database import metadata

reply_partitions = sa.Table(
    "reply_partitions",
    metadata,
    sa.Column("number", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("lease_until_us", sa.BigInteger, nullable=False),
)
"""One row for each partition of the responses' topic, made by the migration."""


class database_now_us(GenericFunction[int]):  # noqa: N801  # it is a function in SQL
    """The database's wall clock, microseconds since the Unix epoch (SQLite: to the millisecond)."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(database_now_us, "sqlite")
def _sqlite(_element: database_now_us, _compiler: SQLCompiler, **_: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000"


@compiles(database_now_us, "mysql", "mariadb")
def _mysql(_element: database_now_us, _compiler: SQLCompiler, **_: Any) -> str:
    return "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)"
