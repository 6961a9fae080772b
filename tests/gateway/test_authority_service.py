"""The clearance authority in a process of its own: what it demands, whom it hears, and what a gateway believes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.event import AdminEvent, DecisionEvent, Receipt, leaf_hash_of
from audit.log import AuditLog
from audit.query import tail
from audit.register import REGISTER, read_register
from audit.witness import LocalWitness
from classifiers.cascade import Classifier
from cloud_bridge.clearance import ClearanceAuthority, ClearanceVerifier
from cloud_bridge.crossing import Crossing
from gateway.attestation import AttestedProof, ReceiptCheck, ReceiptSigner
from gateway.authority import DecisionProof, Recheck
from gateway.authority_service import AuthorityService, ClearCall, RemoteAuthority
from gateway.wire import ChatCompletions
from policies.bundle import PolicyStore
from policies.model import Recipient
from runtime.errors import ClearanceError
from runtime.http import HttpRequest, HttpResponse, Sender
from runtime.ids import new_id, now_us
from runtime.service import MSGPACK, ServiceClient
from tests.cloud_bridge.scene import crossing
from tests.support.mutual import Authority, Serving, serving

REGISTER_KEY = Ed25519PrivateKey.generate()
MAX_BODY = 65_536
SAFE = b'{"model":"m","messages":[{"role":"user","content":"Name three rivers."}]}'


def log_at(folder: Path, key: Ed25519PrivateKey, instance: str) -> AuditLog:
    witness = LocalWitness(folder / "witness", key=Ed25519PrivateKey.generate(), register_key=REGISTER_KEY.public_key())
    return AuditLog.open(folder / "audit", key=key, register_key=REGISTER_KEY, witness=witness, instance=instance)


@dataclass
class Bench:
    """A gateway's log and signer on one side, an authority with a log of its own on the other."""

    ca: Authority
    folder: Path
    policies: PolicyStore
    log: AuditLog
    log_key: Ed25519PrivateKey
    signer: ReceiptSigner
    authority: ClearanceAuthority
    record: AuditLog
    server: Serving

    def client(self, send: Sender, **options: Any) -> RemoteAuthority:
        service = ServiceClient(send, options.pop("url", self.server.url))
        return RemoteAuthority(service, self.signer, public_key=self.authority.public_key, **options)

    async def decided(self, **changes: Any) -> tuple[Crossing, DecisionProof]:
        """A crossing of a harmless request, and the proof of a decision that lets it cross."""
        what = crossing(
            policy_version=self.policies.current().version, recipient="cloud", body=changes.pop("body", SAFE)
        )
        event = DecisionEvent(
            request_id=what.request_id,
            tenant=what.tenant,
            at_us=changes.pop("at_us", now_us()),
            endpoint="chat",
            decision_id=what.decision_id,
            policy_version=what.policy_version,
            classifier="c1",
            sensitivity="public",
            categories=(),
            spans=(),
            unscanned=(),
            rules=(),
            route="cloud",
            recipients=changes.pop("recipients", ("cloud", "onprem")),
            edits=(),
            body_commitment="0" * 64,
            stream=False,
        )
        return what, DecisionProof(event, await self.log.append(event))

    def issued(self) -> list[AdminEvent]:
        """What the authority's own log says that it gave."""
        events = [event for _, _, event in tail(self.folder / "authority" / "audit", 1000)]
        return [event for event in events if isinstance(event, AdminEvent) and event.action == "clearance.issued"]


RECIPIENT = Recipient(
    id="cloud",
    legal_entity="none: a test",
    country="ZZ",
    regions=("test",),
    transfer_mechanism="none",
    retention_days=0,
    training_use=False,
    expires=datetime.now(UTC) + timedelta(days=1),
)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    ca = Authority.make(tmp_path / "certificates")
    log_key = Ed25519PrivateKey.generate()
    log = log_at(tmp_path / "gateway", log_key, "gateway-a")
    (entry,) = read_register(tmp_path / "gateway" / "audit" / REGISTER)
    record = log_at(tmp_path / "authority", Ed25519PrivateKey.generate(), "clearance")
    policies = PolicyStore(None, lease_s=900, extra_recipients=[RECIPIENT])
    authority = ClearanceAuthority(
        key=Ed25519PrivateKey.generate(),
        recheck=Recheck(Classifier(), policies.current, [ChatCompletions()]),
        receipt_holds=ReceiptCheck(REGISTER_KEY.public_key()),
        rate_per_s=1000,
    )
    service = AuthorityService(authority, record, missing=list, max_body_bytes=MAX_BODY)
    async with serving(service.app, ca.files("server-a")) as server:
        signer = ReceiptSigner(log, entry, log_key)
        yield Bench(ca, tmp_path, policies, log, log_key, signer, authority, record, server)
    await log.aclose()
    await record.aclose()


async def refused(clearing: Any) -> str:
    with pytest.raises(ClearanceError) as error:
        await clearing
    return error.value.code


async def test_a_clearance_comes_back_valid_and_stands_in_the_authoritys_own_log(bench: Bench) -> None:
    what, proof = await bench.decided()
    async with bench.ca.client("gateway-a") as client:
        clearance = await bench.client(client.send).clear(what, proof)
    ClearanceVerifier(bench.authority.public_key, recipient="cloud").verify(clearance, what)
    (event,) = bench.issued()
    assert (event.actor, event.subject) == ("gateway-a", clearance.id)
    detail = dict(event.detail)
    assert (detail["log_id"], detail["index"]) == (bench.log.log_id, str(proof.receipt.index))
    assert detail["leaf_hash"] == leaf_hash_of(proof.event).hex()


async def test_the_authoritys_refusals_keep_their_codes(bench: Bench) -> None:
    async with bench.ca.client("gateway-a") as client:
        authority = bench.client(client.send)
        what, proof = await bench.decided(recipients=("onprem",))
        assert await refused(authority.clear(what, proof)) == "recipient_not_decided"
        leak = SAFE.replace(b"three rivers", b"the owner of AKIAQ3EGRZZ4TR7YQ2VN and 11010519491231002X")
        what, proof = await bench.decided(body=leak)
        assert await refused(authority.clear(what, proof)) in {"recheck_refused", "recheck_unedited"}
        what, proof = await bench.decided()
        assert (
            await refused(authority.clear(msgspec.structs.replace(what, tenant="other"), proof)) == "receipt_mismatch"
        )
    assert bench.issued() == []


async def test_a_gateway_signs_nothing_that_its_log_does_not_hold(bench: Bench) -> None:
    what, proof = await bench.decided()
    invented = Receipt(bench.log.log_id, proof.receipt.index + 1, proof.receipt.leaf_hash)
    async with bench.ca.client("gateway-a") as client:
        lie = DecisionProof(proof.event, invented)
        assert await refused(bench.client(client.send).clear(what, lie)) == "receipt_not_held"


async def test_the_authority_takes_no_receipt_on_trust(bench: Bench) -> None:
    """A caller with a gateway's certificate, who makes receipts of its own."""
    what, proof = await bench.decided()
    good = bench.signer.attest(proof)
    stranger = Ed25519PrivateKey.generate()
    forged_entry = msgspec.structs.replace(good.entry, public_key=stranger.public_key().public_bytes_raw())
    other_log = msgspec.structs.replace(good.receipt, log_id="log-other")
    old_event = msgspec.structs.replace(proof.event, at_us=now_us() - 700_000_000)
    later = msgspec.structs.replace(proof.event, at_us=now_us() + 60_000_000)
    cases: dict[str, AttestedProof] = {
        "unsigned": msgspec.structs.replace(good, signature=b""),
        "signed by another key": msgspec.structs.replace(good, signature=stranger.sign(good.signed_text())),
        "an entry not of the register": msgspec.structs.replace(
            good, entry=forged_entry, signature=stranger.sign(good.signed_text())
        ),
        "another place": msgspec.structs.replace(good, receipt=msgspec.structs.replace(good.receipt, index=9)),
        "another log": msgspec.structs.replace(good, receipt=other_log),
        "an old decision": msgspec.structs.replace(good, event=old_event),
        "a decision of the future": msgspec.structs.replace(good, event=later),
    }
    check = ReceiptCheck(REGISTER_KEY.public_key())
    assert check(good)
    async with bench.ca.client("gateway-a") as client:
        for case, proof_of_case in cases.items():
            answered = await posted(client.send, bench.server.url, ClearCall(what, proof_of_case))
            assert answered["code"] == "receipt_not_held", case
    async with bench.ca.client("gateway-b") as client:
        answered = await posted(client.send, bench.server.url, ClearCall(what, good))
        assert answered["code"] == "receipt_instance", "another gateway's certificate"
    assert bench.issued() == []


async def posted(send: Sender, url: str, call: ClearCall) -> dict[str, Any]:
    body = msgspec.msgpack.encode(call)
    request = HttpRequest("POST", f"{url}/v1/clear", (("content-type", MSGPACK),), body)
    response = await send(request, time.monotonic() + 5)
    value: dict[str, Any] = msgspec.msgpack.decode(await response.body(max_bytes=65_536))
    assert response.status != 200
    return value


async def test_no_clearance_leaves_that_the_authoritys_log_did_not_take(bench: Bench) -> None:
    await bench.record.aclose()
    what, proof = await bench.decided()
    async with bench.ca.client("gateway-a") as client:
        assert await refused(bench.client(client.send).clear(what, proof)) == "audit_closed"


async def test_only_gateways_are_heard(bench: Bench, tmp_path: Path) -> None:
    what, proof = await bench.decided()
    async with bench.ca.client("worker-a") as client:
        assert await refused(bench.client(client.send).clear(what, proof)) == "peer_role"
    bench.ca.revoke("gateway-b")
    await bench.server.listener.refresh()
    for outsider in (bench.ca.nameless(), bench.ca.stranger(tmp_path / "theirs"), bench.ca.client("gateway-b")):
        async with outsider:
            assert await refused(bench.client(outsider.send).clear(what, proof)) == "authority_unreachable"
    assert bench.issued() == []


async def test_an_answer_that_is_no_clearance_for_this_crossing_is_refused(bench: Bench) -> None:
    what, proof = await bench.decided()
    real = await bench.authority.clear(what, bench.signer.attest(proof))
    other, _ = await bench.decided()
    forged = msgspec.structs.replace(real, not_after_us=real.not_after_us + 1)
    for answer, code in (
        (b"junk", "authority_answer"),
        (msgspec.msgpack.encode(forged), "clearance_signature"),
        (msgspec.msgpack.encode(msgspec.structs.replace(real, tenant="other")), "clearance_mismatch"),
    ):
        assert await refused(bench.client(answering(answer)).clear(what, proof)) == code
    replayed = bench.client(answering(msgspec.msgpack.encode(real)))
    await replayed.clear(what, proof)
    assert await refused(replayed.clear(what, proof)) == "clearance_used"
    assert other.request_id != what.request_id


def answering(body: bytes, status: int = 200) -> Sender:
    async def send(_request: HttpRequest, _deadline: float) -> HttpResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield body

        return HttpResponse(status, {"content-type": MSGPACK}, chunks())

    return send


async def test_a_body_over_the_limit_is_not_read(bench: Bench) -> None:
    what, proof = await bench.decided(body=b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 2_000_000)
    async with bench.ca.client("gateway-a") as client:
        assert await refused(bench.client(client.send).clear(what, proof)) == "payload_too_large"


async def test_an_authority_that_is_gone_or_silent_is_a_clearance_error_in_time(bench: Bench) -> None:
    what, proof = await bench.decided()
    release = asyncio.Event()

    async def silent(_scope: Any, _receive: Any, _send: Any) -> None:
        await release.wait()

    async with bench.ca.client("gateway-a") as client:
        async with serving(silent, bench.ca.files("server-a")) as server:
            began = time.monotonic()
            remote = bench.client(client.send, url=server.url, timeout_s=0.3)
            assert await refused(remote.clear(what, proof)) == "deadline_exceeded"
            assert time.monotonic() - began < 5
            release.set()
        assert await refused(remote.clear(what, proof)) == "authority_unreachable"
    past = msgspec.structs.replace(what, deadline_us=now_us() - 1, request_id=new_id("req"))
    async with bench.ca.client("gateway-a") as client:
        assert await refused(bench.client(client.send).clear(past, proof)) == "deadline_exceeded"


async def test_health_answers_any_process_of_ours(bench: Bench) -> None:
    for path in ("/healthz", "/readyz"):
        async with bench.ca.client("worker-a") as client:
            response = await client.send(HttpRequest("GET", bench.server.url + path, (), b""), time.monotonic() + 5)
            assert response.status == 200
            await response.aclose()


def test_a_signer_signs_with_its_logs_key_only(bench: Bench) -> None:
    (entry,) = read_register(bench.folder / "gateway" / "audit" / REGISTER)
    with pytest.raises(ValueError, match="not that of the log"):
        ReceiptSigner(bench.log, entry, Ed25519PrivateKey.generate())
