"""One database engine factory and one migration tree.

SQLite (embedded) and the MySQL family (the stack) take the same tables. Each package declares its own on ``metadata``;
``migrate`` brings the schema up to date under a lock, so that processes may start together.
"""

from __future__ import annotations

import fcntl
import sqlite3
import ssl
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import MetaData, event, inspect, text
from sqlalchemy.engine import URL, Connection, Dialect, Engine, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from runtime.errors import ConfigurationError

MYSQL_PORT = 3306
CONNECT_TIMEOUT_S = 2
MIGRATIONS = Path(__file__).with_name("migrations")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def sqlite_url(state_dir: Path) -> str:
    return f"sqlite:///{state_dir / 'watershed.db'}"


def _options(url: str) -> dict[str, Any]:
    # Parameters of a failed statement may be personal data: they never reach a message or a log.
    options: dict[str, Any] = {"hide_parameters": True}
    if not url.startswith("sqlite"):
        options |= {"pool_pre_ping": True, "pool_recycle": 1800}
    return options


def open_engine(url: str) -> Engine:
    """A synchronous engine, for migrations and the CLI.

    The URL of a MySQL server may carry ``?identity=PEM&ca=PEM``: key and certificate in one file, and the only CA trusted;
    and ``standby=HOST:PORT``, any number of times: where to connect when the server before it does not answer.

    Raises:
        ConfigurationError: the URL names another kind of database, or its TLS files cannot be used.
    """
    _prepare(url)
    address, places = _places(url)
    engine = create_engine(address, **_options(url))
    _configure_places(engine, places)
    _configure_sqlite(engine)
    return engine


def open_async_engine(url: str) -> AsyncEngine:
    """An asynchronous engine for ``sqlite:///`` and ``mysql+pymysql://`` URLs alike; see ``open_engine``."""
    _prepare(url)
    address, places = _places(url)
    driver = "sqlite+aiosqlite" if address.get_backend_name() == "sqlite" else "mysql+aiomysql"
    engine = create_async_engine(address.set(drivername=driver), **_options(url))
    _configure_places(engine.sync_engine, places)
    _configure_sqlite(engine.sync_engine)
    return engine


class _Places(msgspec.Struct, frozen=True):
    """Where a server of the MySQL family is reached, in order, and with which TLS files."""

    hosts: tuple[tuple[str, int], ...]
    identity: str
    ca: str

    def context(self) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=self.ca)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.load_cert_chain(self.identity)
        return made


def _places(url: str) -> tuple[URL, _Places | None]:
    """The URL as SQLAlchemy knows it, and what we read from its query."""
    parsed = make_url(url)
    query = {key: value for key, value in parsed.query.items() if key in {"identity", "ca", "standby"}}
    if not query:
        return parsed, None
    identity, ca, standby = query.get("identity"), query.get("ca"), query.get("standby", ())
    if not isinstance(identity, str) or not isinstance(ca, str):
        raise ConfigurationError("database_url takes identity=PEM and ca=PEM together, once each")
    hosts = [(parsed.host or "", parsed.port or MYSQL_PORT)]
    for place in (standby,) if isinstance(standby, str) else standby:
        host, _, port = place.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigurationError("database_url's standby is HOST:PORT")
        hosts.append((host, int(port)))
    places = _Places(tuple(hosts), identity, ca)
    try:
        places.context()
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"the TLS files of database_url cannot be used: {error.strerror}") from None
    return parsed.difference_update_query(query), places


def _configure_places(engine: Engine, places: _Places | None) -> None:
    if places is None:
        return

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: Dialect, _record: object, arguments: tuple[Any, ...], parameters: dict[str, Any]) -> Any:
        # Certificates live for a day and are replaced in place; the pool connects anew every half hour.
        parameters |= {"ssl": places.context(), "connect_timeout": CONNECT_TIMEOUT_S}
        for host, port in places.hosts[:-1]:
            try:
                return dialect.connect(*arguments, **parameters | {"host": host, "port": port})
            except dialect.loaded_dbapi.Error:
                continue
        host, port = places.hosts[-1]
        return dialect.connect(*arguments, **parameters | {"host": host, "port": port})


def _prepare(url: str) -> None:
    parsed = make_url(url)
    if parsed.get_backend_name() not in {"sqlite", "mysql", "mariadb"}:
        raise ConfigurationError("database_url must name sqlite or mysql+pymysql")
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def _configure_sqlite(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _pragmas(connection: sqlite3.Connection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA busy_timeout=5000")
        cursor.close()


def migrate(url: str) -> str:
    """Bring the schema to the newest version and return that version's id.

    Raises:
        ConfigurationError: the database cannot be opened or another migration holds the lock for over 60 s.
    """
    engine = open_engine(url)
    try:
        head = newest_revision()
        if _revision(engine) == head:
            return head  # without Alembic, whose import would be a third of a gateway's start
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with engine.connect() as connection, _MigrationLock(connection, url):
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        return head
    finally:
        engine.dispose()


def newest_revision() -> str:
    """The id of the newest migration: the number that its file's name begins with."""
    return max(path.name.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


class _MigrationLock:
    """MySQL's ``GET_LOCK``; beside a SQLite file, ``flock``."""

    def __init__(self, connection: Connection, url: str) -> None:
        self._connection = connection
        database = make_url(url).database
        self._lock_path = Path(f"{database}.migrate-lock") if connection.dialect.name == "sqlite" and database else None

    def __enter__(self) -> None:
        if self._lock_path is not None:
            self._file = self._lock_path.open("w")
            fcntl.flock(self._file, fcntl.LOCK_EX)
        elif self._connection.dialect.name != "sqlite":
            taken = self._connection.exec_driver_sql("SELECT GET_LOCK('watershed.migrate', 60)").scalar()
            if taken != 1:
                raise ConfigurationError("another process has been migrating the database for over 60 s")

    def __exit__(self, *_: object) -> None:
        if self._lock_path is not None:
            self._file.close()
        elif self._connection.dialect.name != "sqlite":
            self._connection.exec_driver_sql("SELECT RELEASE_LOCK('watershed.migrate')")
