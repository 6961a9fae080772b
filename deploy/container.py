"""One service in one container: the same drivers as the native stack, with names for addresses.

    python -m deploy.container setup         certificates and keys for every service (once, before all others)
    python -m deploy.container run NAME      prepare, then become the service
    python -m deploy.container check NAME    exit 0 once it is healthy and what its clients need inside it is made

Each container mounts its own data, its own identity and nobody else's; only ``setup`` sees the CA.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deploy import certificates, keys, topology
from deploy.native import s3
from deploy.native.drivers import DRIVERS
from deploy.site import Site, listeners
from runtime.errors import ConfigurationError, WatershedError

ROOT = Path("/var/lib/watershed")
ACCOUNT_ID = 10001
_MARK = "settled"


def site(root: Path = ROOT) -> Site:
    """The full topology, each service under its own name and its container's port numbers."""
    shape = topology.full()
    return Site(
        topology=shape,
        root=root,
        database_root=root / "services",
        ports={name: port.number for name, port in listeners(shape).items()},
        hosts={service.name: service.name for service in shape},
        bind="0.0.0.0",  # noqa: S104 - the container's own networks say who reaches it
    )


def setup(place: Site) -> None:
    """Issue what is missing or due and hand it to the account that services run as."""
    certificates.issue(place.certificates_dir, place.topology.identities())
    s3.make_keys(place)
    keys.distribute(place.certificates_dir, place.topology)
    for identity in place.topology.identities():
        folder = place.files(identity.name).folder
        for path in (folder, *folder.rglob("*")):
            os.chown(path, ACCOUNT_ID, ACCOUNT_ID)


def run(place: Site, name: str) -> None:
    """Become the service; does not return."""
    service = place.topology[name]
    driver = DRIVERS[service.kind]
    driver.prepare(place, service)
    (place.home(service) / _MARK).unlink(missing_ok=True)
    launch = driver.launch(place, service)
    os.chdir(launch.cwd)
    os.execvpe(launch.argv[0], list(launch.argv), {**os.environ, **launch.environment})  # noqa: S606


def check(place: Site, name: str) -> bool:
    """Whether the service is healthy; the first of its kind also makes topics, accounts or buckets, once a start.

    Raises:
        ConfigurationError: it is healthy, but refuses its set-up.
    """
    service = place.topology[name]
    driver = DRIVERS[service.kind]
    if not driver.healthy(place, service):
        return False
    mark = place.home(service) / _MARK
    if service == place.topology.of(service.kind)[0] and not mark.exists():
        driver.settle(place, [service])
        mark.touch()
    return True


def main(arguments: list[str]) -> int:
    match arguments:
        case ["setup"]:
            setup(site())
        case ["run", name]:
            run(site(), name)
        case ["check", name]:
            return 0 if check(site(), name) else 1
        case _:
            raise ConfigurationError("usage: python -m deploy.container setup | run NAME | check NAME")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except WatershedError as error:
        sys.exit(f"error: {error.message}")
