"""Our own processes: ``watershed serve | node | worker | clear | witness``, each with a settings file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.native import packages
from deploy.native.driver import Launch, answers_https
from deploy.native.mariadb import GRANTS
from deploy.site import Site
from deploy.topology import OPERATOR, Kind, Service

OPTIONS: Mapping[Kind, frozenset[str]] = {
    Kind.GATEWAY: frozenset({"cloud_url", "cloud_model", "onprem_model", "policy"}),
    Kind.CLEARANCE: frozenset({"cloud_url", "policy"}),
    Kind.WITNESS: frozenset(),
    Kind.NODE: frozenset({"onprem_url", "onprem_key_file", "onprem_ca_file", "model_cache_dir"}),
    Kind.WORKER: frozenset({"cloud_url", "cloud_key_file", "model_cache_dir"}),
}
"""Which of ``Site.options`` each kind is told: credentials go to nobody else."""

_RUNS_MODELS = frozenset({Kind.NODE, Kind.WORKER})
_USES_KAFKA = frozenset({Kind.GATEWAY, Kind.CLEARANCE, Kind.WORKER})
_KEEPS_AUDIT = frozenset({Kind.GATEWAY, Kind.CLEARANCE})


def requirements() -> Sequence[packages.Requirement]:
    return (packages.PythonModule("aiokafka", 5), packages.PythonModule("aiomysql", 1))


def needs(site: Site, service: Service) -> Sequence[str]:
    return service.needs


def prepare(site: Site, service: Service) -> None:
    home = site.home(service)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(home / "watershed.toml", settings(site, service))


def launch(site: Site, service: Service) -> Launch:
    home = site.home(service)
    program = str(Path(sys.executable).with_name("watershed"))
    # Models share the machine with the brokers, which must not starve.
    polite = ("nice", "-n", "10") if service.kind is Kind.NODE else ()
    environment = {**dict(service.environment), "WATERSHED_CONFIG": str(home / "watershed.toml")}
    return Launch((*polite, program, *service.command), cwd=home, environment=environment)


def healthy(site: Site, service: Service) -> bool:
    return answers_https(site, service, service.health.port, service.health.path or "/readyz")


def settle(site: Site, services: Sequence[Service]) -> None:
    """Nothing: what they need is made by the services that they need."""


def settings(site: Site, service: Service) -> dict[str, str | int]:
    """The settings file's values, by the names of ``runtime.settings.Settings``."""
    listen, files = site.listen(service, "https"), site.files(service.name)
    values: dict[str, str | int] = {
        "instance": service.name,
        "state_dir": str(site.home(service) / "state"),
        "identity_dir": str(files.folder),
        "host": listen.host,
        "port": listen.port,
        "tls_cert": str(files.certificate),
        "tls_key": str(files.key),
        "log_format": "json",
    }
    if service.kind in _RUNS_MODELS:
        values["model_cache_dir"] = str(site.root.parent / "models")  # one for all, and for `watershed serve`
    values |= {name: value for name, value in site.options.items() if name in OPTIONS[service.kind]}
    if any(port.name == "admin" for port in service.ports):
        admin = site.listen(service, "admin")
        values |= {"admin_host": admin.host, "admin_port": admin.port}
    if service.kind.value in GRANTS:
        values["database_url"] = site.database_url(service.name)
    if service.kind in _USES_KAFKA:
        values["kafka_servers"] = site.bootstrap()
    if service.kind in _KEEPS_AUDIT:
        (witness,) = site.topology.of(Kind.WITNESS)
        values |= {"audit_root": str(site.audit_root), "witness_url": site.https_url(witness)}
    if service.kind is Kind.GATEWAY:
        (authority,) = site.topology.of(Kind.CLEARANCE)
        nodes = sorted(site.topology.of(Kind.NODE), key=lambda node: node.az is not service.az)
        values["authority_url"] = site.https_url(authority)
        values["node_urls"] = ",".join(map(site.https_url, nodes))
    return values


def operator_settings_file(site: Site) -> Path:
    """What ``WATERSHED_CONFIG`` names for commands about the stack: ``keys``, ``audit``, ``migrate``."""
    return site.root / "operator.toml"


def write_operator_settings(site: Site) -> None:
    (witness,) = site.topology.of(Kind.WITNESS)
    values: dict[str, str | int] = {
        "instance": OPERATOR.name,
        "state_dir": str(site.root / "operator"),
        "identity_dir": str(site.files(OPERATOR.name).folder),
        "database_url": site.database_url(OPERATOR.name),
        "audit_root": str(site.audit_root),
        "witness_root": str(site.home(witness) / "state" / "witness"),
    }
    _write(operator_settings_file(site), values)


def _write(path: Path, values: Mapping[str, str | int]) -> None:
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
    path.write_text("".join(lines), encoding="utf-8")
