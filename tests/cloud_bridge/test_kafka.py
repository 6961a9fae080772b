"""The crossing over a real broker with mutual TLS and ACLs. What the provider got is the oracle."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiokafka", reason="the stack's extra is not installed")
pytest.importorskip("confluent_kafka", reason="the stack's extra is not installed")

from cloud_bridge.earlier import EarlierMessages
from cloud_bridge.kafka import MAX_MESSAGE_BYTES, RECORD_OVERHEAD_BYTES, KafkaTransport
from cloud_bridge.sealing import open_request
from cloud_bridge.transport import CONTROL, REQUEST_PARTITIONS, REQUESTS, RESPONSE_PARTITIONS, RESPONSES
from deploy import certificates, kafka_access, topology
from deploy.certificates import Identity
from deploy.native import packages
from deploy.native.drivers import DRIVERS
from deploy.native.supervisor import Supervisor, open_stack
from deploy.topology import Kind
from runtime.errors import ConfigurationError, PayloadTooLargeError, TargetError, UpstreamError
from runtime.http import HttpRequest, HttpResponse
from runtime.tls import TlsFiles
from tests.cloud_bridge.kafka_scene import KafkaScene, tls_of, transport_of
from tests.cloud_bridge.scene import POOL_EPOCH, RecordingProvider, crossing, until

ROOT = Path(__file__).parents[2]
BROKER = "kafka-a"


def test_topics_are_as_the_crossing_takes_them() -> None:
    topics = kafka_access.load().topics

    assert topics[REQUESTS].partitions == REQUEST_PARTITIONS
    assert topics[RESPONSES].partitions == RESPONSE_PARTITIONS
    assert topics[CONTROL].partitions == 1
    assert int(topics[REQUESTS].config["max.message.bytes"]) >= MAX_MESSAGE_BYTES + RECORD_OVERHEAD_BYTES


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """One broker; skipped where Java or Maven cannot be had."""
    if absent := packages.missing(DRIVERS[Kind.BROKER].requirements()):
        pytest.skip(f"the broker needs:\n{packages.describe(absent)}")
    supervisor = open_stack(tmp_path_factory.mktemp("kafka"), topology.small(), lambda line: None)
    try:
        supervisor.up({BROKER})
        yield supervisor
    finally:
        supervisor.down(wipe=True)


@pytest.mark.stack
async def test_answers_come_back_whole_or_in_fifty_chunks(stack: Supervisor) -> None:
    async def fifty(_request: HttpRequest) -> AsyncIterator[bytes]:
        for number in range(50):
            yield b"%03d|" % number

    async with KafkaScene(stack.site) as scene:
        assert await scene.answer_to(crossing(body=b"whole")) == b"echo:whole"
        scene.provider.answer = fifty
        response = await scene.ask(crossing(stream=True))
        chunks = [chunk async for chunk in response.chunks]

    assert chunks == [b"%03d|" % number for number in range(50)]


@pytest.mark.stack
async def test_the_largest_message_crosses_and_a_larger_one_is_refused(stack: Supervisor) -> None:
    body = bytes(MAX_MESSAGE_BYTES - 16 * 1024)
    async with KafkaScene(stack.site) as scene:
        await scene.answer_to(crossing())
        assert len(await scene.answer_to(crossing(body=body))) == len(b"echo:") + len(body)
        with pytest.raises(PayloadTooLargeError):
            await scene.answer_to(crossing(body=bytes(MAX_MESSAGE_BYTES)))


@pytest.mark.stack
async def test_replayed_tampered_and_readdressed_records_reach_nobody(stack: Supervisor) -> None:
    what, other = crossing(), crossing()
    async with KafkaScene(stack.site) as scene:
        message = scene.seal(what, await scene.clear(what)).message
        tampered = bytearray(scene.seal(other, await scene.clear(other)).message)
        tampered[-20] ^= 1
        await scene.publish(scene.seal(other, await scene.clear(other)).message, partition=3)  # cleared for 2
        await scene.publish(bytes(tampered))
        for partition in (2, 2, 3):
            await scene.publish(message, partition=partition)

        await scene.goes_on(received=1)
    assert scene.provider.received[0].body == what.request.body


@pytest.mark.stack
@pytest.mark.parametrize("reads_back", [True, False], ids=["reads-back", "switched-off"])
async def test_a_new_owner_of_a_partition_reads_back_what_was_used(
    stack: Supervisor, monkeypatch: pytest.MonkeyPatch, reads_back: bool
) -> None:
    if not reads_back:
        monkeypatch.setattr(EarlierMessages, "note", lambda self, record: None)
    what = crossing()
    async with KafkaScene(stack.site) as scene:
        message = scene.seal(what, await scene.clear(what)).message
        await scene.publish(message)
        await until(lambda: len(scene.provider.received) == 1)
        await scene.worker.aclose()
        await scene.another_worker(scene.provider)
        await scene.publish(message)

        await scene.goes_on(received=1 if reads_back else 2)


@pytest.mark.stack
async def test_calls_in_flight_go_on_while_partitions_change_hands(stack: Supervisor) -> None:
    gate = asyncio.Event()

    async def wait(_request: HttpRequest) -> None:
        await gate.wait()

    second = RecordingProvider()
    async with KafkaScene(stack.site, RecordingProvider(before=wait)) as scene:
        long = asyncio.create_task(scene.answer_to(crossing(body=b"long")))
        await until(lambda: len(scene.provider.received) == 1)
        scene.provider.before = None
        await scene.another_worker(second)
        async with asyncio.timeout(20):
            while not second.received:
                asked = [crossing(partition=number) for number in range(REQUEST_PARTITIONS)]
                await asyncio.gather(*(scene.answer_to(what) for what in asked))
        gate.set()

        assert await long == b"echo:long"
    traces = [dict(request.headers)["traceparent"] for request in (*scene.provider.received, *second.received)]
    assert len(traces) == len(set(traces))


@pytest.mark.stack
async def test_a_killed_worker_is_an_error_within_three_seconds(stack: Supervisor) -> None:
    async with KafkaScene(stack.site, workers=0) as scene:
        worker = await _worker_process(scene)
        try:
            await scene.ask(crossing())  # it has its partitions now
            scene.bridge._silence_s = 2.0
            response = await scene.ask(crossing(stream=True))
            chunks = response.chunks
            assert await anext(chunks) == b"drop"
            worker.kill()
            async with asyncio.timeout(3.0):
                with pytest.raises(UpstreamError) as caught:
                    await _drain(chunks)
        finally:
            if worker.returncode is None:
                worker.kill()
            await worker.wait()
    assert caught.value.code == "answer_broken"


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    async for _ in chunks:
        pass


async def _worker_process(scene: KafkaScene) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cloud_bridge.kafka_worker",
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    given: dict[str, Any] = {
        "servers": scene.site.bootstrap(),
        "certificates": str(scene.site.files("worker-a").folder),
        "pool_key": scene.pool_key.private_bytes_raw().hex(),
        "clearance_key": scene.authority.public_key.public_bytes_raw().hex(),
    }
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(given).encode() + b"\n")
    await process.stdin.drain()
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"begun\n"
    return process


@pytest.mark.stack
async def test_the_brokers_disk_shows_nothing_and_the_key_shows_that_we_looked_in_the_right_place(
    stack: Supervisor,
) -> None:
    canary = b"canary-6d1f-Jane-Doe-4929"
    what = crossing(body=b'{"model":"' + canary + b'"}', tenant="tenant-6d1f")
    async with KafkaScene(stack.site) as scene:
        assert canary in await scene.answer_to(crossing(body=what.request.body))
        message = scene.seal(what, await scene.clear(what)).message
        await scene.publish(message)
        await until(lambda: len(scene.provider.received) == 2)

    disk = b"".join(path.read_bytes() for path in stack.site.home(stack.site.topology[BROKER]).rglob("*.log"))
    for told in (canary, what.tenant.encode(), what.recipient.encode(), what.request_id.encode()):
        assert told not in disk
    found = disk[(begin := disk.index(message)) : begin + len(message)]
    assert canary in open_request(found, {POOL_EPOCH: scene.pool_key}).payload.tobytes()


@pytest.mark.stack
async def test_a_broker_may_be_restarted_between_two_requests(stack: Supervisor) -> None:
    async with KafkaScene(stack.site) as scene:
        assert await scene.answer_to(crossing(body=b"before")) == b"echo:before"
        await asyncio.to_thread(stack.down, {BROKER})
        with pytest.raises(TargetError):
            await scene.gateway.publish(CONTROL, 0, b"nobody is there", deadline=time.monotonic() + 0.5)
        await asyncio.to_thread(stack.up, {BROKER})

        assert await (await _asked_again(scene, b"after")).body(max_bytes=100) == b"echo:after"
    assert [request.body for request in scene.provider.received].count(b"before") == 1


async def _asked_again(scene: KafkaScene, body: bytes) -> HttpResponse:
    """As the gateway does: each attempt with a clearance of its own."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await scene.ask(crossing(body=body))
            except TargetError:
                continue


@pytest.mark.stack
async def test_what_no_acl_allows_is_said_and_not_waited_for(stack: Supervisor) -> None:
    async with transport_of(stack.site, "worker-a") as worker:
        with pytest.raises(ConfigurationError, match="ACL"):
            await worker.follow("watershed.audit", [0])
        answers = await worker.follow(RESPONSES, [0])  # it may describe what it may write
        with pytest.raises(ConfigurationError, match="ACL"):
            await asyncio.wait_for(answers.get(), 10)
        await answers.aclose()
        with pytest.raises(ConfigurationError, match="ACL"):
            await worker.publish(REQUESTS, 0, b"x", deadline=time.monotonic() + 10)
    async with transport_of(stack.site, "gateway-a") as gateway:
        with pytest.raises(ConfigurationError, match="partition"):
            await gateway.publish(REQUESTS, REQUEST_PARTITIONS, b"x", deadline=time.monotonic() + 10)


@pytest.mark.stack
async def test_an_identity_of_another_ca_is_not_let_in(stack: Supervisor, tmp_path: Path) -> None:
    certificates.issue(tmp_path, [Identity("gateway-a", "gateway")])
    theirs, ours = certificates.files(tmp_path, "gateway-a"), tls_of(stack.site, "gateway-a")
    stranger = TlsFiles(theirs.identity, theirs.identity, ours.ca, ours.crl)
    elsewhere = TlsFiles(ours.certificate, ours.key, theirs.ca, theirs.crl)

    for files in (stranger, elsewhere):
        with pytest.raises(TargetError):
            await KafkaTransport(stack.site.bootstrap(), files).start()


def test_an_identity_that_is_not_there_is_a_fault_of_configuration(tmp_path: Path) -> None:
    absent = tmp_path / "absent.pem"
    with pytest.raises(ConfigurationError):
        KafkaTransport("localhost:1", TlsFiles(absent, absent, absent, absent))


@pytest.mark.stack
async def test_a_renewed_certificate_is_shown_on_new_connections(
    stack: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_bridge.kafka._IDENTITY_CHECK_S", 0.02)
    async with transport_of(stack.site, "gateway-a") as gateway:
        loaded = asyncio.Event()
        load, loop = gateway._load, asyncio.get_running_loop()

        def note() -> None:
            load()
            loop.call_soon_threadsafe(loaded.set)

        gateway._load = note  # type: ignore[method-assign]
        await asyncio.to_thread(certificates.rotate, stack.site.certificates_dir, ["gateway-a"])
        await asyncio.wait_for(loaded.wait(), 10)
        answers = await gateway.follow(RESPONSES, [0])  # a connection of its own
        await answers.aclose()
