"""Kafka: what is configured, who gets in, and who may do what."""

from __future__ import annotations

import socket
import ssl
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import certificates, kafka_access
from deploy.certificates import Files, Identity
from deploy.native import kafka
from deploy.native.supervisor import Supervisor
from deploy.site import Site

DEADLINE_S = 20.0
REQUESTS = "watershed.inference.requests"
RESPONSES = "watershed.inference.responses"


def _properties(site: Site, name: str) -> dict[str, str]:
    lines = kafka.server_properties(site, site.topology[name]).splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_every_listener_demands_tls_1_3_and_a_certificate(full_site: Site) -> None:
    for name in ("kafka-a", "kafka-b", "kafka-w"):
        properties = _properties(full_site, name)
        assert {entry.split(":")[1] for entry in properties["listener.security.protocol.map"].split(",")} == {"SSL"}
        assert properties["ssl.client.auth"] == "required"
        assert properties["ssl.enabled.protocols"] == "TLSv1.3"
        assert properties["allow.everyone.if.no.acl.found"] == "false"


def test_three_voters_of_which_one_is_no_broker(full_site: Site) -> None:
    ids = {_properties(full_site, name)["node.id"] for name in ("kafka-a", "kafka-b", "kafka-w")}
    voters = {voter.split("@")[0] for voter in _properties(full_site, "kafka-a")["controller.quorum.voters"].split(",")}
    assert ids == voters == {"1", "2", "3"}
    assert _properties(full_site, "kafka-w")["process.roles"] == "controller"


def test_only_brokers_controllers_and_the_operator_are_super_users(full_site: Site) -> None:
    supers = set(_properties(full_site, "kafka-a")["super.users"].split(";"))
    assert supers == {"User:kafka-a", "User:kafka-b", "User:kafka-w", "User:operator"}


def test_records_survive_the_loss_of_a_broker(full_site: Site, small_site: Site) -> None:
    properties = _properties(full_site, "kafka-a")
    assert properties["default.replication.factor"] == properties["offsets.topic.replication.factor"] == "2"
    assert properties["unclean.leader.election.enable"] == "false"
    assert _properties(small_site, "kafka-a")["default.replication.factor"] == "1"


def test_brokers_under_one_ca_agree_on_the_cluster(full_site: Site) -> None:
    certificates.issue(full_site.certificates_dir, full_site.topology.identities())
    ids = {kafka.cluster_id(full_site, full_site.topology[name]) for name in ("kafka-a", "kafka-b", "kafka-w")}
    assert len(ids) == 1
    assert len(ids.pop()) == 22


# Against a running broker.


def _greeting(stack: Supervisor, files: Files, *, with_certificate: bool = True, highest: ssl.TLSVersion) -> str:
    """What the broker does with a client: ``refused`` or ``accepted`` (it waits for a request)."""
    broker = stack.site.topology["kafka-a"]
    context = ssl.create_default_context(cafile=str(stack.site.files("operator").ca))
    context.maximum_version = highest
    if with_certificate:
        context.load_cert_chain(files.identity)
    address = stack.site.address(broker, "client")
    with socket.create_connection((address.host, address.port), timeout=DEADLINE_S) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as secured:
                secured.settimeout(1.0)  # a client that is let in is waited for
                return "accepted" if secured.recv(1) else "refused"
        except TimeoutError:
            return "accepted"
        except (ssl.SSLError, ConnectionError):
            return "refused"


@pytest.mark.stack
def test_a_client_is_let_in_only_with_our_certificate_and_tls_1_3(small_stack: Supervisor, tmp_path: Path) -> None:
    ours = small_stack.site.files("gateway-a")
    certificates.issue(tmp_path, [Identity("gateway-a", "gateway")])
    theirs = certificates.files(tmp_path, "gateway-a")
    newest, older = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2
    assert _greeting(small_stack, ours, highest=newest) == "accepted"
    assert _greeting(small_stack, ours, with_certificate=False, highest=newest) == "refused"
    assert _greeting(small_stack, theirs, highest=newest) == "refused"
    assert _greeting(small_stack, ours, highest=older) == "refused"


@pytest.mark.stack
def test_a_client_that_speaks_no_tls_is_refused(small_stack: Supervisor) -> None:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    plain = {"bootstrap.servers": small_stack.site.bootstrap(), "security.protocol": "plaintext", "log_level": 0}
    with pytest.raises(KafkaException):
        AdminClient(plain).list_topics(timeout=2)


def _produce(stack: Supervisor, name: str, topic: str, value: bytes) -> Any:
    """The broker's error for one record, or None."""
    from confluent_kafka import Producer

    outcome: list[Any] = []
    settings = {**kafka_access.client_config(stack.site, name), "acks": "all", "enable.idempotence": True}
    producer = Producer({**settings, "message.timeout.ms": int(DEADLINE_S * 1000)})
    producer.produce(topic, value, on_delivery=lambda error, _message: outcome.append(error))
    producer.flush(DEADLINE_S)
    return outcome[0] if outcome else "no answer"


def _consume(stack: Supervisor, name: str, topic: str, group: str, wanted: Callable[[Any], bool]) -> Any:
    """The first message or error for which ``wanted`` holds, None after the deadline."""
    import time

    from confluent_kafka import Consumer

    settings = {**kafka_access.client_config(stack.site, name), "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, "group.id": group, "session.timeout.ms": 3000, "heartbeat.interval.ms": 500})
    consumer.subscribe([topic])
    end = time.monotonic() + DEADLINE_S
    try:
        while time.monotonic() < end:
            message = consumer.poll(0.5)
            if message is not None and wanted(message):
                return message
        return None
    finally:
        consumer.close()


@pytest.mark.stack
def test_a_gateway_produces_requests_and_a_worker_consumes_them(small_stack: Supervisor) -> None:
    canary = uuid.uuid4().bytes
    assert _produce(small_stack, "gateway-a", REQUESTS, canary) is None
    message = _consume(small_stack, "worker-a", REQUESTS, "watershed.workers", lambda m: m.value() == canary)
    assert message is not None
    assert message.error() is None


@pytest.mark.stack
def test_what_no_acl_allows_is_refused(small_stack: Supervisor) -> None:
    from confluent_kafka import KafkaError

    denied = KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert _produce(small_stack, "worker-a", REQUESTS, b"x").code() == denied
    assert _produce(small_stack, "gateway-a", RESPONSES, b"x").code() == denied
    assert _produce(small_stack, "object-store", REQUESTS, b"x").code() == denied
    failure = _consume(small_stack, "worker-a", REQUESTS, "watershed.others", lambda m: m.error() is not None)
    assert failure is not None
    assert failure.error().code() == KafkaError.GROUP_AUTHORIZATION_FAILED


@pytest.mark.stack
def test_topics_and_acls_are_exactly_those_of_the_file(small_stack: Supervisor) -> None:
    from confluent_kafka.admin import (
        AclBinding,
        AclBindingFilter,
        AclOperation,
        AclPermissionType,
        AdminClient,
        ResourcePatternType,
        ResourceType,
    )

    admin = AdminClient(kafka_access.client_config(small_stack.site, "operator"))
    access = kafka_access.load()
    stray = AclBinding(
        ResourceType.TOPIC,
        REQUESTS,
        ResourcePatternType.LITERAL,
        "User:intruder",
        "*",
        AclOperation.ALL,
        AclPermissionType.ALLOW,
    )
    for future in admin.create_acls([stray]).values():
        future.result(DEADLINE_S)
    kafka_access.apply(small_stack.site, access)
    every = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    standing = {
        (a.principal, a.restype.name.lower(), a.name, a.operation.name.lower())
        for a in admin.describe_acls(every).result(DEADLINE_S)
    }
    wanted = kafka_access.grants(access, small_stack.site.topology)
    assert standing == {(g.principal, g.kind, g.resource, g.operation) for g in wanted}
    topics = admin.list_topics(timeout=DEADLINE_S).topics
    assert {name: len(topics[name].partitions) for name in access.topics} == {
        name: topic.partitions for name, topic in access.topics.items()
    }


@pytest.mark.stack
def test_a_denied_identity_is_shut_out_until_it_is_readmitted(small_stack: Supervisor) -> None:
    from confluent_kafka import KafkaError

    kafka_access.deny(small_stack.site, "gateway-a")
    try:
        kafka_access.apply(small_stack.site, kafka_access.load())  # what the file allows changes nothing
        assert _produce(small_stack, "gateway-a", REQUESTS, b"x").code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    finally:
        kafka_access.readmit(small_stack.site, "gateway-a")
    assert _produce(small_stack, "gateway-a", REQUESTS, b"x") is None
