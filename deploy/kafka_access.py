"""Kafka's topics and ACLs, from ``kafka-acls.yaml``; and the DENY that shuts out a revoked identity.

The file speaks of roles. Kafka's ACLs know only names, so each rule is written for every identity of its role. What
stands in the broker beyond the file is removed: the file is the whole truth (DENY entries of revoked identities stay).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from deploy.site import Site
from deploy.topology import OPERATOR, Kind, Topology
from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from confluent_kafka.admin import AclBinding, AdminClient

ACCESS_FILE = Path(__file__).with_name("kafka-acls.yaml")
TIMEOUT_S = 15.0
_PROBE_S = 2.0
_POLL_S = 0.05


class Topic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    partitions: int
    config: dict[str, int | str] = {}


class Rights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one role may do: topics by name, consumer groups by name."""

    write: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    topics: dict[str, Topic]
    roles: dict[str, Rights]


class Grant(msgspec.Struct, frozen=True, order=True):
    """One ACL: ``principal`` may do ``operation`` on the topic or group ``resource``, literally by that name."""

    principal: str
    kind: str
    resource: str
    operation: str


def load(path: Path = ACCESS_FILE) -> Access:
    """Raises ConfigurationError for a file that does not fit, or that grants a topic which it does not create."""
    try:
        access = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), Access)
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{path.name}: {error}") from None
    kinds = {kind.value for kind in Kind}
    for role, rights in access.roles.items():
        if role not in kinds:
            raise ConfigurationError(f"{path.name}: no service has the role {role}")
        if unknown := {*rights.read, *rights.write} - access.topics.keys():
            raise ConfigurationError(f"{path.name}: {role} is granted unknown topics: {', '.join(sorted(unknown))}")
    return access


def grants(access: Access, topology: Topology) -> frozenset[Grant]:
    """Every ACL of the stack. READ and WRITE imply DESCRIBE."""
    found: set[Grant] = set()
    for service in topology:
        rights = access.roles.get(service.kind.value, Rights())
        principal = f"User:{service.name}"
        found.update(Grant(principal, "topic", topic, "write") for topic in rights.write)
        found.update(Grant(principal, "topic", topic, "read") for topic in rights.read)
        found.update(Grant(principal, "group", group, "read") for group in rights.groups)
    return frozenset(found)


def client_config(site: Site, name: str, servers: str | None = None) -> dict[str, Any]:
    """librdkafka's settings for the identity ``name``; by default towards every broker."""
    files = site.files(name)
    return {
        "bootstrap.servers": servers or site.bootstrap(),
        "security.protocol": "ssl",
        "ssl.ca.location": str(files.ca),
        "ssl.certificate.location": str(files.certificate),
        "ssl.key.location": str(files.key),
        "socket.timeout.ms": 5000,
        "log_level": 0,  # refused connections are an answer here, not news
    }


def brokers(site: Site, name: str, servers: str) -> frozenset[int]:
    """Ids of the unfenced brokers, as the broker at ``servers`` knows them; empty where it does not answer."""
    from confluent_kafka import KafkaException

    try:
        client = _admin(site, name, servers)
        metadata = client.list_topics(timeout=_PROBE_S)
    except KafkaException:
        return frozenset()
    return frozenset(metadata.brokers)


def apply(site: Site, access: Access, name: str = OPERATOR.name) -> None:
    """Create missing topics, set the configuration of all, and make the ACLs equal to the file's.

    Args:
        name: the super user that does it.

    Raises:
        ConfigurationError: the cluster refuses or does not answer.
    """
    from confluent_kafka import KafkaException

    try:
        client = _admin(site, name)
        stations = site.topology.of(Kind.BROKER)
        _apply_topics(client, access.topics, replicas=min(2, len(stations)))
        bindings = {_binding(grant) for grant in grants(access, site.topology)}
        _apply_bindings(client, bindings)
        for broker in stations:
            _await_bindings(_admin(site, name, str(site.address(broker, "client"))), bindings)
    except KafkaException as error:
        raise ConfigurationError(f"Kafka refuses topics or ACLs: {error.args[0]}") from None


def deny(site: Site, name: str) -> None:
    """Refuse everything to the identity ``name`` from now on, whatever is allowed to it.

    Raises:
        ConfigurationError: the cluster refuses or does not answer.
    """
    from confluent_kafka import KafkaException

    try:
        client = _admin(site, OPERATOR.name)
        _wait(client.create_acls(_denials(name)))
    except KafkaException as error:
        raise ConfigurationError(f"Kafka refuses the DENY entry: {error.args[0]}") from None


def readmit(site: Site, name: str) -> None:
    """Take the DENY entries of ``name`` away again, after its certificate was replaced."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import (
        AclBindingFilter,
        AclOperation,
        AclPermissionType,
        ResourcePatternType,
        ResourceType,
    )

    entries = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, f"User:{name}", None, AclOperation.ANY, AclPermissionType.DENY
    )
    try:
        client = _admin(site, OPERATOR.name)
        _wait(client.delete_acls([entries]))
    except KafkaException as error:
        raise ConfigurationError(f"Kafka keeps the DENY entry: {error.args[0]}") from None


def _admin(site: Site, name: str, servers: str | None = None) -> AdminClient:
    from confluent_kafka.admin import AdminClient

    return AdminClient(client_config(site, name, servers))


def _wait(futures: Mapping[Any, Any]) -> None:
    for future in futures.values():
        future.result(TIMEOUT_S)


def _apply_topics(client: AdminClient, topics: Mapping[str, Topic], replicas: int) -> None:
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
    from confluent_kafka.cimpl import NewTopic

    present = client.list_topics(timeout=TIMEOUT_S).topics
    new = [
        NewTopic(name, num_partitions=topic.partitions, replication_factor=replicas)
        for name, topic in topics.items()
        if name not in present
    ]
    if new:
        _wait(client.create_topics(new, operation_timeout=TIMEOUT_S))
    configs = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            name,
            incremental_configs=[
                ConfigEntry(key, str(value), incremental_operation=AlterConfigOpType.SET)
                for key, value in topic.config.items()
            ],
        )
        for name, topic in topics.items()
        if topic.config
    ]
    _wait(client.incremental_alter_configs(configs))


def _apply_bindings(client: AdminClient, wanted: set[AclBinding]) -> None:
    standing = _allowed(client)
    if wanted - standing:
        _wait(client.create_acls(list(wanted - standing)))
    if stale := standing - wanted:
        _wait(client.delete_acls([_filter(binding) for binding in stale]))


def _await_bindings(client: AdminClient, wanted: set[AclBinding]) -> None:
    """The controller has them; each broker judges by them only once it has read so far.

    A client that comes earlier is refused, and for an idempotent producer that is fatal.
    """
    deadline = time.monotonic() + TIMEOUT_S
    while _allowed(client) != wanted:
        if time.monotonic() > deadline:
            raise ConfigurationError("a Kafka broker does not take up its ACLs", code="acls_pending")
        time.sleep(_POLL_S)


def _allowed(client: AdminClient) -> set[AclBinding]:
    from confluent_kafka.admin import (
        AclBindingFilter,
        AclOperation,
        AclPermissionType,
        ResourcePatternType,
        ResourceType,
    )

    every = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ALLOW
    )
    return set(client.describe_acls(every).result(TIMEOUT_S))


def _binding(grant: Grant) -> AclBinding:
    from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

    return AclBinding(
        ResourceType[grant.kind.upper()],
        grant.resource,
        ResourcePatternType.LITERAL,
        grant.principal,
        "*",
        AclOperation[grant.operation.upper()],
        AclPermissionType.ALLOW,
    )


def _filter(binding: AclBinding) -> Any:
    from confluent_kafka.admin import AclBindingFilter

    return AclBindingFilter(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )


def _denials(name: str) -> list[AclBinding]:
    from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

    return [
        AclBinding(
            kind, "*", ResourcePatternType.LITERAL, f"User:{name}", "*", AclOperation.ALL, AclPermissionType.DENY
        )
        for kind in (ResourceType.TOPIC, ResourceType.GROUP)
    ]
