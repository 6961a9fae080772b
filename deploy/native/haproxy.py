"""HAProxy: the one address of applications. It passes TLS through and asks each gateway's ``/readyz``.

A gateway that dies is out after two failed checks, and the connections to it are closed, so that an SDK's retry finds
its peer.
"""

from __future__ import annotations

import http.client
from collections.abc import Sequence

from deploy.native import packages
from deploy.native.driver import PROBE_TIMEOUT_S, Launch
from deploy.site import Site
from deploy.topology import Kind, Service

_HEALTH_PATH = "/healthz"


def requirements() -> Sequence[packages.Requirement]:
    return (packages.Debian(("haproxy",), "haproxy", 5),)


def needs(site: Site, service: Service) -> Sequence[str]:
    return service.needs


def prepare(site: Site, service: Service) -> None:
    home = site.home(service)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "haproxy.cfg").write_text(configuration(site, service), encoding="utf-8")


def launch(site: Site, service: Service) -> Launch:
    home = site.home(service)
    return Launch((packages.require_program("haproxy"), "-db", "-f", str(home / "haproxy.cfg")), cwd=home)


def healthy(site: Site, service: Service) -> bool:
    address = site.address(service, "health")
    connection = http.client.HTTPConnection(address.host, address.port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", _HEALTH_PATH)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def settle(site: Site, services: Sequence[Service]) -> None:
    """Nothing: it keeps no state."""


def configuration(site: Site, service: Service) -> str:
    """``haproxy.cfg``. Client and server timeouts exceed the longest deadline, 600 s."""
    files = site.files(service.name)
    servers = "\n".join(
        f"    server {gateway.name} {site.address(gateway, 'https')} verifyhost {gateway.name}"
        for gateway in site.topology.of(Kind.GATEWAY)
    )
    return f"""\
global
    maxconn 4096
    log stderr format raw local0 warning

defaults
    mode tcp
    log global
    timeout connect 1s
    timeout client 660s
    timeout server 660s
    timeout check 1s
    retries 2
    option redispatch
    option dontlognull

resolvers system
    parse-resolv-conf

frontend applications
    bind {site.listen(service, "https")}
    default_backend gateways

backend gateways
    balance leastconn
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host watershed
    http-check expect status 200
    default-server init-addr last,libc,none resolvers system check inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions check-ssl verify required ca-file {files.ca} crl-file {files.crl} crt {files.identity}
{servers}

frontend health
    mode http
    bind {site.listen(service, "health")}
    monitor-uri {_HEALTH_PATH}
"""
