"""Migrations: the same schema as the tables declare, and safe to run from several processes at once."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.ext.asyncio import AsyncEngine

import cloud_bridge.tables  # noqa: F401 - declares its tables
import gateway.lineage
import gateway.tenants
import local_inference.tables  # noqa: F401 - declares its tables
from runtime.database import metadata, migrate, newest_revision, open_async_engine, open_engine, sqlite_url
from runtime.errors import ConfigurationError


def test_migrations_make_what_the_tables_declare(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    migrate(url)
    engine = open_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_newest_revision_is_where_a_migration_ends(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    assert migrate(url) == migrate(url) == newest_revision()
    engine = open_engine(url)
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == newest_revision()
    engine.dispose()


def _migrate(url: str) -> str:
    return migrate(url)


def test_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert len(set(pool.map(_migrate, [sqlite_url(tmp_path)] * 3))) == 1


async def test_a_failed_statement_shows_no_parameters(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    migrate(url)
    engine = open_async_engine(url)
    row = {"tenant": "plover-quartz", "digest": b"0" * 32, "category": "", "sensitivity": 3, "expires_us": 1}
    with pytest.raises(sa.exc.IntegrityError) as failed:
        await _insert(engine, [row, row])
    assert "plover-quartz" not in str(failed.value)
    await engine.dispose()


async def _insert(engine: AsyncEngine, rows: list[dict[str, object]]) -> None:
    async with engine.begin() as connection:
        for row in rows:
            await connection.execute(gateway.lineage.lineage.insert().values(**row))


def test_other_databases_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        open_engine("postgresql://localhost/x")


@pytest.mark.parametrize(
    ("query", "said"),
    [("identity=/a.pem", "together"), ("identity=/nowhere/a.pem&ca=/nowhere/ca.pem", "cannot be used")],
    ids=["half", "missing"],
)
def test_tls_files_that_cannot_be_used_are_refused_before_the_first_connection(query: str, said: str) -> None:
    pytest.importorskip("pymysql", reason="the stack's extra is not installed")
    with pytest.raises(ConfigurationError, match=said):
        open_engine(f"mysql+pymysql://gateway-a@127.0.0.1:1/watershed?{query}")
