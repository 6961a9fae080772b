"""What the supervisor and the containers ask of a service. Each kind of service is one module with these functions.

requirements ─▶ prepare ─▶ launch ─▶ healthy ─▶ settle
 (packages)     (files)    (argv)   (polled)   (topics, users, buckets: once all of a kind are up)
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from deploy.native.packages import Requirement
from deploy.site import Address, Site
from deploy.topology import Service

PROBE_TIMEOUT_S = 2.0
_LISTEN = "0A"  # in /proc/net/tcp, from the kernel's tcp_states.h


class Launch(msgspec.Struct, frozen=True):
    """A process to start.

    Attributes:
        environment: added to the inherited one.
        user: account it runs as when the stack is started by root; none: the one that starts it.
    """

    argv: Sequence[str]
    cwd: Path
    environment: Mapping[str, str] = {}
    user: str | None = None


class Driver(Protocol):
    def requirements(self) -> Sequence[Requirement]:
        """Packages that the service cannot run without."""
        ...

    def needs(self, site: Site, service: Service) -> Sequence[str]:
        """Services that must be healthy first, as the data on disk has it now."""
        ...

    def prepare(self, site: Site, service: Service) -> None:
        """Render configuration and do first-time set-up; may be called any number of times.

        Raises:
            ConfigurationError: set-up failed; the message names the log.
        """
        ...

    def launch(self, site: Site, service: Service) -> Launch:
        """How to start it. Called after ``prepare``, when everything it needs is healthy."""
        ...

    def healthy(self, site: Site, service: Service) -> bool:
        """Whether it serves now. Takes at most a few seconds and raises nothing."""
        ...

    def settle(self, site: Site, services: Sequence[Service]) -> None:
        """What its clients need inside it: topics, accounts, buckets. Idempotent.

        Raises:
            ConfigurationError: the service refuses.
        """
        ...


def accepts_tcp(address: Address) -> bool:
    try:
        with socket.create_connection((address.host, address.port), PROBE_TIMEOUT_S):
            return True
    except OSError:
        return False


def listens(port: int) -> bool:
    """Whether a process of this host (or container) listens on the TCP port; nothing is connected to."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                return True
    return False


def tls_context(site: Site, name: str) -> ssl.SSLContext:
    """A client's context: the identity ``name``, our CA alone, TLS 1.3."""
    files = site.files(name)
    context = ssl.create_default_context(cafile=str(files.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.identity)
    return context


def answers_https(site: Site, service: Service, port: str, path: str) -> bool:
    """Whether a GET of ``path`` over mutual TLS, as the service's own identity, gets status 200."""
    address = site.address(service, port)
    request = f"GET {path} HTTP/1.1\r\nHost: {address.host}\r\nConnection: close\r\n\r\n".encode()
    try:
        with (
            socket.create_connection((address.host, address.port), PROBE_TIMEOUT_S) as plain,
            tls_context(site, service.name).wrap_socket(plain, server_hostname=address.host) as secured,
        ):
            secured.sendall(request)
            return secured.recv(64).split(b" ", 2)[1:2] == [b"200"]
    except OSError:
        return False
