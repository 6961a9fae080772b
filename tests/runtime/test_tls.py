"""Mutual TLS between our processes: who is let in, who is told apart, and what a renewal or a revocation changes."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import uvloop

from deploy import certificates
from runtime.errors import ConfigurationError, TargetError, WatershedError
from runtime.http import HttpClient, HttpRequest
from runtime.listener import answer, caller_of
from runtime.peer_client import PeerClient
from runtime.tls import ServerTls, TlsFiles, client_context, server_context
from tests.support.mutual import Authority, serving


async def whoami(scope: Any, _receive: Any, send: Any) -> None:
    peer = caller_of(scope)
    await answer(send, 200, f"{peer.name} {peer.role}".encode() if peer else b"nobody", "text/plain")


async def ask(client: PeerClient | HttpClient, url: str) -> str:
    response = await client.send(HttpRequest("GET", url + "/", (), b""), time.monotonic() + 5)
    return (await response.body(max_bytes=1000)).decode()


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "certificates")


async def test_the_app_sees_the_name_and_role_of_the_callers_certificate(ca: Authority) -> None:
    async with serving(whoami, ca.files("server-a")) as server:
        for name, role in (("gateway-a", "gateway"), ("worker-a", "worker")):
            async with ca.client(name) as client:
                assert await ask(client, server.url) == f"{name} {role}"


def test_peers_are_told_apart_and_renewals_taken_up_under_uvloop_too(ca: Authority) -> None:
    async def scenario() -> None:
        async with serving(whoami, ca.files("server-a")) as server, ca.client("gateway-a") as client:
            assert await ask(client, server.url) == "gateway-a gateway"
            ca.revoke("gateway-b")
            (renewed,) = certificates.rotate(ca.folder, ["server-a"])
            await server.listener.refresh()
            assert await shown_serial(int(server.url.rsplit(":", 1)[1]), ca) == int(renewed.serial, 16)
            async with ca.client("gateway-b") as revoked:
                with pytest.raises(TargetError):
                    await ask(revoked, server.url)

    uvloop.run(scenario())


async def test_a_plain_listener_knows_nobody(ca: Authority) -> None:
    async with serving(whoami, None) as server, ca.client("gateway-a") as client:
        assert await ask(client, server.url) == "nobody"


async def test_without_a_certificate_or_with_another_cas_nobody_gets_in(ca: Authority, tmp_path: Path) -> None:
    async with serving(whoami, ca.files("server-a")) as server:
        for client in (ca.nameless(), ca.stranger(tmp_path / "theirs")):
            async with client:
                with pytest.raises(TargetError):
                    await ask(client, server.url)


async def test_a_client_takes_no_server_of_another_ca(ca: Authority, tmp_path: Path) -> None:
    theirs = Authority.make(tmp_path / "theirs")
    async with serving(whoami, theirs.files("server-a")) as server, ca.client("gateway-a") as client:
        with pytest.raises(TargetError):
            await ask(client, server.url)


async def test_tls_1_2_is_refused(ca: Authority) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    files = ca.files("gateway-a")
    old.load_verify_locations(files.ca)
    old.load_cert_chain(files.certificate)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(whoami, ca.files("server-a")) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]), ssl=old)


async def test_a_revoked_peer_loses_its_open_connections_and_gets_no_new_one(ca: Authority) -> None:
    async with serving(whoami, ca.files("server-a")) as server, ca.client("gateway-b") as other:
        port = int(server.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(ca.files("gateway-a")))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.readuntil(b"gateway-a gateway")
        ca.revoke("gateway-a")
        await server.listener.refresh()
        async with asyncio.timeout(5):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()
        async with ca.client("gateway-a") as revoked:
            with pytest.raises(TargetError):
                await ask(revoked, server.url)
        assert await ask(other, server.url) == "gateway-b gateway"


async def test_a_server_shows_its_renewed_certificate_without_a_restart(ca: Authority) -> None:
    async with serving(whoami, ca.files("server-a")) as server:
        port = int(server.url.rsplit(":", 1)[1])
        before = await shown_serial(port, ca)
        (renewed,) = certificates.rotate(ca.folder, ["server-a"])
        await server.listener.refresh()
        after = await shown_serial(port, ca)
        assert before != after == int(renewed.serial, 16)


async def shown_serial(port: int, ca: Authority) -> int:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(ca.files("gateway-a")))
    certificate: dict[str, Any] = writer.get_extra_info("peercert")
    writer.close()
    return int(certificate["serialNumber"], 16)


async def test_a_client_shows_its_renewed_certificate_without_a_restart(ca: Authority) -> None:
    async with serving(whoami, ca.files("server-a")) as server, ca.client("gateway-a") as client:
        assert await ask(client, server.url) == "gateway-a gateway"
        certificates.rotate(ca.folder, ["gateway-a"])
        ca.revoke("gateway-a")  # whatever it had before, and what it has now
        await server.listener.refresh()
        await client.refresh()
        with pytest.raises(TargetError):
            await ask(client, server.url)
        certificates.rotate(ca.folder, ["gateway-a"])
        await client.refresh()
        assert await ask(client, server.url) == "gateway-a gateway"


async def test_files_that_do_not_fit_together_are_left_for_later(ca: Authority) -> None:
    at = certificates.files(ca.folder, "server-a")
    apart = TlsFiles(at.certificate, at.key, at.ca, at.crl)
    tls = ServerTls(apart)
    key = at.key.read_bytes()
    certificates.rotate(ca.folder, ["server-a"])
    renewed = at.key.read_bytes()
    at.key.write_bytes(key)
    assert not tls.refresh()
    at.key.write_bytes(renewed)
    assert tls.refresh()
    assert not tls.refresh(), "there is nothing new"


def test_a_session_is_never_resumed_past_the_certificate(ca: Authority) -> None:
    context = server_context(ca.files("server-a"))
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET


@pytest.mark.parametrize("missing", ["certificate", "ca", "crl"])
def test_a_missing_or_damaged_file_is_named_at_start(ca: Authority, missing: str) -> None:
    at = certificates.files(ca.folder, "server-a")
    files = TlsFiles(at.certificate, at.key, at.ca, at.crl)
    path: Path = getattr(files, missing)
    path.write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match="server-a"):
        ServerTls(files)
    path.unlink()
    with pytest.raises(ConfigurationError, match="server-a"):
        ServerTls(files)


async def test_a_server_that_is_not_there_is_a_target_error_within_the_deadline(ca: Authority) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{bound.getsockname()[1]}"
        began = time.monotonic()
        async with ca.client("gateway-a") as client:
            with pytest.raises(WatershedError) as failed:
                await ask(client, url)
        assert failed.value.status in (503, 504)
        assert time.monotonic() - began < 6
