"""The witness co-signs one history of a log and refuses any other; without its check a fork passes."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Checkpoint, sign
from audit.log import AuditLog
from audit.merkle import Frontier, leaf_hash
from audit.register import RegisterEntry, enter
from audit.witness import REFUSED, LocalWitness
from runtime.errors import AuditError
from tests.audit.conftest import Bench, closing, decision, until


def entered(bench: Bench) -> RegisterEntry:
    bench.root.mkdir(exist_ok=True)
    entry, _ = enter(
        bench.root, key=bench.key.public_key(), register_key=bench.register_key, instance="gw-a", opened_us=1
    )
    return entry


def checkpoint_of(bench: Bench, entry: RegisterEntry, leaves: list[bytes]) -> Checkpoint:
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf_hash(leaf))
    return sign(bench.key, entry.log_id, len(leaves), frontier.root(), 1)


async def forked(bench: Bench) -> AuditLog:
    """A copy of a log that went on elsewhere, longer than the witness has seen, and now comes before the real witness."""
    await bench.filled(5)
    other = Bench(bench.folder / "other", bench.key, bench.register_key, bench.witness_key)
    shutil.copytree(bench.root, other.root)
    log = bench.open()
    await log.append_all([decision(100), closing(100)])
    await log.aclose()
    fork = other.open()
    for number in range(200, 220):
        await fork.append_all([decision(number), closing(number)])
    await fork.aclose()
    shutil.rmtree(bench.root)
    other.root.rename(bench.root)
    return bench.open()


async def test_a_fork_stops_the_log_at_once(bench: Bench) -> None:
    log = await forked(bench)
    await until(lambda: not log.healthy)
    assert log.reason == REFUSED
    with pytest.raises(AuditError) as refused:
        await log.append(decision(1))
    assert refused.value.code == REFUSED
    await log.aclose()


async def test_switch_off_without_the_consistency_check_the_fork_passes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.witness.verify_consistency", lambda *_: True)
    log = await forked(bench)
    await until(lambda: log.lag_s == 0 and _size(bench.store / f"{log.log_id}.jsonl") == log.size)
    assert log.healthy
    assert log.holds(await log.append(decision(1)))
    await log.aclose()


def _size(store: Path) -> int:
    return msgspec.json.decode(store.read_bytes().splitlines()[-1], type=Checkpoint).size


def test_a_continuation_is_cosigned_and_kept(bench: Bench) -> None:
    entry, witness = entered(bench), bench.witness()
    assert witness.enrol(entry) == 0
    one, two = checkpoint_of(bench, entry, [b"a"]), checkpoint_of(bench, entry, [b"a", b"b"])
    for checkpoint, proof in ((one, []), (two, [leaf_hash(b"b")])):
        cosignature = witness.cosign(checkpoint, proof)
        whole = msgspec.structs.replace(checkpoint, cosignature=cosignature)
        assert whole.is_cosigned_by(bench.witness_key.public_key())
    assert bench.witness().enrol(entry) == 2
    assert len((bench.store / f"{entry.log_id}.jsonl").read_bytes().splitlines()) == 2


def test_another_history_a_step_back_and_a_false_signature_are_refused(bench: Bench) -> None:
    entry, witness = entered(bench), bench.witness()
    witness.enrol(entry)
    two = checkpoint_of(bench, entry, [b"a", b"b"])
    witness.cosign(two, [])
    stranger = sign(Ed25519PrivateKey.generate(), entry.log_id, 2, two.root, 1)
    for checkpoint in (
        checkpoint_of(bench, entry, [b"a", b"x"]),
        checkpoint_of(bench, entry, [b"a"]),
        checkpoint_of(bench, entry, [b"a", b"x", b"c"]),
        stranger,
        msgspec.structs.replace(two, at_us=2),
        msgspec.structs.replace(two, suite="gm"),
        msgspec.structs.replace(two, log_id="log-unknown"),
    ):
        with pytest.raises(AuditError) as refused:
            witness.cosign(checkpoint, [leaf_hash(b"c")] if checkpoint.size == 3 else [])
        assert refused.value.code == REFUSED
    assert bench.witness().enrol(entry) == 2


def test_two_witness_objects_over_one_store_see_each_others_history(bench: Bench) -> None:
    entry, one, other = entered(bench), bench.witness(), bench.witness()
    one.enrol(entry)
    other.enrol(entry)
    one.cosign(checkpoint_of(bench, entry, [b"a"]), [])
    with pytest.raises(AuditError):
        other.cosign(checkpoint_of(bench, entry, [b"x"]), [])


def test_a_log_is_enrolled_by_the_registers_word_and_once(bench: Bench) -> None:
    entry, witness = entered(bench), bench.witness()
    forged = msgspec.structs.replace(entry, public_key=bytes(32))
    with pytest.raises(AuditError, match="not signed by the register"):
        witness.enrol(forged)
    witness.enrol(entry)
    draft = msgspec.structs.replace(entry, opened_us=2)
    again = msgspec.structs.replace(draft, signature=bench.register_key.sign(draft.signed_text()))
    with pytest.raises(AuditError, match="another entry"):
        witness.enrol(again)
    stranger = LocalWitness(bench.store, key=bench.witness_key, register_key=Ed25519PrivateKey.generate().public_key())
    with pytest.raises(AuditError):
        stranger.enrol(entry)
