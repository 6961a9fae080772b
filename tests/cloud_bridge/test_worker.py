"""The worker: nothing reaches the provider unless it was cleared for here and now. What the provider got is the oracle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_bridge.clearance import Clearance
from cloud_bridge.crossing import Crossing
from cloud_bridge.messages import Header, ReplyTo, Schema, SealedCall, encode
from cloud_bridge.sealing import seal_cancellation, seal_request
from cloud_bridge.transport import CONTROL, REQUESTS, RESPONSES, Consumer, Record
from runtime.errors import TargetError, UpstreamError
from runtime.http import HttpRequest
from runtime.ids import now_us
from runtime.telemetry import REGISTRY
from tests.cloud_bridge.scene import POOL_EPOCH, RecordingProvider, Scene, crossing, until


def calls(outcome: str) -> float:
    return REGISTRY.get_sample_value("watershed_worker_calls_total", {"outcome": outcome}) or 0.0


async def goes_on(scene: Scene, *, received: int) -> None:
    """A good request still passes: so the worker has dealt with what came before it, and lives."""
    await scene.answer_to(crossing())
    assert len(scene.provider.received) == received + 1


async def test_what_was_cleared_arrives_with_credentials_and_nothing_else() -> None:
    what = crossing(body=b'{"model":"m","messages":[]}')
    async with Scene() as scene:
        assert await scene.answer_to(what) == b'echo:{"model":"m","messages":[]}'

    (got,) = scene.provider.received
    assert got == HttpRequest(
        what.request.method,
        what.request.url,
        (*what.request.headers, ("authorization", "Bearer sk-provider-key")),
        what.request.body,
    )


async def test_a_replayed_message_reaches_the_provider_once() -> None:
    async with Scene() as scene:
        await scene.answer_to(crossing())
        (message,) = scene.transport.values(REQUESTS)
        for partition in (2, 2, 1):
            await scene.publish(message, partition=partition)

        await goes_on(scene, received=1)


async def test_a_replacement_worker_knows_what_was_used() -> None:
    async with Scene() as scene:
        await scene.answer_to(crossing())
        (message,) = scene.transport.values(REQUESTS)
        await scene.worker.aclose()
        scene.worker = scene.new_worker()
        await scene.worker.start()
        await scene.publish(message)

        await goes_on(scene, received=1)


async def test_one_clearance_sealed_many_times_at_once_is_used_once() -> None:
    what = crossing()
    async with Scene() as scene:
        clearance = await scene.clear(what)
        await asyncio.gather(*(scene.publish(scene.seal(what, clearance).message) for _ in range(50)))

        await goes_on(scene, received=1)


async def test_a_message_in_another_partition_is_refused() -> None:
    what = crossing(partition=2)
    async with Scene() as scene:
        await scene.publish(scene.seal(what, await scene.clear(what)).message, partition=3)

        await goes_on(scene, received=0)


CHANGES: dict[str, dict[str, Any]] = {
    "body": {"body": b'{"model":"m","messages":"more"}'},
    "path": {"url": "https://provider.example/v1/files"},
    "host": {"url": "https://elsewhere.example/v1/chat/completions"},
    "method": {"method": "GET"},
    "headers": {"headers": (("accept", "text/event-stream"),)},
    "tenant": {"tenant": "other"},
    "attempt": {"attempt": 2},
    "policy": {"policy_version": "other"},
    "query": {"url": "https://provider.example/v1/chat/completions?x=1"},
    "cookie": {"headers": (("cookie", "x"),)},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
async def test_what_was_changed_after_clearing_is_refused(changes: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"request_id": "r", "decision_id": "d", "headers": (("accept", "application/json"),)}
    async with Scene() as scene:
        clearance = await scene.clear(crossing(**fields))
        changed = crossing(**(fields | changes))
        await scene.publish(scene.seal(changed, clearance).message)

        await goes_on(scene, received=0)


async def test_a_clearance_for_another_recipient_is_refused() -> None:
    what = crossing(recipient="other.example")
    async with Scene() as scene:
        await scene.publish(scene.seal(what, await scene.clear(what)).message)

        await goes_on(scene, received=0)


async def test_a_message_id_of_another_clearance_is_refused() -> None:
    """The id is the clearance's, so that who takes a partition over knows the used ones by their headers."""
    what = crossing()
    async with Scene() as scene:
        clearance = await scene.clear(what)
        header = Header(Schema.INTL_REQUEST, bytes(16), what.deadline_us, POOL_EPOCH)
        reply_to = ReplyTo(RESPONSES, 5, 1, bytes(range(32)))
        call = encode(SealedCall.of(what, clearance, reply_to))
        await scene.publish(seal_request(header, call, scene.pool_key.public_key()).message)

        await goes_on(scene, received=0)


@settings(max_examples=60)
@given(st.data())
def test_no_changed_byte_of_a_message_reaches_the_provider(data: st.DataObject) -> None:
    async def attack() -> None:
        what = crossing()
        async with Scene() as scene:
            message = bytearray(scene.seal(what, await scene.clear(what)).message)
            message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
            await scene.publish(bytes(message))

            await goes_on(scene, received=0)

    asyncio.run(attack())


async def _wrong_epoch(scene: Scene, what: Crossing, clearance: Clearance) -> bytes:
    return scene.seal(what, clearance, epoch=POOL_EPOCH + 1).message


async def _garbage(_scene: Scene, _what: Crossing, _clearance: Clearance) -> bytes:
    return b"\x00" * 700


async def _answer_elsewhere(scene: Scene, what: Crossing, clearance: Clearance) -> bytes:
    return scene.seal(what, clearance, topic="watershed.audit").message


async def _no_key(scene: Scene, what: Crossing, clearance: Clearance) -> bytes:
    return scene.seal(what, clearance, public_key=b"short").message


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_wrong_epoch, "seal_epoch"),
        (_garbage, "seal_schema"),
        (_answer_elsewhere, "seal_content"),
        (_no_key, "seal_content"),
    ],
)
async def test_what_cannot_be_opened_or_answered_is_counted_and_not_called(make: Callable[..., Any], code: str) -> None:
    what, before = crossing(), calls(code)
    async with Scene() as scene:
        await scene.publish(await make(scene, what, await scene.clear(what)))

        await goes_on(scene, received=0)
    assert calls(code) == before + 1


async def test_past_the_deadline_the_provider_is_not_called() -> None:
    what = crossing(deadline_us=now_us() + 200_000)
    async with Scene() as scene:
        message = scene.seal(what, await scene.clear(what)).message
        await until(lambda: now_us() > what.deadline_us)
        await scene.publish(message)

        await goes_on(scene, received=0)


async def test_the_offset_is_committed_before_the_provider_is_called_and_a_crash_repeats_nothing() -> None:
    async def hang(_request: HttpRequest) -> None:
        await asyncio.Event().wait()

    async with Scene(RecordingProvider(before=hang)) as scene:
        sending = asyncio.create_task(scene.ask(crossing()))
        await until(lambda: len(scene.provider.received) == 1)
        await scene.worker.aclose()  # it dies in the middle of the call
        sending.cancel()
        scene.provider.before = None
        scene.worker = scene.new_worker()
        await scene.worker.start()

        await goes_on(scene, received=1)


class _Losing:
    """A subscription whose first commit comes too late: the partition has another owner."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._lost = False

    async def get(self) -> Record:
        return await self._consumer.get()

    async def commit(self, record: Record) -> None:
        if not self._lost:
            self._lost = True
            raise TargetError("lost", code="partition_lost")
        await self._consumer.commit(record)

    async def aclose(self) -> None:
        await self._consumer.aclose()


async def test_a_record_whose_commit_fails_is_left_to_the_partitions_new_owner() -> None:
    scene, before = Scene(), calls("partition_lost")
    subscribe = scene.transport.subscribe

    async def losing(*args: Any, **kwargs: Any) -> Consumer:
        return _Losing(await subscribe(*args, **kwargs))

    scene.transport.subscribe = losing  # type: ignore[method-assign, assignment]
    async with scene:
        what = crossing()
        await scene.publish(scene.seal(what, await scene.clear(what)).message)

        await goes_on(scene, received=0)
    assert calls("partition_lost") == before + 1


async def test_brokers_that_give_nothing_for_a_while_do_not_end_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_bridge.worker._AGAIN_S", 0.0)
    scene = Scene()
    subscribe, refusals = scene.transport.subscribe, [TargetError("x"), TargetError("x")]

    async def refusing(*args: Any, **kwargs: Any) -> Consumer:
        if refusals:
            raise refusals.pop()
        return await subscribe(*args, **kwargs)

    scene.transport.subscribe = refusing  # type: ignore[method-assign, assignment]
    async with scene:
        await goes_on(scene, received=0)
    assert not refusals


async def test_what_was_published_before_the_start_is_served() -> None:
    scene = Scene()
    await scene.bridge.start()
    asking = asyncio.create_task(scene.answer_to(crossing()))
    await until(lambda: bool(scene.transport.values(REQUESTS)))
    await scene.worker.start()

    assert await asking == b'echo:{"model":"m"}'
    await scene.__aexit__()


async def test_no_more_calls_are_in_flight_than_there_are_slots() -> None:
    running, most, gate = 0, 0, asyncio.Event()

    async def count(_request: HttpRequest) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1

    scene = Scene(RecordingProvider(before=count))
    scene.worker = scene.new_worker(calls_in_flight=3)
    async with scene:
        asking = [asyncio.create_task(scene.answer_to(crossing())) for _ in range(8)]
        await until(lambda: len(scene.provider.received) == 3)
        gate.set()
        await asyncio.gather(*asking)

    assert most == 3
    assert len(scene.provider.received) == 8


async def test_a_failing_provider_is_called_once() -> None:
    async def fail(_request: HttpRequest) -> None:
        raise UpstreamError("x", code="provider_broken")

    async with Scene(RecordingProvider(before=fail)) as scene:
        with pytest.raises(UpstreamError) as caught:
            await scene.ask(crossing())

    assert caught.value.code == "provider_broken"
    assert len(scene.provider.received) == 1


async def test_an_unexpected_error_says_nothing_of_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail(request: HttpRequest) -> None:
        raise RuntimeError(request.body.decode())

    async with Scene(RecordingProvider(before=fail)) as scene:
        with pytest.raises(UpstreamError) as caught:
            await scene.ask(crossing(body=b"canary-1f3a"))

    captured = capsys.readouterr()
    assert caught.value.code == "worker_error"
    assert "canary-1f3a" not in f"{caught.value!r} {captured.out} {captured.err}"


async def test_a_forged_cancellation_stops_nothing() -> None:
    gate = asyncio.Event()

    async def wait(_request: HttpRequest) -> None:
        await gate.wait()

    async with Scene(RecordingProvider(before=wait)) as scene:
        asking = asyncio.create_task(scene.answer_to(crossing()))
        await until(lambda: len(scene.provider.received) == 1)
        (message,) = scene.transport.values(REQUESTS)
        header = Header(Schema.INTL_REQUEST, message[2:18], int.from_bytes(message[18:26], "big"), POOL_EPOCH)
        before = calls("seal_broken")
        await scene.publish(seal_cancellation(header, bytes(32)), topic=CONTROL, partition=0)
        await until(lambda: calls("seal_broken") == before + 1)
        gate.set()

        assert await asking == b'echo:{"model":"m"}'


async def test_a_cancellation_that_overtakes_its_request_still_counts() -> None:
    what, before = crossing(), calls("cancelled")
    async with Scene() as scene:
        sealed = scene.seal(what, await scene.clear(what))
        header = Header(Schema.INTL_REQUEST, sealed.message[2:18], what.deadline_us, POOL_EPOCH)
        await scene.publish(seal_cancellation(header, sealed.secret), topic=CONTROL, partition=0)
        await until(lambda: bool(scene.worker._cancelled_early))
        await scene.publish(sealed.message)

        await goes_on(scene, received=0)
    assert calls("cancelled") == before + 1


async def test_a_call_stops_at_its_deadline() -> None:
    async def slow(_request: HttpRequest) -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    async with Scene(RecordingProvider(answer=slow)) as scene:
        what = crossing(deadline_us=now_us() + 1_000_000)
        response = await scene.bridge.send(what, await scene.clear(what), time.monotonic() + 30)
        with pytest.raises(Exception, match="could not finish") as caught:
            await response.body(max_bytes=100)
        await until(lambda: len(scene.provider.closed) == 1)

    assert caught.value.code == "deadline_exceeded"  # type: ignore[attr-defined]


async def test_a_clearance_is_compared_with_where_the_message_stood_not_with_what_it_says() -> None:
    assert not {"topic", "partition", "deadline_us"} & {field.name for field in msgspec.structs.fields(SealedCall)}
