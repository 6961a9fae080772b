"""One small native stack for every system test of ``deploy``: a broker, a database, an object store, HAProxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import topology
from deploy.native import packages
from deploy.native.drivers import DRIVERS
from deploy.native.supervisor import Supervisor, open_stack
from deploy.site import Site, listeners
from deploy.topology import Topology


def started(folder: Path, shape: Topology) -> Iterator[Supervisor]:
    """``shape`` running under ``folder``; skipped where a package is missing, stopped and wiped afterwards."""
    kinds = {service.kind for service in shape if service.ready}
    if absent := packages.missing(r for kind in kinds for r in DRIVERS[kind].requirements()):
        pytest.skip(f"the native stack needs:\n{packages.describe(absent)}")
    supervisor = open_stack(folder, shape, lambda line: None)
    try:
        supervisor.up()
        yield supervisor
    finally:
        supervisor.down(wipe=True)


@pytest.fixture(scope="session")
def small_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    yield from started(tmp_path_factory.mktemp("small"), topology.small())


@pytest.fixture(scope="module")
def full_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """Both brokers, both database nodes and those that vote with them."""
    yield from started(tmp_path_factory.mktemp("full"), topology.full())


@pytest.fixture
def full_site(tmp_path: Path) -> Site:
    """The full topology put in a place where nothing runs."""
    shape = topology.full()
    return Site(shape, tmp_path, tmp_path / "databases", {name: 21000 + i for i, name in enumerate(listeners(shape))})


@pytest.fixture
def small_site(tmp_path: Path) -> Site:
    shape = topology.small()
    return Site(shape, tmp_path, tmp_path / "databases", {name: 21000 + i for i, name in enumerate(listeners(shape))})
