"""The bridge: publishes only what is cleared, tells whole answers from broken ones, and gives up in bounded time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_bridge.messages import HEADER_BYTES, Header, Schema
from cloud_bridge.sealing import open_request
from cloud_bridge.transport import CONTROL, REQUESTS, RESPONSES
from runtime.errors import (
    ClearanceError,
    DeadlineExceededError,
    SealingError,
    TargetError,
    UpstreamError,
    WatershedError,
)  # fmt: skip
from runtime.http import HttpRequest
from runtime.ids import now_us
from runtime.telemetry import REGISTRY
from tests.cloud_bridge.scene import POOL_EPOCH, REPLY_EPOCH, RecordingProvider, Scene, crossing, until

SHORT_S = 0.5


def dropped(cause: str) -> float:
    return REGISTRY.get_sample_value("watershed_bridge_dropped_total", {"cause": cause}) or 0.0


def words(count: int) -> Callable[[HttpRequest], AsyncIterator[bytes]]:
    async def answer(request: HttpRequest) -> AsyncIterator[bytes]:
        for number in range(count):
            yield request.body + b" %d\n" % number
            await asyncio.sleep(0)

    return answer


async def first_then_silence(_request: HttpRequest) -> AsyncIterator[bytes]:
    yield b"first"
    await asyncio.Event().wait()


async def hang(_request: HttpRequest) -> None:
    await asyncio.Event().wait()


# --- sending ---


async def test_an_answer_comes_back_with_its_status_and_allowed_headers() -> None:
    provider = RecordingProvider(
        status=429,
        headers={"content-type": "application/json", "retry-after": "7", "x-request-id": "req_1", "set-cookie": "a=b"},
    )
    async with Scene(provider) as scene:
        response = await scene.ask(crossing())

        assert (response.status, response.headers) == (429, {"content-type": "application/json", "retry-after": "7"})
        assert await response.body(max_bytes=100) == b'echo:{"model":"m"}'
    assert len(provider.closed) == 1


@pytest.mark.parametrize("size", [0, 1, 255, 256 * 1024, 3_000_000])
async def test_bodies_of_any_size_pass_whole(size: int) -> None:
    body = os.urandom(size)
    async with Scene() as scene:
        assert await scene.answer_to(crossing(body=body)) == b"echo:" + body


async def test_without_a_clearance_nothing_is_published() -> None:
    async with Scene() as scene:
        with pytest.raises(ClearanceError) as caught:
            await scene.bridge.send(crossing(), None, time.monotonic() + 5)

    assert caught.value.code == "clearance_missing"
    assert scene.transport.carried == []


async def test_a_clearance_for_something_else_publishes_nothing() -> None:
    async with Scene() as scene:
        clearance = await scene.clear(crossing())
        with pytest.raises(ClearanceError):
            await scene.bridge.send(crossing(), clearance, time.monotonic() + 5)

    assert scene.transport.carried == []


async def test_a_clearance_is_good_for_one_attempt() -> None:
    what = crossing()
    async with Scene() as scene:
        clearance = await scene.clear(what)
        results = await asyncio.gather(
            *(scene.bridge.send(what, clearance, time.monotonic() + 5) for _ in range(20)), return_exceptions=True
        )
        answers = [result for result in results if not isinstance(result, BaseException)]
        assert len(answers) == 1
        await answers[0].aclose()

    assert {getattr(r, "code", None) for r in results if isinstance(r, BaseException)} == {"clearance_used"}
    assert len(scene.provider.received) == 1


async def test_past_its_deadline_nothing_is_sent() -> None:
    what = crossing()
    async with Scene() as scene:
        with pytest.raises(DeadlineExceededError):
            await scene.bridge.send(what, await scene.clear(what), time.monotonic())

    assert scene.transport.carried == []


async def test_a_closed_bridge_takes_nothing() -> None:
    scene, what = Scene(), crossing()
    with pytest.raises(TargetError) as caught:
        await scene.bridge.send(what, await scene.clear(what), time.monotonic() + 5)
    assert caught.value.code == "bridge_closed"


async def test_two_hundred_streams_at_once_do_not_mix() -> None:
    async with Scene(RecordingProvider(answer=words(20)), silence_s=60) as scene:
        bodies = [b"stream-%d" % number for number in range(200)]
        answers = await asyncio.gather(*(scene.answer_to(crossing(body=body, stream=True)) for body in bodies))

    for body, answer in zip(bodies, answers, strict=True):
        assert answer == b"".join(body + b" %d\n" % number for number in range(20))


# --- what a broker sees ---


async def test_nothing_readable_is_published_and_the_search_can_find() -> None:
    canaries = {
        name: f"canary-{name}-{os.urandom(6).hex()}" for name in ("body", "tenant", "answer", "request", "decision")
    }

    async def answer(_request: HttpRequest) -> AsyncIterator[bytes]:
        yield canaries["answer"].encode()

    what = crossing(
        body=canaries["body"].encode(),
        tenant=canaries["tenant"],
        request_id=canaries["request"],
        decision_id=canaries["decision"],
    )
    async with Scene(RecordingProvider(answer=answer)) as scene:
        assert (await scene.answer_to(what)).decode() == canaries["answer"]

    carried = b"".join(value for _, _, value in scene.transport.carried)
    (request,) = scene.transport.values(REQUESTS)
    for secret in (*canaries.values(), what.recipient, what.policy_version, "chat/completions", "sk-provider-key"):
        assert secret.encode() not in carried
    unsealed = bytes(open_request(request, {POOL_EPOCH: scene.pool_key}).payload)
    for name in ("body", "tenant", "request", "decision"):
        assert canaries[name].encode() in unsealed


async def test_the_size_of_a_chunk_shows_only_its_bucket() -> None:
    async def answer(_request: HttpRequest) -> AsyncIterator[bytes]:
        for size in (1, 17, 100, 200):
            yield b"x" * size

    async with Scene(RecordingProvider(answer=answer)) as scene:
        await scene.answer_to(crossing())

    sizes = {len(message) for message in scene.transport.values(RESPONSES)[1:]}
    assert sizes == {HEADER_BYTES + 256 + 16}


# --- broken answers ---


async def test_a_worker_that_is_not_there_is_another_targets_chance() -> None:
    scene = Scene(silence_s=SHORT_S)
    await scene.bridge.start()
    with pytest.raises(TargetError) as caught:
        await scene.ask(crossing())
    await until(lambda: len(scene.transport.values(CONTROL)) == 1)
    await scene.bridge.aclose()

    assert caught.value.code == "bridge_silent"


async def test_a_call_given_up_before_a_worker_had_it_is_never_made() -> None:
    scene = Scene(silence_s=SHORT_S)
    await scene.bridge.start()
    with pytest.raises(TargetError):
        await scene.ask(crossing(deadline_us=now_us() + 1_000_000))
    await until(lambda: now_us() > int.from_bytes(scene.transport.values(REQUESTS)[0][18:26], "big"))
    await scene.worker.start()
    assert await scene.answer_to(crossing()) == b'echo:{"model":"m"}'
    await scene.__aexit__()

    assert len(scene.provider.received) == 1


async def test_a_worker_that_dies_before_the_head_is_another_targets_chance() -> None:
    async with Scene(RecordingProvider(before=hang), silence_s=SHORT_S, beat_s=0.02) as scene:
        asking = asyncio.create_task(scene.ask(crossing()))
        await until(lambda: len(scene.provider.received) == 1)
        await scene.worker.aclose()
        with pytest.raises(TargetError):
            await asking


async def test_a_worker_that_dies_in_the_middle_breaks_the_answer() -> None:
    async with Scene(RecordingProvider(answer=first_then_silence), silence_s=SHORT_S, beat_s=0.02) as scene:
        response = await scene.ask(crossing())
        assert await anext(response.chunks) == b"first"
        await scene.worker.aclose()
        with pytest.raises(UpstreamError) as caught:
            await anext(response.chunks)

    assert caught.value.code == "answer_broken"
    assert len(scene.provider.closed) == 1


async def test_beats_keep_a_slow_answer_alive_past_the_silence_limit() -> None:
    async with Scene(RecordingProvider(before=hang), silence_s=SHORT_S, beat_s=0.01) as scene:
        asking = asyncio.create_task(scene.ask(crossing(), within_s=SHORT_S * 3))
        with pytest.raises(DeadlineExceededError):  # not TargetError, which silence would have been after a third of it
            await asking


async def test_a_provider_that_breaks_off_breaks_the_answer() -> None:
    async def break_off(_request: HttpRequest) -> AsyncIterator[bytes]:
        yield b"first"
        raise UpstreamError("broken", code="answer_broken")

    async with Scene(RecordingProvider(answer=break_off)) as scene:
        response = await scene.ask(crossing())
        with pytest.raises(UpstreamError) as caught:
            await response.body(max_bytes=100)

    assert caught.value.code == "answer_broken"


@pytest.mark.parametrize("error", [TargetError, DeadlineExceededError, UpstreamError, ClearanceError])
async def test_the_workers_error_is_the_callers_by_kind_and_code(error: type[WatershedError]) -> None:
    async def fail(_request: HttpRequest) -> None:
        raise error("canary-text", code="a_cause", retry_after_s=3)

    async with Scene(RecordingProvider(before=fail)) as scene:
        with pytest.raises(error) as caught:
            await scene.ask(crossing())

    assert (caught.value.code, caught.value.retry_after_s) == ("a_cause", 3)
    assert "canary-text" not in str(caught.value)


def _answers_changed(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[str, bytes], list[bytes]]:
    """Hold back a whole answer of five messages, then let ``change`` decide what arrives."""
    held: list[bytes] = []

    def tamper(topic: str, value: bytes) -> list[bytes]:
        if topic != RESPONSES:
            return [value]
        held.append(value)
        return change(held) if len(held) == 5 else []

    return tamper


def swapped(m: list[bytes]) -> list[bytes]:
    return [m[0], m[2], m[1], *m[3:]]


def gap(m: list[bytes]) -> list[bytes]:
    return [m[0], m[1], *m[3:]]


def forged(m: list[bytes]) -> list[bytes]:
    return [m[0], m[1], m[2][:-1] + bytes([m[2][-1] ^ 1]), *m[3:]]


def cut(m: list[bytes]) -> list[bytes]:
    return [m[0], m[1], m[2][:-40], *m[3:]]


def early_end(m: list[bytes]) -> list[bytes]:
    return [m[0], m[1], m[4]]


@pytest.mark.parametrize("change", [swapped, gap, forged, cut, early_end])
async def test_a_tampered_answer_is_never_whole(change: Callable[[list[bytes]], list[bytes]]) -> None:
    async with Scene(RecordingProvider(answer=words(3)), silence_s=5) as scene:
        scene.transport.tamper = _answers_changed(change)
        with pytest.raises(SealingError):
            await scene.answer_to(crossing())


async def test_an_answer_without_its_end_is_never_whole() -> None:
    async with Scene(RecordingProvider(answer=words(3)), silence_s=SHORT_S) as scene:
        scene.transport.tamper = _answers_changed(lambda messages: messages[:-1])
        with pytest.raises(UpstreamError) as caught:
            await scene.answer_to(crossing())
    assert caught.value.code == "answer_broken"


async def test_duplicated_messages_are_dropped_and_counted() -> None:
    before = dropped("duplicate")
    async with Scene(RecordingProvider(answer=words(3))) as scene:
        scene.transport.tamper = lambda topic, value: [value] * (2 if topic == RESPONSES else 1)
        answer = await scene.answer_to(crossing(body=b"w"))

    assert answer == b"w 0\nw 1\nw 2\n"
    assert dropped("duplicate") == before + 4  # the end's own twin finds nobody waiting


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        (Header(Schema.INTL_ANSWER, bytes(16), 1, REPLY_EPOCH - 1), "epoch"),
        (Header(Schema.INTL_ANSWER, bytes(16), 1, REPLY_EPOCH), "unknown"),
        (Header(Schema.INTL_REQUEST, bytes(16), 1, REPLY_EPOCH), "seal_schema"),
    ],
)
async def test_answers_to_nobody_here_are_dropped_and_counted(header: Header, cause: str) -> None:
    before = dropped(cause)
    async with Scene() as scene:
        await scene.publish(header.pack() + bytes(300), topic=RESPONSES, partition=5)
        await until(lambda: dropped(cause) == before + 1)

        assert await scene.answer_to(crossing()) == b'echo:{"model":"m"}'


@settings(max_examples=40)
@given(st.data())
def test_no_changed_byte_of_an_answer_is_passed_on(data: st.DataObject) -> None:
    def flip(messages: list[bytes]) -> list[bytes]:
        at = data.draw(st.integers(0, 4))
        changed = bytearray(messages[at])
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
        return [*messages[:at], bytes(changed), *messages[at + 1 :]]

    async def attack() -> None:
        async with Scene(RecordingProvider(answer=words(3)), silence_s=0.05) as scene:
            scene.transport.tamper = _answers_changed(flip)
            with pytest.raises((SealingError, UpstreamError, TargetError)):
                await scene.answer_to(crossing())

    asyncio.run(attack())


# --- leaving ---


async def test_a_caller_who_leaves_a_stream_stops_the_provider() -> None:
    async with Scene(RecordingProvider(answer=first_then_silence)) as scene:
        response = await scene.ask(crossing())
        assert await anext(response.chunks) == b"first"
        assert scene.provider.closed == []
        await response.aclose()
        await response.aclose()

        await until(lambda: len(scene.provider.closed) == 1)
    assert len(scene.transport.values(CONTROL)) == 1


async def test_a_caller_who_leaves_before_the_head_stops_the_provider() -> None:
    stopped = asyncio.Event()

    async def wait(_request: HttpRequest) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with Scene(RecordingProvider(before=wait)) as scene:
        asking = asyncio.create_task(scene.ask(crossing()))
        await until(lambda: len(scene.provider.received) == 1)
        asking.cancel()

        async with asyncio.timeout(5):
            await stopped.wait()


async def test_a_finished_answer_cancels_nothing() -> None:
    async with Scene() as scene:
        response = await scene.ask(crossing())
        await response.body(max_bytes=100)
        await response.aclose()
        await scene.answer_to(crossing())

    assert scene.transport.values(CONTROL) == []


async def test_a_stream_ends_at_its_deadline_and_the_provider_is_stopped() -> None:
    async with Scene(RecordingProvider(answer=first_then_silence), beat_s=0.02) as scene:
        response = await scene.ask(crossing(), within_s=1)
        with pytest.raises(DeadlineExceededError):
            await response.body(max_bytes=100)

        await until(lambda: len(scene.provider.closed) == 1)


async def test_an_answer_that_nobody_reads_is_forgotten_at_its_deadline() -> None:
    async with Scene(RecordingProvider(answer=first_then_silence), beat_s=0.02) as scene:
        await scene.ask(crossing(), within_s=1)

        await until(lambda: len(scene.provider.closed) == 1)
        await until(lambda: not scene.bridge._calls)


async def test_who_reads_slower_than_it_comes_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_bridge.pending.MAX_WAITING_BYTES", 10_000)
    async with Scene(RecordingProvider(answer=words(500))) as scene:
        response = await scene.ask(crossing())
        await until(lambda: not scene.bridge._calls)
        with pytest.raises(UpstreamError) as caught:
            await response.body(max_bytes=1 << 20)

    assert caught.value.code == "reader_too_slow"


async def test_a_broken_clearance_says_nothing_of_the_request() -> None:
    what = crossing(body=b"canary-77", tenant="canary-78")
    async with Scene() as scene:
        clearance = await scene.clear(what)
        with pytest.raises(ClearanceError) as caught:
            await scene.bridge.send(msgspec.structs.replace(what, attempt=2), clearance, time.monotonic() + 5)

    assert "canary" not in f"{caught.value!r}{caught.value.param}"
