"""API keys and rates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from gateway.tenants import KeyDirectory, RateLimit, api_keys, create_key, list_keys, revoke_key
from runtime.database import migrate, open_async_engine, open_engine, sqlite_url
from runtime.errors import AuthenticationError, ConfigurationError, RateLimitedError


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = sqlite_url(tmp_path)
    migrate(url)
    return url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    yield engine
    engine.dispose()


async def test_without_keys_loopback_callers_are_the_default_tenant(url: str) -> None:
    directory = KeyDirectory(open_async_engine(url))
    assert (await directory.authenticate(None, loopback=True)).tenant == "default"
    assert (await directory.authenticate("Bearer anything", loopback=True)).tenant == "default"
    with pytest.raises(AuthenticationError) as refused:
        await directory.authenticate(None, loopback=False)
    assert refused.value.code == "no_keys"


async def test_the_first_key_ends_that_at_once(url: str, engine: Engine) -> None:
    directory = KeyDirectory(open_async_engine(url))
    await directory.authenticate(None, loopback=True)
    text, key = create_key(engine, "bank-1")
    with pytest.raises(AuthenticationError):
        await directory.authenticate(None, loopback=True)
    caller = await directory.authenticate(f"Bearer {text}", loopback=False)
    assert (caller.tenant, caller.key_id) == ("bank-1", key.id)


async def test_a_revoked_key_ends_at_once_and_a_rotated_one_after_its_overlap(url: str, engine: Engine) -> None:
    directory = KeyDirectory(open_async_engine(url))
    first, key = create_key(engine, "a")
    second, other = create_key(engine, "a")
    revoke_key(engine, key.id)
    revoke_key(engine, other.id, after_s=3600)
    with pytest.raises(AuthenticationError):
        await directory.authenticate(f"Bearer {first}", loopback=True)
    assert (await directory.authenticate(f"Bearer {second}", loopback=True)).key_id == other.id


async def test_an_expired_key_is_refused(url: str, engine: Engine) -> None:
    text, _ = create_key(engine, "a", lifetime_s=1e-6)
    with pytest.raises(AuthenticationError):
        await KeyDirectory(open_async_engine(url)).authenticate(f"Bearer {text}", loopback=True)


async def test_a_wrong_secret_is_refused(url: str, engine: Engine) -> None:
    text, _ = create_key(engine, "a")
    directory = KeyDirectory(open_async_engine(url))
    wrong = text[:-1] + ("A" if text[-1] != "A" else "B")
    for presented in (wrong, text.upper(), text + " x", "", f"ws-{'0' * 26}-{'a' * 43}"):
        with pytest.raises(AuthenticationError):
            await directory.authenticate(f"Bearer {presented}", loopback=True)
    with pytest.raises(AuthenticationError):
        await directory.authenticate(f"Basic {text}", loopback=True)


def test_only_a_hash_is_stored(engine: Engine) -> None:
    text, key = create_key(engine, "a")
    secret = text.rsplit("-", 1)[-1] if "-" not in text[30:] else text[30:]
    with engine.connect() as connection:
        row = connection.execute(sa.select(api_keys)).mappings().one()
    assert row["secret_sha256"] == hashlib.sha256(secret.encode()).digest()
    assert secret.encode() not in Path(str(engine.url.database)).read_bytes()
    assert [k.id for k in list_keys(engine)] == [key.id]


@pytest.mark.parametrize("tenant", ["", "a b", "x" * 129, "名", "a/b", "a\n"])
def test_odd_tenant_names_are_refused(engine: Engine, tenant: str) -> None:
    with pytest.raises(ConfigurationError):
        create_key(engine, tenant)


def test_a_key_that_does_not_exist_cannot_be_revoked(engine: Engine) -> None:
    with pytest.raises(ConfigurationError):
        revoke_key(engine, "nothing")


def test_a_bucket_empties_and_fills_again() -> None:
    now = 0.0
    rate = RateLimit(60, clock=lambda: now)
    for _ in range(60):
        rate.take("a")
    with pytest.raises(RateLimitedError) as refused:
        rate.take("a")
    assert refused.value.retry_after_s == pytest.approx(1.0)
    rate.take("b")
    now = 1.01
    rate.take("a")
    with pytest.raises(RateLimitedError):
        rate.take("a")


def test_no_limit_means_none() -> None:
    rate = RateLimit(None)
    for _ in range(1000):
        rate.take("a")
