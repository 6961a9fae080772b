"""What a native stack remembers between commands: which topology it is, where its data lie, and its ports."""

from __future__ import annotations

import hashlib
import os
import random
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from deploy import topology as topologies
from deploy.site import Site, listeners
from deploy.topology import Topology
from runtime.errors import ConfigurationError

_FILE = "site.json"
_PORTS = range(20_000, 30_000)  # below the kernel's ephemeral ports, which outgoing connections would take
_ATTEMPTS = 200


class State(msgspec.Struct, frozen=True):
    topology: str
    database_root: str
    ports: dict[str, int]
    options: dict[str, str] = {}


def root_of(state_dir: Path) -> Path:
    return state_dir.absolute() / "stack"


def load(state_dir: Path) -> Site | None:
    """The stack under ``state_dir``; None where there is none.

    Raises:
        ConfigurationError: its record is damaged.
    """
    path = root_of(state_dir) / _FILE
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError):
        raise ConfigurationError(f"the stack's record {path} is damaged") from None
    return Site(
        topologies.named(state.topology),
        root_of(state_dir),
        Path(state.database_root),
        state.ports,
        options=state.options,
    )


def create(
    state_dir: Path,
    topology: Topology,
    remembered: Site | None = None,
    options: Mapping[str, str] | None = None,
) -> Site:
    """A site for ``topology`` under ``state_dir``, keeping the ports that ``remembered`` has and are still free.

    Args:
        options: as in ``Site``; None keeps those that are remembered.
    """
    root = root_of(state_dir)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    ports = allocate(topology, dict(remembered.ports) if remembered else {})
    database_root = remembered.database_root if remembered else _database_root(root)
    chosen = dict(options if options is not None else remembered.options if remembered else {})
    state = State(topology.name, str(database_root), ports, chosen)
    draft = root / f".{_FILE}"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
    draft.replace(root / _FILE)
    return Site(topology, root, database_root, ports, options=chosen)


def allocate(topology: Topology, remembered: dict[str, int]) -> dict[str, int]:
    """A free port for each listener: the remembered one, a public listener's own number, or any.

    Raises:
        ConfigurationError: no free port was found.
    """
    chosen: dict[str, int] = {}
    for name, port in listeners(topology).items():
        wishes = [remembered[name]] if name in remembered else []
        wishes += [port.number] if port.public else []
        wishes += random.sample(_PORTS, _ATTEMPTS)
        taken = set(chosen.values()) | (set(remembered.values()) - {remembered.get(name)})
        free = next((wish for wish in wishes if wish not in taken and is_free(wish)), None)
        if free is None:
            raise ConfigurationError("no free port was found on the loopback address")
        chosen[name] = free
    return chosen


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _database_root(root: Path) -> Path:
    """Beside everything else, but for root, whose home other accounts may not enter."""
    if os.geteuid() != 0:
        return root / "services"
    return Path("/var/lib/watershed") / hashlib.sha256(str(root).encode()).hexdigest()[:12]
