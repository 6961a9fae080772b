"""Minimum key epochs: signed, short-lived, and a worker that hears none stops."""

from __future__ import annotations

import asyncio
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.clearance import ClearanceVerifier
from cloud_bridge.epochs import FRESH_S, MinimumEpoch, publish_notices, sign_notice
from cloud_bridge.providers.openai import OpenAIProvider
from cloud_bridge.transport import CONTROL
from cloud_bridge.worker import Worker
from runtime.errors import ClearanceError, SealingError, TargetError
from runtime.ids import now_us
from runtime.telemetry import REGISTRY
from tests.cloud_bridge.scene import BASE_URL, POOL_EPOCH, RECIPIENT, Scene, crossing, until

KEY = Ed25519PrivateKey.generate()


class Clock:
    def __init__(self) -> None:
        self.us = now_us()

    def __call__(self) -> int:
        return self.us


def watch(clock: Clock) -> MinimumEpoch:
    return MinimumEpoch(KEY.public_key(), recipient=RECIPIENT, clock_us=clock)


def notice(issued_us: int, minimum: int = 3, *, recipient: str = RECIPIENT, key: Ed25519PrivateKey = KEY) -> bytes:
    return sign_notice(key, recipient=recipient, minimum=minimum, issued_us=issued_us)


def refused(epochs: MinimumEpoch, message: bytes) -> str:
    with pytest.raises(SealingError) as caught:
        epochs.take(message)
    return caught.value.code


async def test_nothing_may_be_opened_before_the_first_notice() -> None:
    epochs = watch(Clock())
    with pytest.raises(ClearanceError) as caught:
        epochs.check(3)

    assert caught.value.code == "epoch_unknown"


async def test_epochs_below_the_minimum_have_ended() -> None:
    clock = Clock()
    epochs = watch(clock)
    epochs.take(notice(clock.us, 3))
    epochs.check(3)
    epochs.check(4)

    with pytest.raises(SealingError) as caught:
        epochs.check(2)
    assert caught.value.code == "seal_epoch"


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1))
def test_the_minimum_never_falls(minima: list[int]) -> None:
    async def hear() -> None:
        clock = Clock()
        epochs = watch(clock)
        for minimum in minima:
            epochs.take(notice(clock.us, minimum))
        epochs.check(max(minima))
        if max(minima):
            with pytest.raises(SealingError):
                epochs.check(max(minima) - 1)

    asyncio.run(hear())


async def test_a_notice_counts_for_thirty_seconds_from_its_signature() -> None:
    clock = Clock()
    epochs = watch(clock)
    old = notice(clock.us)
    clock.us += 29_000_000
    epochs.take(old)
    assert 0 < epochs.fresh_for_s() <= 1

    clock.us += 1_000_001
    assert refused(epochs, old) == "epoch_expired"
    assert refused(epochs, notice(clock.us + 10_000_000)) == "epoch_expired"  # from the future: it would count longer


async def test_a_clock_that_is_set_back_makes_no_old_notice_count() -> None:
    clock = Clock()
    epochs = watch(clock)
    old = notice(clock.us)
    clock.us += 60_000_000
    epochs.take(notice(clock.us))
    clock.us -= 60_000_000

    assert refused(epochs, old) == "epoch_expired"


@pytest.mark.parametrize(
    "change",
    [
        {"recipient": "other.example"},
        {"key": Ed25519PrivateKey.generate()},
    ],
    ids=["another pool's", "another key's"],
)
async def test_only_the_pools_own_notices_signed_by_the_authority_count(change: dict[str, object]) -> None:
    clock = Clock()

    assert refused(watch(clock), notice(clock.us, **change)) == "epoch_signature"  # type: ignore[arg-type]


@given(st.data())
def test_no_changed_byte_of_a_notice_counts(data: st.DataObject) -> None:
    async def hear() -> None:
        clock = Clock()
        message = bytearray(notice(clock.us))
        message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
        refused(watch(clock), bytes(message))

    asyncio.run(hear())


class WatchedScene(Scene):
    """A scene whose worker needs notices."""

    def new_worker(self, calls_in_flight: int = 64) -> Worker:
        self.epochs = MinimumEpoch(self.authority.public_key, recipient=RECIPIENT)
        return Worker(
            transport=self.transport,
            partitions=range(4),
            keys={POOL_EPOCH: self.pool_key},
            verifier=ClearanceVerifier(self.authority.public_key, recipient=RECIPIENT),
            provider=OpenAIProvider(BASE_URL, "sk-provider-key"),
            sender=self.provider.send,
            epochs=self.epochs,
            calls_in_flight=calls_in_flight,
        )

    async def notify(self, minimum: int, *, age_s: float = 0.0) -> None:
        issued = now_us() - int(age_s * 1e6)
        key = self.authority._key
        message = sign_notice(key, recipient=RECIPIENT, minimum=minimum, issued_us=issued)
        await self.publish(message, topic=CONTROL, partition=0)


async def test_a_worker_serves_once_it_has_heard_the_minimum() -> None:
    async with WatchedScene() as scene:
        asking = asyncio.create_task(scene.answer_to(crossing()))
        with pytest.raises(TargetError):
            await scene.ask(crossing(), within_s=30)  # nobody takes it: silence
        assert scene.provider.received == []
        await asyncio.gather(asking, return_exceptions=True)
        await scene.notify(POOL_EPOCH)

        assert await scene.answer_to(crossing()) == b'echo:{"model":"m"}'


async def test_a_worker_that_hears_nothing_more_stops_and_goes_on_when_it_hears_again() -> None:
    async with WatchedScene() as scene:
        await scene.notify(POOL_EPOCH, age_s=FRESH_S - 1)
        await scene.answer_to(crossing())
        await until(lambda: scene.epochs.fresh_for_s() <= 0)
        with pytest.raises(TargetError):
            await scene.ask(crossing())
        assert len(scene.provider.received) == 1
        await scene.notify(POOL_EPOCH)

        assert await scene.answer_to(crossing()) == b'echo:{"model":"m"}'


async def test_a_request_sealed_for_an_ended_epoch_reaches_nobody_though_the_key_is_still_there() -> None:
    def ended() -> float:
        return REGISTRY.get_sample_value("watershed_worker_calls_total", {"outcome": "seal_epoch"}) or 0.0

    async with WatchedScene() as scene:
        before = ended()
        await scene.notify(POOL_EPOCH + 1)
        what = crossing()
        await scene.publish(scene.seal(what, await scene.clear(what)).message)
        await until(lambda: ended() == before + 1)

    assert scene.provider.received == []


async def test_notices_are_published_until_cancelled_and_a_failure_is_made_up() -> None:
    scene = WatchedScene()
    published: list[float] = []
    real = scene.transport.publish

    async def flaky(topic: str, partition: int, value: bytes, *, deadline: float) -> int:
        published.append(time.monotonic())
        if len(published) == 1:
            raise TargetError("x")
        return await real(topic, partition, value, deadline=deadline)

    async def make() -> bytes:
        return sign_notice(scene.authority._key, recipient=RECIPIENT, minimum=1, issued_us=now_us())

    async with scene:
        scene.transport.publish = flaky  # type: ignore[method-assign]
        publishing = asyncio.create_task(publish_notices(scene.transport, make, every_s=0.01))
        await asyncio.wait_for(scene.epochs.fresh(), 10)
        publishing.cancel()

    assert len(published) >= 2
