"""The witness in a process of its own: the same word as a local one's, over mutual TLS, and never anybody else's."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Cosignature, sign
from audit.log import AuditLog
from audit.merkle import Frontier, leaf_hash
from audit.register import RegisterEntry, enter
from audit.remote_witness import RemoteWitness
from audit.witness import REFUSED, LocalWitness
from audit.witness_service import COSIGN, UNENROLLED, WitnessService
from runtime.errors import AuditError, TargetError, WatershedError
from runtime.http import HttpRequest, HttpResponse, Sender
from runtime.service import MSGPACK, ServiceClient
from tests.audit.conftest import decision, until
from tests.support.mutual import Authority, serving

REGISTER_KEY = Ed25519PrivateKey.generate()
LOG_KEY = Ed25519PrivateKey.generate()
WITNESS_KEY = Ed25519PrivateKey.generate()


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "certificates")


def local(tmp_path: Path) -> LocalWitness:
    return LocalWitness(tmp_path / "witness", key=WITNESS_KEY, register_key=REGISTER_KEY.public_key())


def remote(send: Sender, url: str, **options: Any) -> RemoteWitness:
    loop = asyncio.get_running_loop()
    return RemoteWitness(ServiceClient(send, url), loop, witness_key=WITNESS_KEY.public_key(), **options)


def entered(tmp_path: Path) -> RegisterEntry:
    root = tmp_path / "audit"
    root.mkdir(exist_ok=True)
    return enter(root, key=LOG_KEY.public_key(), register_key=REGISTER_KEY, instance="gateway-a", opened_us=1)[0]


def checkpoint(entry: RegisterEntry, *leaves: bytes) -> Any:
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf_hash(leaf))
    return sign(LOG_KEY, entry.log_id, frontier.size, frontier.root(), 1)


async def test_a_log_lives_by_a_remote_witness_as_by_a_local_one(ca: Authority, tmp_path: Path) -> None:
    witness = local(tmp_path)
    async with (
        serving(WitnessService(witness).app, ca.files("server-a")) as server,
        ca.client("gateway-a") as client,
    ):
        log = await asyncio.to_thread(
            AuditLog.open,
            tmp_path / "audit",
            key=LOG_KEY,
            register_key=REGISTER_KEY,
            witness=remote(client.send, server.url),
            instance="gateway-a",
        )
        await log.append(decision(1))
        await until(lambda: log.lag_s == 0)
        size, log_id = log.size, log.log_id
        await log.aclose()
    assert witness.enrol(entered(tmp_path)) == size
    assert (tmp_path / "witness" / f"{log_id}.jsonl").exists()


async def test_refusals_keep_their_code_and_the_store_stays_as_it_was(ca: Authority, tmp_path: Path) -> None:
    entry = entered(tmp_path)
    async with (
        serving(WitnessService(local(tmp_path)).app, ca.files("server-a")) as server,
        ca.client("gateway-a") as client,
    ):
        witness = remote(client.send, server.url)
        forged = msgspec.structs.replace(entry, public_key=bytes(32))
        with pytest.raises(AuditError) as refused:
            await asyncio.to_thread(witness.enrol, forged)
        assert refused.value.code == REFUSED
        assert await asyncio.to_thread(witness.enrol, entry) == 0
        await asyncio.to_thread(witness.cosign, checkpoint(entry, b"a"), [])
        with pytest.raises(AuditError) as fork:
            await asyncio.to_thread(witness.cosign, checkpoint(entry, b"x"), [])
        assert fork.value.code == REFUSED
        assert await asyncio.to_thread(witness.enrol, entry) == 1


async def test_a_restarted_witness_asks_to_enrol_again_and_condemns_nobody(ca: Authority, tmp_path: Path) -> None:
    entry = entered(tmp_path)
    async with ca.client("gateway-a") as client:
        async with serving(WitnessService(local(tmp_path)).app, ca.files("server-a")) as server:
            witness = remote(client.send, server.url)
            await asyncio.to_thread(witness.enrol, entry)
            await asyncio.to_thread(witness.cosign, checkpoint(entry, b"a"), [])
        async with serving(WitnessService(local(tmp_path)).app, ca.files("server-a")) as server:
            witness = remote(client.send, server.url)
            with pytest.raises(AuditError) as asked:
                await asyncio.to_thread(witness.cosign, checkpoint(entry, b"a", b"b"), [leaf_hash(b"b")])
            assert asked.value.code == UNENROLLED != REFUSED
            assert await asyncio.to_thread(witness.enrol, entry) == 1
            await asyncio.to_thread(witness.cosign, checkpoint(entry, b"a", b"b"), [leaf_hash(b"b")])


async def test_a_cosignature_by_another_hand_is_no_cosignature(ca: Authority, tmp_path: Path) -> None:
    entry = entered(tmp_path)
    impostor = LocalWitness(
        tmp_path / "impostor", key=Ed25519PrivateKey.generate(), register_key=REGISTER_KEY.public_key()
    )
    async with (
        serving(WitnessService(impostor).app, ca.files("server-a")) as server,
        ca.client("gateway-a") as client,
    ):
        witness = remote(client.send, server.url)
        await asyncio.to_thread(witness.enrol, entry)
        with pytest.raises(AuditError) as refused:
            await asyncio.to_thread(witness.cosign, checkpoint(entry, b"a"), [])
        assert refused.value.code == "audit_witness_signature"


@pytest.mark.parametrize("tampered", [b"junk", msgspec.msgpack.encode(Cosignature(1, bytes(64))), b""])
async def test_a_tampered_answer_is_refused(tmp_path: Path, tampered: bytes) -> None:
    async def sender(request: HttpRequest, deadline: float) -> HttpResponse:
        assert request.url.endswith(COSIGN)

        async def chunks() -> Any:
            yield tampered

        return HttpResponse(200, {"content-type": MSGPACK}, chunks())

    witness = remote(sender, "https://witness:8445")
    with pytest.raises(AuditError) as refused:
        await asyncio.to_thread(witness.cosign, checkpoint(entered(tmp_path), b"a"), [])
    assert refused.value.code in {"audit_witness_answer", "audit_witness_signature"}


async def test_only_processes_that_keep_a_log_may_call(ca: Authority, tmp_path: Path) -> None:
    entry = entered(tmp_path)
    async with serving(WitnessService(local(tmp_path)).app, ca.files("server-a")) as server:
        async with ca.client("worker-a") as client:
            with pytest.raises(AuditError) as refused:
                await asyncio.to_thread(remote(client.send, server.url).enrol, entry)
            assert refused.value.code == "peer_role"
        ca.revoke("gateway-b")
        await server.listener.refresh()
        for outsider in (ca.nameless(), ca.stranger(tmp_path / "theirs"), ca.client("gateway-b")):
            async with outsider:
                with pytest.raises(TargetError):
                    await asyncio.to_thread(remote(outsider.send, server.url).enrol, entry)
    assert not (tmp_path / "witness" / "register.jsonl").exists()


async def test_no_answer_is_an_error_within_the_deadline(ca: Authority, tmp_path: Path) -> None:
    release = asyncio.Event()

    async def silent(_scope: Any, _receive: Any, _send: Any) -> None:
        await release.wait()

    async with serving(silent, ca.files("server-a")) as server, ca.client("gateway-a") as client:
        began = time.monotonic()
        with pytest.raises(WatershedError) as failed:
            await asyncio.to_thread(remote(client.send, server.url, timeout_s=0.3).enrol, entered(tmp_path))
        assert failed.value.status == 504
        assert time.monotonic() - began < 5
        release.set()
