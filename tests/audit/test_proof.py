from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.event import encode
from audit.proof import EventProof, prove
from audit.segment import segments
from runtime.errors import AuditError, NotFoundError
from tests.audit.conftest import Bench, decision, until


def holds(bench: Bench, proof: EventProof) -> bool:
    return proof.holds(register_key=bench.register_key.public_key(), witness_key=bench.witness_key.public_key())


async def test_every_event_can_be_proved_without_the_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.writer.SEGMENT_BYTES", 4096)
    log_id = await bench.filled(30)
    for index in range(61):
        proof = prove(bench.root, log_id, index)
        assert holds(bench, msgspec.json.decode(msgspec.json.encode(proof), type=EventProof))
    assert prove(bench.root, log_id, 7).event.encode() == encode(decision(3))


async def test_an_event_of_a_running_log_can_be_proved_once_witnessed(bench: Bench) -> None:
    log = bench.open()
    receipt = await log.append(decision(1))
    await until(lambda: log.lag_s == 0 and (bench.root / log.log_id / "checkpoints.jsonl").exists())
    await log.aclose()
    assert holds(bench, prove(bench.root, log.log_id, receipt.index))


async def test_a_proof_holds_for_nothing_else(bench: Bench) -> None:
    log_id = await bench.filled()
    proof = prove(bench.root, log_id, 7)
    replace = msgspec.structs.replace
    fresh = Ed25519PrivateKey.generate()
    for forged in (
        replace(proof, event=encode(decision(4)).decode()),
        replace(proof, index=8),
        replace(proof, path=proof.path[:-1]),
        replace(proof, checkpoint=replace(proof.checkpoint, size=40)),
        replace(proof, checkpoint=replace(proof.checkpoint, cosignature=None)),
        replace(proof, checkpoint=replace(proof.checkpoint, log_id="log-other")),
        replace(proof, entry=replace(proof.entry, public_key=fresh.public_key().public_bytes_raw())),
    ):
        assert not holds(bench, forged)
    assert not proof.holds(register_key=fresh.public_key(), witness_key=bench.witness_key.public_key())
    assert not proof.holds(register_key=bench.register_key.public_key(), witness_key=fresh.public_key())


async def test_what_is_not_there_or_not_readable_is_said(bench: Bench) -> None:
    log_id = await bench.filled()
    for log, index in ((log_id, 41), (log_id, -1), ("log-other", 0)):
        with pytest.raises(NotFoundError):
            prove(bench.root, log, index)
    path = segments(bench.root / log_id)[0]
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(AuditError):
        prove(bench.root, log_id, 20)
