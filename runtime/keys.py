"""The key ring: every private key a process holds, behind one small interface.

``FileKeyRing`` keeps them as files of mode 0600 and makes them on first use (the demo profile). PKCS#11, KMS and Vault
are other implementations of ``KeyRing``. Every signature and seal names the suite ``intl`` (Ed25519, X25519 with
HKDF-SHA256 and AES-256-GCM, SHA-256), so that another suite can stand beside it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from runtime.errors import ConfigurationError

SUITE = "intl"


class KeyRing(Protocol):
    """Keys by name; the same name always gives the same key.

    Raises:
        ConfigurationError: a key cannot be read, made or trusted.
    """

    def signing(self, name: str) -> Ed25519PrivateKey: ...

    def sealing(self, name: str) -> X25519PrivateKey: ...

    def secret(self, name: str) -> bytes:
        """32 bytes for HMAC."""
        ...


class FileKeyRing:
    """Keys as raw 32-byte files, one a key, in a folder of mode 0700."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def signing(self, name: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._raw(f"{name}.ed25519", _new_ed25519))

    def sealing(self, name: str) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self._raw(f"{name}.x25519", _new_x25519))

    def secret(self, name: str) -> bytes:
        return self._raw(f"{name}.hmac", lambda: secrets.token_bytes(32))

    def _raw(self, filename: str, make: _Maker) -> bytes:
        path = self._folder / filename
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                _create_once(path, make())
            if path.stat().st_mode & 0o077:
                raise ConfigurationError(f"the key {path} is readable by others: chmod 600 {path}")
            raw = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"the key {path} cannot be read: {error.strerror}") from None
        if len(raw) != 32:
            raise ConfigurationError(f"the key {path} is damaged: 32 bytes are expected")
        return raw


def trusted_signing(folder: Path, name: str) -> Ed25519PublicKey:
    """The public key ``name.ed25519.pub`` in a folder of keys that are trusted. Raises ConfigurationError."""
    return Ed25519PublicKey.from_public_bytes(_public(folder / f"{name}.ed25519.pub"))


def trusted_sealing(folder: Path, name: str) -> X25519PublicKey:
    """The public key ``name.x25519.pub``, likewise."""
    return X25519PublicKey.from_public_bytes(_public(folder / f"{name}.x25519.pub"))


def _public(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"the trusted key {path} cannot be read: {error.strerror}") from None
    if len(raw) != 32:
        raise ConfigurationError(f"the trusted key {path} is damaged: 32 bytes are expected")
    return raw


class _Maker(Protocol):
    def __call__(self) -> bytes: ...


def _new_ed25519() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )


def _new_x25519() -> bytes:
    return X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )


def _create_once(path: Path, raw: bytes) -> None:
    """Write whole and durable before it is visible; the first of two racing processes wins."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, raw)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
