"""HAProxy: the entrance passes TLS through and sends nobody to a gateway that is not ready."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from msgspec.structs import replace

from deploy import certificates, topology
from deploy.native import haproxy, packages, state
from deploy.native.process import Process
from deploy.site import Site, listeners

needs_haproxy = pytest.mark.skipif(packages.find_program("haproxy") is None, reason="haproxy is not installed")


def test_each_gateway_is_asked_by_its_own_name_over_mutual_tls(full_site: Site) -> None:
    text = haproxy.configuration(full_site, full_site.topology["haproxy"])
    for name in ("gateway-a", "gateway-b"):
        address = full_site.address(full_site.topology[name], "https")
        assert f"server {name} {address} verifyhost {name}" in text
    assert "verify required" in text
    assert f"crt {full_site.files('haproxy').identity}" in text


def test_streams_are_not_cut_before_the_longest_deadline(full_site: Site) -> None:
    text = haproxy.configuration(full_site, full_site.topology["haproxy"])
    assert "timeout client 660s" in text
    assert "timeout server 660s" in text


@needs_haproxy
def test_haproxy_accepts_the_configuration(full_site: Site) -> None:
    certificates.issue(full_site.certificates_dir, full_site.topology.identities())
    service = full_site.topology["haproxy"]
    haproxy.prepare(full_site, service)
    program = packages.require_program("haproxy")
    configuration = str(full_site.home(service) / "haproxy.cfg")
    checked = subprocess.run([program, "-c", "-f", configuration], capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stderr


class _Gateway(BaseHTTPRequestHandler):
    ready = True
    name = ""

    def do_GET(self) -> None:
        self.send_response(200 if type(self).ready else 503)
        self.end_headers()
        self.wfile.write(type(self).name.encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def _gateway(site: Site, name: str) -> Iterator[type[_Gateway]]:
    """A stand-in gateway: TLS with the gateway's certificate, ``/readyz`` and its name for an answer."""
    answers = type(name, (_Gateway,), {"name": name})
    address = site.address(site.topology[name], "https")
    server = ThreadingHTTPServer((address.host, address.port), answers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.files(name).identity)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(site: Site) -> str | None:
    """Which gateway answers an application now; None where none does."""
    address = site.address(site.topology["haproxy"], "https")
    context = ssl.create_default_context(cafile=str(site.files("operator").ca))
    try:
        with (
            socket.create_connection((address.host, address.port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            secured.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while chunk := secured.recv(1024):
                answer += chunk
            return answer.rsplit(b"\r\n", 1)[1].decode()
    except OSError:
        return None


def _until(site: Site, wanted: set[str | None], attempts: int = 2000) -> None:
    """Ask until the last ten answers are exactly those wanted."""
    last: list[str | None] = []
    for _ in range(attempts):
        last = [*last[-9:], _answer(site)]
        if len(last) == 10 and set(last) == wanted:
            return
    pytest.fail(f"answers: {last}")


@needs_haproxy
@pytest.mark.stack
def test_a_gateway_that_is_not_ready_gets_no_application(full_site: Site) -> None:
    site = replace(full_site, ports=state.allocate(topology.full(), {}))
    assert site.ports.keys() == listeners(topology.full()).keys()
    certificates.issue(site.certificates_dir, site.topology.identities())
    service = site.topology["haproxy"]
    haproxy.prepare(site, service)
    process = Process(site.run / "haproxy.json")
    try:
        with _gateway(site, "gateway-a") as first, _gateway(site, "gateway-b"):
            process.start(haproxy.launch(site, service), site.logs / "haproxy.log")
            _until(site, {"gateway-a", "gateway-b"})
            first.ready = False
            _until(site, {"gateway-b"})
            first.ready = True
            _until(site, {"gateway-a", "gateway-b"})
        _until(site, {None})
    finally:
        process.stop()
