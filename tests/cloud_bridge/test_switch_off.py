"""With a control removed its attack passes: so the tests of that control are known to bite."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from cloud_bridge.clearance import BatchProof, Clearance, ClearanceVerifier
from cloud_bridge.crossing import Crossing, parse_destination
from cloud_bridge.sealing import AnswerOpener
from cloud_bridge.transport import REQUESTS
from runtime.errors import ClearanceError, SealingError
from runtime.keys import SUITE
from tests.cloud_bridge.scene import Scene, crossing


def self_made(what: Crossing) -> Clearance:
    """A clearance that nobody signed."""
    where, request = parse_destination(what.request.url), what.request
    return Clearance(
        SUITE, "clr-self-made", what.request_id, what.decision_id, what.policy_version, what.tenant, what.recipient,
        what.attempt, request.method, where.scheme, where.host, where.path, bytes(32), bytes(32), what.stream, what.topic,
        what.partition, what.deadline_us - 60_000_000, what.deadline_us, BatchProof(0, 1, (), bytes(32), bytes(64)),
    )  # fmt: skip


def off(verifier: ClearanceVerifier) -> None:
    """Remove the clearance check from one side."""
    verifier.verify = lambda clearance, crossing: None  # type: ignore[method-assign]


async def attack(scene: Scene) -> list[bytes]:
    """Send an uncleared body through the bridge; what the provider received of it."""
    what = crossing(body=b"uncleared")
    async with scene:
        try:
            response = await scene.bridge.send(what, self_made(what), time.monotonic() + 5)
            await response.body(max_bytes=100)
        except ClearanceError:
            pass
    return [request.body for request in scene.provider.received]


@pytest.mark.parametrize(
    ("bridge_off", "worker_off", "leaked"),
    [(False, False, False), (True, False, False), (False, True, False), (True, True, True)],
)
async def test_either_sides_check_stops_an_uncleared_body_and_only_without_both_it_leaks(
    bridge_off: bool, worker_off: bool, leaked: bool
) -> None:
    scene = Scene()
    if bridge_off:
        off(scene.bridge._verifier)
    if worker_off:
        off(scene.worker_verifier)

    assert await attack(scene) == ([b"uncleared"] if leaked else [])
    assert bool(scene.transport.values(REQUESTS)) == bridge_off


async def test_without_memory_of_used_clearances_a_replay_reaches_the_provider_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ClearanceVerifier, "_use", lambda self, clearance: None)
    async with Scene() as scene:
        await scene.answer_to(crossing())
        await scene.publish(scene.transport.values(REQUESTS)[0])
        await scene.answer_to(crossing())

    assert len(scene.provider.received) == 3


async def test_without_the_number_in_the_seal_swapped_chunks_would_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nonce and associated data without the number: the answer arrives in another order and nobody notices."""
    monkeypatch.setattr("cloud_bridge.sealing._nonce", lambda number: bytes(12))
    monkeypatch.setattr("cloud_bridge.sealing._chunk_data", lambda packed, number, end: packed + bytes([end]))
    held: list[bytes] = []

    def swap(topic: str, value: bytes) -> list[bytes]:
        if topic == REQUESTS:
            return [value]
        held.append(value)
        return [held[0], held[2], held[1], held[3]] if len(held) == 4 else []

    async with Scene() as scene:
        scene.transport.tamper = swap
        assert await scene.answer_to(crossing(body=b"body")) == b"bodyecho:"


async def test_without_the_requests_secret_anybody_could_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.cloud_bridge import test_sealing

    with pytest.raises(SealingError):
        AnswerOpener(test_sealing.ANSWER, test_sealing.INSTANCE, test_sealing.SECRET).open(forged(test_sealing))
    monkeypatch.setattr("cloud_bridge.sealing._answer_key", lambda secret, share: share)

    opened = AnswerOpener(test_sealing.ANSWER, test_sealing.INSTANCE, test_sealing.SECRET).open(forged(test_sealing))

    assert opened is not None
    assert bytes(opened[0]) == b"forged"


def forged(kit: Any) -> bytes:
    message: bytes = kit.answer_of(b"forged", secret=b"\x01" * 32)[0]
    return message


async def test_without_the_recheck_the_authority_signs_what_it_should_refuse() -> None:
    async def refuse(_crossing: Crossing, _receipt: Any) -> None:
        raise ClearanceError("not allowed", code="decision_differs")

    scene = Scene()
    allowing, scene.authority._recheck = scene.authority._recheck, refuse
    async with scene:
        with pytest.raises(ClearanceError):
            await scene.answer_to(crossing())
        assert scene.provider.received == []

        scene.authority._recheck = allowing
        await asyncio.wait_for(scene.answer_to(crossing()), 10)
    assert len(scene.provider.received) == 1
