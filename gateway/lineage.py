"""Taint follows a conversation (law 5), whether or not the client says that it is one.

A turn that made a request sensitive, every turn after it and the answer are remembered as keyed digests. A later request
that carries any of them is as sensitive as that one was, even where the sensitive turn itself has been dropped. A store
that cannot be read taints every request that has a history; a first turn has none to lose.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from classifiers import Label, Sensitivity, Unscanned
from gateway.wire import Call, Turn
from runtime.database import metadata
from runtime.ids import now_us

MIN_TURN_CHARS = 16
"""Shorter turns ("yes", "go on") stand in every conversation and would taint all of them."""

_STORE_TIMEOUT_S = 5.0
_QUERY_DIGESTS = 10_000

# MySQL indexes a BLOB only by a prefix.
_DIGEST = sa.LargeBinary(32).with_variant(sa.BINARY(32), "mysql", "mariadb")

lineage = sa.Table(
    "lineage",
    metadata,
    sa.Column("digest", _DIGEST, primary_key=True),
    sa.Column("tenant", sa.String(128), primary_key=True),
    sa.Column("category", sa.String(64), primary_key=True),  # "" where the taint has none
    sa.Column("sensitivity", sa.SmallInteger, nullable=False),
    sa.Column("expires_us", sa.BigInteger, nullable=False, index=True),
)

log = structlog.get_logger()


class Taint(msgspec.Struct, frozen=True):
    """What a conversation has been, from its remembered turns."""

    sensitivity: Sensitivity = Sensitivity.PUBLIC
    categories: frozenset[str] = frozenset()
    lost: bool = False

    def onto(self, label: Label) -> Label:
        unscanned = (Unscanned("", "lineage_lost"),) if self.lost else ()
        if not self.lost and self.sensitivity <= label.sensitivity and self.categories <= label.categories:
            return label
        return label.joined(sensitivity=self.sensitivity, categories=self.categories, unscanned=unscanned)


class Lineage:
    """Remembers tainted turns for ``ttl_s`` seconds, per tenant, as HMAC-SHA-256 digests of their normalised text."""

    def __init__(self, engine: AsyncEngine, key: bytes, *, ttl_s: float) -> None:
        self._engine = engine
        self._key = key
        self._ttl_us = int(ttl_s * 1_000_000)
        self._lookups = _Lookups(engine)

    async def taint_of(self, call: Call, tenant: str) -> Taint:
        """The taint that the call's history brings; never raises: a store that fails is a lost one."""
        if not call.has_history:
            return Taint()
        digests = {self._digest(text) for turn in call.turns for text in _telling(turn)}
        try:
            marks = await self._lookups.find(tenant, digests)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.error("lineage store lost: requests with a history are restricted", cause=type(error).__name__)
            return Taint(lost=True)
        return Taint(
            sensitivity=Sensitivity(max((sensitivity for sensitivity, _ in marks), default=0)),
            categories=frozenset(category for _, category in marks if category),
        )

    async def remember(self, call: Call, label: Label, tenant: str, answers: Sequence[str]) -> None:
        """Keep the tainted turns of an answered call, and the answers.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, TimeoutError: the store did not take them.
        """
        if label.sensitivity <= Sensitivity.INTERNAL:
            return
        texts = {text for turn in _tainted(call, label) for text in _telling(turn)}
        texts |= {answer for answer in answers if len(answer) >= MIN_TURN_CHARS}
        if not texts:
            return
        expires_us = now_us() + self._ttl_us
        rows = [
            {
                "tenant": tenant,
                "digest": self._digest(text),
                "category": category,
                "sensitivity": int(label.sensitivity),
                "expires_us": expires_us,
            }
            for text in texts
            for category in label.categories or ("",)
        ]
        async with asyncio.timeout(_STORE_TIMEOUT_S), self._engine.begin() as connection:
            await connection.execute(_upsert(self._engine.dialect.name), rows)

    async def sweep(self) -> int:
        """Forget what has expired; returns how many turns."""
        async with asyncio.timeout(30), self._engine.begin() as connection:
            result = await connection.execute(sa.delete(lineage).where(lineage.c.expires_us <= now_us()))
            return int(result.rowcount)

    def conversation_token(self, call: Call, tenant: str) -> str:
        """A stand-in for the conversation, the same at each of its turns: HMAC over tenant and all up to the first user turn."""
        mac = hmac.new(self._key, f"conversation\0{tenant}".encode(), hashlib.sha256)
        for turn in call.turns:
            for text in turn.texts:
                mac.update(b"\0" + text.encode())
            if turn.role == "user":
                break
        return "ws-" + mac.hexdigest()[:32]

    def _digest(self, text: str) -> bytes:
        return hmac.new(self._key, _normal(text).encode(), hashlib.sha256).digest()


class _Waiting(msgspec.Struct):
    tenant: str
    digests: Set[bytes]
    found: asyncio.Future[list[tuple[int, str]]]


class _Lookups:
    """One query at a time, for all who wait for one: load makes it larger, and never queues up for connections."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._waiting: list[_Waiting] = []
        self._asking: asyncio.Task[None] | None = None

    async def find(self, tenant: str, digests: Set[bytes]) -> list[tuple[int, str]]:
        """(sensitivity, category) of each tainted digest.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: the store cannot be read.
        """
        if not digests:
            return []
        waiting = _Waiting(tenant, digests, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="lineage lookups")
        return await waiting.found

    async def _ask(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                marks = await self._query(set().union(*(waiting.digests for waiting in batch)))
            except Exception as error:
                for waiting in batch:
                    if not waiting.found.done():
                        waiting.found.set_exception(error)
                continue
            for waiting in batch:
                if not waiting.found.done():  # its caller may have left
                    mine = (marks.get((waiting.tenant, digest), ()) for digest in waiting.digests)
                    waiting.found.set_result([mark for found in mine for mark in found])

    async def _query(self, digests: Set[bytes]) -> dict[tuple[str, bytes], list[tuple[int, str]]]:
        marks: dict[tuple[str, bytes], list[tuple[int, str]]] = defaultdict(list)
        ordered = list(digests)
        async with asyncio.timeout(_STORE_TIMEOUT_S), self._engine.connect() as connection:
            for start in range(0, len(ordered), _QUERY_DIGESTS):
                columns = (lineage.c.tenant, lineage.c.digest, lineage.c.sensitivity, lineage.c.category)
                query = sa.select(*columns).where(
                    lineage.c.digest.in_(ordered[start : start + _QUERY_DIGESTS]), lineage.c.expires_us > now_us()
                )
                for tenant, digest, sensitivity, category in await connection.execute(query):
                    marks[tenant, bytes(digest)].append((sensitivity, category))
        return marks


def _tainted(call: Call, label: Label) -> Iterable[Turn]:
    """Every turn from the first one with a finding on; all of them where the taint came from elsewhere."""
    marked = [f.pointer for f in label.findings] + [u.pointer for u in label.unscanned]
    for i, turn in enumerate(call.turns):
        inside = turn.pointer + "/"
        if any(pointer.startswith(inside) for pointer in marked):
            return call.turns[i:]
    return [turn for turn in call.turns if turn.role not in {"system", "developer"}]


def _telling(turn: Turn) -> Iterable[str]:
    if turn.role in {"system", "developer"}:
        return ()
    return (text for text in turn.texts if len(text) >= MIN_TURN_CHARS)


def _normal(text: str) -> str:
    if not text.isascii() and not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.split()).casefold()


def _upsert(dialect: str) -> sa.Insert:
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        sqlite = sqlite_insert(lineage)
        return sqlite.on_conflict_do_update(
            index_elements=["tenant", "digest", "category"],
            set_={
                "sensitivity": sa.func.max(lineage.c.sensitivity, sqlite.excluded.sensitivity),
                "expires_us": sqlite.excluded.expires_us,
            },
        )
    from sqlalchemy.dialects.mysql import insert as mysql_insert

    mysql = mysql_insert(lineage)
    return mysql.on_duplicate_key_update(
        sensitivity=sa.func.greatest(lineage.c.sensitivity, mysql.inserted.sensitivity),
        expires_us=mysql.inserted.expires_us,
    )
