"""Galera's arbiter (``garbd``): it holds no data and votes, so that either data node may be lost."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.native import galera, mariadb, packages
from deploy.native.driver import Launch, listens
from deploy.site import Site
from deploy.topology import Service


def requirements() -> Sequence[packages.Requirement]:
    return (packages.Debian(("galera-arbitrator-4",), "garbd", 2),)


def needs(site: Site, service: Service) -> Sequence[str]:
    return service.needs


def prepare(site: Site, service: Service) -> None:
    mariadb.copy_tls(site, service)
    mariadb.give_to_account(site.home(service))


def launch(site: Site, service: Service) -> Launch:
    argv = (
        packages.require_program("garbd"),
        f"--address={galera.group_address(site)}",
        f"--group={galera.GROUP}",
        f"--name={service.name}",
        f"--options={galera.provider_options(site, service)}",
    )
    return Launch(argv, cwd=site.home(service), user=galera.account())


def healthy(site: Site, service: Service) -> bool:
    # Looked up, not dialled: garbd was seen to die of a connection that is closed while it joins.
    return listens(site.listen(service, "galera").port)


def settle(site: Site, services: Sequence[Service]) -> None:
    """Nothing: it has no clients."""
