"""Who holds which key: by the topology, and not one more."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import certificates, keys, topology
from deploy.topology import Kind, Topology, Zone
from runtime.keys import FileKeyRing, trusted_sealing, trusted_signing


@pytest.fixture
def shape() -> Topology:
    return topology.full()


@pytest.fixture
def folder(tmp_path: Path, shape: Topology) -> Path:
    certificates.issue(tmp_path, shape.identities())
    keys.distribute(tmp_path, shape)
    return tmp_path


def held(folder: Path, name: str) -> set[str]:
    private = folder / name / "keys"
    return {path.name for path in private.iterdir()} if private.exists() else set()


def test_each_process_holds_what_its_secrets_say(folder: Path, shape: Topology) -> None:
    by_kind = {service.kind: held(folder, service.name) for service in shape}
    assert by_kind[Kind.GATEWAY] == {"register.ed25519", "lineage.hmac"}
    assert by_kind[Kind.CLEARANCE] == {"clearance.ed25519", "register.ed25519"}
    assert by_kind[Kind.WITNESS] == {"witness.ed25519"}
    assert by_kind[Kind.WORKER] == {"pool-cloud.x25519"}
    assert by_kind[Kind.NODE] == by_kind[Kind.HAPROXY] == by_kind[Kind.BROKER] == set()


def test_only_the_pools_own_key_is_in_the_cloud_zone(folder: Path, shape: Topology) -> None:
    for service in shape:
        if service.zone is Zone.CLOUD:
            assert held(folder, service.name) <= {"pool-cloud.x25519"}


def test_trusted_keys_are_those_of_their_holders(folder: Path) -> None:
    def ring(name: str) -> FileKeyRing:
        return FileKeyRing(folder / name / "keys")

    trust = folder / "gateway-b" / "trust"
    assert trusted_signing(trust, "clearance") == ring("clearance").signing("clearance").public_key()
    assert trusted_signing(trust, "witness") == ring("witness").signing("witness").public_key()
    assert trusted_sealing(trust, "pool-cloud") == ring("worker-a").sealing("pool-cloud").public_key()


def test_processes_of_one_kind_share_what_they_must(folder: Path) -> None:
    for name in ("register.ed25519", "lineage.hmac"):
        assert (folder / "gateway-a/keys" / name).read_bytes() == (folder / "gateway-b/keys" / name).read_bytes()


def test_distributing_again_changes_nothing(folder: Path, shape: Topology) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    keys.distribute(folder, shape)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_private_keys_are_for_their_owner_alone(folder: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in folder.glob("*/keys/*")}
    assert modes == {0o600}
