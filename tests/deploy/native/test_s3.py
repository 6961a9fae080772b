"""The object store: policies by identity, and a lock that holds even against the root account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.native import s3
from deploy.native.supervisor import Supervisor
from deploy.site import Site
from deploy.topology import Kind


def test_only_gateways_and_workers_share_objects_and_only_the_witness_has_its_bucket(full_site: Site) -> None:
    policies = s3.bucket_policies(full_site)
    for statement in policies[s3.OBJECTS_BUCKET]["Statement"]:
        assert set(statement["Principal"]["AWS"]) == {"gateway-a", "gateway-b", "worker-a", "worker-b"}
    actions = set()
    for statement in policies[s3.WITNESS_BUCKET]["Statement"]:
        assert statement["Principal"]["AWS"] == ["witness"]
        actions |= set(statement["Action"])
    assert not any("Delete" in action or "Bypass" in action or action.endswith("*") for action in actions)


def test_secrets_are_passed_in_the_environment_and_kept_in_files_of_their_own(small_site: Site) -> None:
    (store,) = small_site.topology.of(Kind.OBJECT_STORE)
    s3.make_keys(small_site)
    root = s3.access_key(small_site, s3.ROOT_ACCOUNT)
    launch = s3.launch(small_site, store)
    assert root.secret not in " ".join(launch.argv)
    assert launch.environment["ROOT_SECRET_KEY"] == root.secret
    assert s3.key_path(small_site, "worker-a").stat().st_mode & 0o777 == 0o600
    s3.make_keys(small_site)
    assert s3.access_key(small_site, s3.ROOT_ACCOUNT) == root


# Against a running store.


def _client(stack: Supervisor, name: str) -> Any:
    (store,) = stack.site.topology.of(Kind.OBJECT_STORE)
    return s3.client(stack.site, store, name)


def _refusal() -> tuple[type[Exception], ...]:
    from botocore.exceptions import ClientError, ConnectionClosedError, SSLError

    # The store hangs up on a refused upload before it has read the body: the client may see that first.
    return ClientError, SSLError, ConnectionClosedError


@pytest.mark.stack
def test_objects_are_versioned(small_stack: Supervisor) -> None:
    gateway, worker = _client(small_stack, "gateway-a"), _client(small_stack, "worker-a")
    first = gateway.put_object(Bucket=s3.OBJECTS_BUCKET, Key="document", Body=b"one")["VersionId"]
    worker.put_object(Bucket=s3.OBJECTS_BUCKET, Key="document", Body=b"two")
    assert gateway.get_object(Bucket=s3.OBJECTS_BUCKET, Key="document")["Body"].read() == b"two"
    old = gateway.head_object(Bucket=s3.OBJECTS_BUCKET, Key="document")
    assert old["VersionId"] != first


@pytest.mark.stack
def test_a_policy_keeps_each_identity_to_its_bucket(small_stack: Supervisor) -> None:
    for name, bucket in (
        ("gateway-a", s3.WITNESS_BUCKET),
        ("worker-a", s3.WITNESS_BUCKET),
        ("witness", s3.OBJECTS_BUCKET),
    ):
        with pytest.raises(_refusal()):
            _client(small_stack, name).put_object(Bucket=bucket, Key="intruder", Body=b"x")
    for bucket in (s3.WITNESS_BUCKET, s3.OBJECTS_BUCKET):
        assert "intruder" not in str(
            _client(small_stack, s3.ROOT_ACCOUNT).list_objects_v2(Bucket=bucket).get("Contents")
        )


@pytest.mark.stack
def test_a_locked_checkpoint_cannot_be_deleted_or_weakened_by_anyone(small_stack: Supervisor) -> None:
    witness, root = _client(small_stack, "witness"), _client(small_stack, s3.ROOT_ACCOUNT)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    version = witness.put_object(
        Bucket=s3.WITNESS_BUCKET,
        Key="checkpoint",
        Body=b"root hash",
        ObjectLockMode="COMPLIANCE",
        ObjectLockRetainUntilDate=until,
    )["VersionId"]
    target = {"Bucket": s3.WITNESS_BUCKET, "Key": "checkpoint", "VersionId": version}
    weaker = {"Mode": "GOVERNANCE", "RetainUntilDate": until}
    sooner = {"Mode": "COMPLIANCE", "RetainUntilDate": until - timedelta(days=1)}
    for client in (witness, root):
        with pytest.raises(_refusal()):
            client.delete_object(**target)
        with pytest.raises(_refusal()):
            client.delete_object(**target, BypassGovernanceRetention=True)
        for retention in (weaker, sooner):
            with pytest.raises(_refusal()):
                client.put_object_retention(**target, Retention=retention, BypassGovernanceRetention=True)
    assert root.get_object(**target)["Body"].read() == b"root hash"
    assert root.get_object_retention(**target)["Retention"]["Mode"] == "COMPLIANCE"


@pytest.mark.stack
def test_an_object_without_a_lock_of_its_own_falls_under_the_buckets(small_stack: Supervisor) -> None:
    version = _client(small_stack, "witness").put_object(Bucket=s3.WITNESS_BUCKET, Key="plain", Body=b"x")["VersionId"]
    with pytest.raises(_refusal()):
        _client(small_stack, s3.ROOT_ACCOUNT).delete_object(Bucket=s3.WITNESS_BUCKET, Key="plain", VersionId=version)
