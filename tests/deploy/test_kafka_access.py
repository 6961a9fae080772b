"""The file of topics and ACLs: least privilege, role by role."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import kafka_access, topology
from deploy.kafka_access import Grant
from runtime.errors import ConfigurationError

REQUESTS = "watershed.inference.requests"
RESPONSES = "watershed.inference.responses"


def _may(principal: str) -> set[tuple[str, str]]:
    grants = kafka_access.grants(kafka_access.load(), topology.full())
    return {(grant.resource, grant.operation) for grant in grants if grant.principal == f"User:{principal}"}


def test_requests_go_one_way_and_responses_the_other() -> None:
    assert (REQUESTS, "write") in _may("gateway-b")
    assert (REQUESTS, "read") not in _may("gateway-b")
    assert (RESPONSES, "write") not in _may("gateway-b")
    assert (REQUESTS, "read") in _may("worker-b")
    assert (REQUESTS, "write") not in _may("worker-b")
    assert (RESPONSES, "read") not in _may("worker-b")


def test_workers_cannot_touch_the_audit_and_cannot_write_control() -> None:
    for worker in ("worker-a", "worker-b"):
        assert not {resource for resource, _ in _may(worker)} & {"watershed.audit"}
        assert ("watershed.control", "write") not in _may(worker)


def test_identities_without_a_role_in_the_file_may_do_nothing() -> None:
    for name in ("haproxy", "object-store", "mariadb-a", "operator"):
        assert _may(name) == set()


def test_each_identity_of_a_role_has_the_same_rights() -> None:
    assert _may("gateway-a") == _may("gateway-b") != set()


def test_responses_have_a_partition_for_each_of_64_gateways_and_messages_outlive_the_longest_deadline() -> None:
    topics = kafka_access.load().topics
    assert topics[RESPONSES].partitions == 64
    for name in (REQUESTS, RESPONSES):
        assert topics[name].config["retention.ms"] == (600 + 10 * 60) * 1000
        assert topics[name].config["segment.ms"] == 5 * 60 * 1000


def test_no_grant_is_a_wildcard() -> None:
    for grant in kafka_access.grants(kafka_access.load(), topology.full()):
        assert isinstance(grant, Grant)
        assert grant.resource != "*"
        assert grant.operation in {"read", "write"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("topics: {}\nroles: {gateway: {write: [nowhere]}}", "unknown topics: nowhere"),
        ("topics: {}\nroles: {intruder: {}}", "no service has the role intruder"),
        ("topics: {}\nroles: {gateway: {delete: []}}", "delete"),
        ("topics: {a: {partitions: many}}\nroles: {}", "int"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "acls.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=fault):
        kafka_access.load(path)
