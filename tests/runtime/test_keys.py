"""File keys: made once, the same ever after, and refused when others can read them."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from runtime.errors import ConfigurationError
from runtime.keys import FileKeyRing, trusted_sealing, trusted_signing


def test_a_key_is_made_once(tmp_path: Path) -> None:
    first, second = FileKeyRing(tmp_path / "k"), FileKeyRing(tmp_path / "k")
    assert first.secret("a") == second.secret("a") != first.secret("b")
    assert first.signing("a").public_key() == second.signing("a").public_key()
    assert first.sealing("a").public_key() == second.sealing("a").public_key()


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    ring = FileKeyRing(tmp_path / "k")
    ring.secret("a")
    (path,) = (tmp_path / "k").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        ring.secret("a")


def test_a_damaged_key_is_refused(tmp_path: Path) -> None:
    ring = FileKeyRing(tmp_path)
    ring.secret("a")
    (tmp_path / "a.hmac").write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="damaged"):
        ring.secret("a")


def _secret(folder: str) -> bytes:
    return FileKeyRing(Path(folder)).secret("raced")


def test_processes_that_race_agree_on_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert len(set(pool.map(_secret, [str(tmp_path)] * 8))) == 1


def test_a_trusted_key_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"clearance\.ed25519\.pub cannot be read"):
        trusted_signing(tmp_path, "clearance")
    (tmp_path / "pool.x25519.pub").write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="32 bytes"):
        trusted_sealing(tmp_path, "pool")
