"""Keys of the stack's processes (docs/threat-model.md, keys: each held by few): made once, put beside the certificate of who holds them.

    CERTIFICATES/ca/keys/…      every shared key, with the CA
    CERTIFICATES/NAME/keys/…    private keys that this process holds, by the topology's ``secrets``
    CERTIFICATES/NAME/trust/…   public keys that it checks signatures with, or seals to

A process makes what is its alone (the key of its audit log, of its answers) in its own folder. This belongs to the demo
profile, like the CA: file keys.
"""

from __future__ import annotations

import os
import secrets as randomness
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from deploy.certificates import files
from deploy.topology import OPERATOR, Kind, Secret, Topology
from runtime.keys import FileKeyRing

REGISTER = "register"
WITNESS = "witness"
CLEARANCE = "clearance"
LINEAGE = "lineage"
POOL = "pool-cloud"

_SIGNING = {
    Secret.REGISTER_SIGNING: REGISTER,
    Secret.WITNESS_SIGNING: WITNESS,
    Secret.CLEARANCE_SIGNING: CLEARANCE,
}
_TRUSTED: Mapping[Kind, tuple[str, ...]] = {
    Kind.GATEWAY: (REGISTER, WITNESS, CLEARANCE, POOL),
    Kind.CLEARANCE: (REGISTER, WITNESS),
    Kind.WITNESS: (REGISTER,),
    Kind.WORKER: (CLEARANCE,),
}
_OPERATOR_TRUSTS = (REGISTER, WITNESS)


def distribute(folder: Path, topology: Topology) -> None:
    """Make the shared keys under the certificates' ``folder`` and hand each process its own; what is there stays."""
    ring = FileKeyRing(folder / "ca" / "keys")
    private = _private(ring)
    public = _public(ring)
    for service in topology:
        home = files(folder, service.name).folder
        for secret in service.secrets:
            if secret in private:
                name, read = private[secret]
                _keep(home / "keys" / name, read(), 0o600)
        for name in _TRUSTED.get(service.kind, ()):
            _keep(home / "trust" / _public_name(name), public[name], 0o644)
    for name in _OPERATOR_TRUSTS:
        _keep(files(folder, OPERATOR.name).folder / "trust" / _public_name(name), public[name], 0o644)


def _private(ring: FileKeyRing) -> dict[Secret, tuple[str, Callable[[], bytes]]]:
    found: dict[Secret, tuple[str, Callable[[], bytes]]] = {
        secret: (f"{name}.ed25519", ring.signing(name).private_bytes_raw) for secret, name in _SIGNING.items()
    }
    found[Secret.CLOUD_SEALING] = (f"{POOL}.x25519", ring.sealing(POOL).private_bytes_raw)
    found[Secret.LINEAGE] = (f"{LINEAGE}.hmac", lambda: ring.secret(LINEAGE))
    return found


def _public(ring: FileKeyRing) -> dict[str, bytes]:
    raw = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    found = {name: ring.signing(name).public_key().public_bytes(*raw) for name in _SIGNING.values()}
    return found | {POOL: ring.sealing(POOL).public_key().public_bytes(*raw)}


def _public_name(name: str) -> str:
    return f"{name}.x25519.pub" if name == POOL else f"{name}.ed25519.pub"


def _keep(path: Path, raw: bytes, mode: int) -> None:
    if path.exists() and path.read_bytes() == raw:
        return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_name(f".{path.name}.{randomness.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.write(descriptor, raw)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)
