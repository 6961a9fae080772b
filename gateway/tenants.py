"""Who is calling: API keys per tenant, and how much each may ask.

A key is ``ws-ID-SECRET`` with 256 random bits of secret. The database keeps its SHA-256, which needs no salt or stretching
for a secret of that size (NIST SP 800-63B, 5.1.1.2); comparison takes constant time. While no key exists, loopback callers
are tenant ``default``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.database import metadata
from runtime.errors import AuthenticationError, ConfigurationError, RateLimitedError
from runtime.ids import CLIENT_ID, new_id, now_us

DEFAULT_TENANT = "default"
_REFRESH_S = 1.0
_KEY = re.compile(r"ws-([0-9a-z]{26})-([\w-]{43})", re.ASCII)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("tenant", sa.String(128), nullable=False),
    sa.Column("secret_sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("expires_us", sa.BigInteger, nullable=True),
    sa.Column("revoked_us", sa.BigInteger, nullable=True),
)


class Caller(msgspec.Struct, frozen=True):
    """An authenticated caller; ``key_id`` is empty for the loopback caller of a gateway without keys."""

    tenant: str
    key_id: str = ""


class ApiKey(msgspec.Struct, frozen=True):
    """A key as the store knows it. Times in microseconds since the epoch."""

    id: str
    tenant: str
    secret_sha256: bytes
    created_us: int
    expires_us: int | None = None
    revoked_us: int | None = None

    def is_valid(self, at_us: int) -> bool:
        return (self.expires_us is None or at_us < self.expires_us) and (
            self.revoked_us is None or at_us < self.revoked_us
        )


def create_key(engine: Engine, tenant: str, *, lifetime_s: float | None = None) -> tuple[str, ApiKey]:
    """A new key; its text is returned once and stored nowhere.

    Raises:
        ConfigurationError: the tenant's name does not match ``[\\w.-]{1,128}``.
    """
    if not CLIENT_ID.fullmatch(tenant):
        raise ConfigurationError("a tenant's name is 1 to 128 letters, digits, '_', '.' or '-'")
    key_id = new_id("k")[2:]
    secret = secrets.token_urlsafe(32)
    at_us = now_us()
    key = ApiKey(
        id=key_id,
        tenant=tenant,
        secret_sha256=_digest(secret),
        created_us=at_us,
        expires_us=at_us + int(lifetime_s * 1_000_000) if lifetime_s else None,
    )
    with engine.begin() as connection:
        connection.execute(api_keys.insert().values(**msgspec.structs.asdict(key)))
    return f"ws-{key_id}-{secret}", key


def revoke_key(engine: Engine, key_id: str, *, after_s: float = 0) -> ApiKey:
    """End a key, at once or after an overlap.

    Raises:
        ConfigurationError: there is no such key.
    """
    with engine.begin() as connection:
        found = connection.execute(sa.select(api_keys).where(api_keys.c.id == key_id)).mappings().first()
        if found is None:
            raise ConfigurationError("there is no key with this id: `watershed keys list` shows those there are")
        at_us = now_us() + int(after_s * 1_000_000)
        connection.execute(api_keys.update().where(api_keys.c.id == key_id).values(revoked_us=at_us))
        return ApiKey(**{**found, "revoked_us": at_us})


def list_keys(engine: Engine) -> list[ApiKey]:
    with engine.connect() as connection:
        rows = connection.execute(sa.select(api_keys).order_by(api_keys.c.created_us)).mappings()
        return [ApiKey(**row) for row in rows]


class KeyDirectory:
    """The keys in memory, read again when the database changes: at once for SQLite, within a second for MySQL."""

    def __init__(self, engine: AsyncEngine, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        url = make_url(engine.url)
        self._files = (
            (Path(url.database), Path(f"{url.database}-wal")) if url.database and "sqlite" in url.drivername else ()
        )
        self._keys: dict[str, ApiKey] = {}
        self._signature: object = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def authenticate(self, authorization: str | None, *, loopback: bool) -> Caller:
        """The caller behind an ``Authorization`` header.

        Raises:
            AuthenticationError: no key where one is needed, or one that is unknown, expired or revoked.
        """
        if self._stale():
            await self._read()
        scheme, _, token = (authorization or "").partition(" ")
        presented = _KEY.fullmatch(token.strip()) if scheme.lower() == "bearer" else None
        if not self._keys:
            if loopback:
                return Caller(DEFAULT_TENANT)
            raise AuthenticationError(
                "this gateway has no API key yet and takes loopback callers only: "
                "`watershed keys create --tenant NAME` makes one",
                code="no_keys",
            )
        if presented is None:
            raise AuthenticationError("send an API key: Authorization: Bearer ws-…", code="missing_api_key")
        key = self._keys.get(presented[1])
        digest = _digest(presented[2])
        if key is None or not hmac.compare_digest(key.secret_sha256, digest) or not key.is_valid(now_us()):
            raise AuthenticationError("the API key is unknown, expired or revoked")
        return Caller(key.tenant, key.id)

    def _stale(self) -> bool:
        if not self._files:
            return self._clock() - self._read_at > _REFRESH_S
        return self._sign() != self._signature

    def _sign(self) -> object:
        """Changes with every commit to a SQLite database: two stat calls, 2 µs."""
        marks: list[tuple[int, int]] = []
        for path in self._files:
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            marks.append((stat.st_mtime_ns, stat.st_size))
        return tuple(marks)

    async def _read(self) -> None:
        async with self._reading:
            if not self._stale():
                return
            signature = self._sign()
            async with self._engine.connect() as connection:
                rows = (await connection.execute(sa.select(api_keys))).mappings().all()
            self._keys = {row["id"]: ApiKey(**row) for row in rows}
            self._signature = signature
            self._read_at = self._clock()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class RateLimit:
    """Requests per minute and tenant, as a token bucket that fills evenly; one process counts for itself."""

    def __init__(self, per_minute: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, tenant: str) -> None:
        """Raises RateLimitedError, with the time until the next token, when the tenant's bucket is empty."""
        if self._per_minute is None:
            return
        now = self._clock()
        tokens, at = self._buckets.get(tenant, (float(self._per_minute), now))
        tokens = min(tokens + (now - at) * self._per_minute / 60, float(self._per_minute))
        if tokens < 1:
            self._buckets[tenant] = (tokens, now)
            raise RateLimitedError(
                f"this tenant may send {self._per_minute} requests a minute",
                retry_after_s=(1 - tokens) * 60 / self._per_minute,
            )
        self._buckets[tenant] = (tokens - 1, now)
