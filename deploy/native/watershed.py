"""Our own processes: ``watershed serve | node | worker | clear | witness``, each with a settings file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.native import packages
from deploy.native.driver import Launch, answers_https
from deploy.native.mariadb import GRANTS
from deploy.site import Site
from deploy.topology import Kind, Service


def requirements() -> Sequence[packages.Requirement]:
    return ()


def needs(site: Site, service: Service) -> Sequence[str]:
    return service.needs


def prepare(site: Site, service: Service) -> None:
    home = site.home(service)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings(site, service).items()]
    (home / "watershed.toml").write_text("".join(lines), encoding="utf-8")


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
        "state_dir": str(site.home(service) / "state"),
        "host": listen.host,
        "port": listen.port,
        "tls_cert": str(files.certificate),
        "tls_key": str(files.key),
        "log_format": "json",
    }
    if any(port.name == "admin" for port in service.ports):
        admin = site.listen(service, "admin")
        values |= {"admin_host": admin.host, "admin_port": admin.port}
    if service.kind.value in GRANTS:
        values["database_url"] = site.database_urls(service.name)[0]
    return values
