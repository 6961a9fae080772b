"""What the Galera data nodes and their arbiter share: the group's timings, its TLS, and who may found it.

All members need the same eviction timings: an inactive timeout of 2 s would split the survivors into non-primary parts.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from deploy.native.driver import accepts_tcp
from deploy.native.packages import require_program
from deploy.site import Site
from deploy.topology import Kind, Service

GROUP = "watershed"
ACCOUNT = "mysql"
CONFIGURATION = "my.cnf"
_TIMINGS = {
    "evs.keepalive_period": "PT0.3S",
    "evs.inactive_check_period": "PT0.3S",
    "evs.suspect_timeout": "PT1.5S",
    "evs.inactive_timeout": "PT5S",
    "evs.install_timeout": "PT4S",
    "evs.join_retrans_period": "PT0.3S",
    "gmcast.peer_timeout": "PT1.5S",
}
_RECOVER_TIMEOUT_S = 60


def provider_options(site: Site, service: Service, extra: dict[str, str] | None = None) -> str:
    """Galera's ``wsrep_provider_options`` for one member."""
    tls = local_tls(site, service)
    options = {
        "base_port": str(site.ports[f"{service.name}/galera"]),
        "gmcast.listen_addr": f"ssl://{site.listen(service, 'galera')}",
        "socket.ssl": "yes",
        "socket.ssl_key": str(tls / "key.pem"),
        "socket.ssl_cert": str(tls / "certificate.pem"),
        "socket.ssl_ca": str(tls / "ca.pem"),
        **_TIMINGS,
        **(extra or {}),
    }
    return ";".join(f"{name}={value}" for name, value in options.items())


def group_address(site: Site) -> str:
    nodes = site.topology.of(Kind.MARIADB)
    return "gcomm://" + ",".join(str(site.address(node, "galera")) for node in nodes)


def local_tls(site: Site, service: Service) -> Path:
    """The copy of a member's certificate that the database account may read."""
    return site.home(service) / "tls"


def is_replicated(site: Site) -> bool:
    return len(site.topology.of(Kind.MARIADB)) > 1


def founder(site: Site) -> str | None:
    """The data node that others must wait for, and that starts a new group where none is alive.

    The node that was last to stop (Galera marks it); before the first start, the first; after a crash of all, the most
    advanced, but only where every node's data can be compared. None: nobody may found the group; each node looks for
    its peers until enough of them are back.
    """
    nodes = site.topology.of(Kind.MARIADB)
    alive = [node.name for node in nodes if _serves(site, node)]
    if alive:
        return alive[0]
    states = {node.name: _read_state(_data(site, node)) for node in nodes}
    if safe := [name for name, state in states.items() if state is not None and state[1]]:
        return safe[0]
    if not any(states.values()):
        return nodes[0].name
    if all(site.home(node).exists() for node in nodes):
        return max(nodes, key=lambda node: _position(site, node)).name
    return None


def founds(site: Site, service: Service) -> bool:
    """Whether this node, started now, must start a new group."""
    others = [node for node in site.topology.of(Kind.MARIADB) if node != service]
    return founder(site) == service.name and not any(_serves(site, other) for other in others)


def allow_founding(site: Site, service: Service) -> None:
    """Mark the data as the most advanced, as Galera demands of a founder."""
    path = _data(site, service) / "grastate.dat"
    if path.exists():
        path.write_text(
            re.sub(r"safe_to_bootstrap:\s*0", "safe_to_bootstrap: 1", path.read_text(encoding="ascii")),
            encoding="ascii",
        )


def _serves(site: Site, node: Service) -> bool:
    # Never asked at the group's own port: a member that is just joining does not bear a stranger who hangs up.
    return accepts_tcp(site.address(node, "sql"))


def _data(site: Site, service: Service) -> Path:
    return site.home(service) / "data"


def _read_state(data: Path) -> tuple[int, bool] | None:
    """Sequence number and whether it is safe to start from; None where there is no state."""
    try:
        text = (data / "grastate.dat").read_text(encoding="ascii")
    except OSError:
        return None
    sequence = re.search(r"^seqno:\s*(-?\d+)", text, re.MULTILINE)
    safe = re.search(r"^safe_to_bootstrap:\s*1", text, re.MULTILINE)
    return (int(sequence[1]) if sequence else -1, safe is not None)


def start_position(site: Site, service: Service) -> str | None:
    """``GROUP-UUID:SEQUENCE`` of a node that crashed, read from its storage engine.

    With it the node asks its peers only for what it missed; without it, for all data. None: there is nothing to say.
    """
    state = _read_state(_data(site, service))
    if state is None or state[0] >= 0:
        return None
    log = site.home(service) / "recover.log"
    log.unlink(missing_ok=True)
    subprocess.run(  # noqa: S603
        (
            require_program("mariadbd"),
            f"--defaults-file={site.home(service) / CONFIGURATION}",
            "--wsrep-recover",
            f"--log-error={log}",
        ),
        timeout=_RECOVER_TIMEOUT_S,
        check=False,
        capture_output=True,
        user=account(),
    )
    found = re.search(r"Recovered position:\s*([0-9a-f-]{36}:\d+)", log.read_text(encoding="utf-8", errors="replace"))
    return found[1] if found else None


def account() -> str | None:
    """The account that members run as where root starts them; None otherwise."""
    return ACCOUNT if os.geteuid() == 0 else None


def _position(site: Site, service: Service) -> int:
    """The last transaction of a stopped node."""
    state = _read_state(_data(site, service))
    if state is None:
        return -2
    recovered = start_position(site, service)
    return int(recovered.rsplit(":", 1)[1]) if recovered else state[0]
