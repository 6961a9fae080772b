"""The small stack as applications, operators and thieves meet it: real Kafka, MariaDB, S3 and HAProxy, real processes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from cloud_bridge.messages import decode_call
from cloud_bridge.sealing import open_request
from cloud_bridge.transport import REQUEST_PARTITIONS, REQUESTS
from deploy import kafka_access
from deploy.native.watershed import operator_settings_file
from gateway.cli.cloud_side import KEY_EPOCH
from runtime.errors import SealingError
from runtime.http import HttpRequest, HttpResponse
from runtime.keys import FileKeyRing
from runtime.peer_client import PeerClient
from runtime.service import MSGPACK
from runtime.tls import TlsFiles
from tests.laws.checks import SSN
from tests.system.conftest import TENANT, Stack, kill, wait_for, watershed

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

CROSSES = "canary-crosses-5b1c7e"
STAYS = "canary-stays-90d2af"
GENERAL = f"Why is the sky blue? {CROSSES}"
SENSITIVE = f"My SSN is {SSN}: {STAYS}"


@pytest.fixture(autouse=True)
def forgotten(stack: Stack) -> None:
    """Each test looks at what was received in it."""
    stack.cloud.clear()
    stack.onprem.clear()


# What applications see.


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_general_question_crosses(stack: Stack, stream: bool) -> None:
    route, answer = stack.ask(GENERAL, stream=stream)
    assert (route, answer.strip()) == ("cloud", stack.cloud.answer)
    assert stack.cloud.saw(CROSSES)
    assert stack.onprem.calls == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_sensitive_question_stays(stack: Stack, stream: bool) -> None:
    route, answer = stack.ask(SENSITIVE, stream=stream)
    assert (route, answer.strip()) == ("onprem", stack.onprem.answer)
    assert stack.onprem.saw(STAYS)
    assert stack.cloud.received == []


@pytest.mark.parametrize(("text", "route"), [(GENERAL, "cloud"), (SENSITIVE, "onprem")], ids=["cloud", "onprem"])
async def test_the_asynchronous_sdk_streams_both_ways(stack: Stack, text: str, route: str) -> None:
    async with httpx.AsyncClient(verify=stack.tls(), trust_env=False) as http:
        client = openai.AsyncOpenAI(base_url=stack.url, api_key=stack.key, http_client=http, max_retries=0)
        raw = await client.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": text}], stream=True
        )
        words = [chunk.choices[0].delta.content or "" async for chunk in raw.parse()]
    assert raw.headers["x-watershed-route"] == route
    assert len(words) > 1, "it comes in pieces"


def test_a_conversation_stays_once_it_was_sensitive(stack: Stack) -> None:
    """Law 5, with the lineage in MariaDB: of the sensitive turn only its answer is left in the history."""
    _, answer = stack.ask(SENSITIVE)
    follow_up = [
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "And what is the weather like?"},
    ]
    raw = stack.sdk().chat.completions.with_raw_response.create(model="auto", messages=follow_up)  # type: ignore[arg-type]
    assert raw.headers["x-watershed-route"] == "onprem"
    assert stack.cloud.received == []


@pytest.mark.parametrize("key", ["", "ws-unknown"], ids=["none", "unknown"])
def test_nobody_is_let_in_for_coming_from_this_machine(stack: Stack, key: str) -> None:
    """Behind HAProxy everyone comes from loopback."""
    with pytest.raises(openai.AuthenticationError):
        stack.sdk(api_key=key or "unused").chat.completions.create(
            model="auto", messages=[{"role": "user", "content": GENERAL}]
        )
    assert stack.cloud.received == stack.onprem.received == []


# What operators see.


def test_every_service_is_healthy_and_within_its_memory(stack: Stack) -> None:
    rows = {row.name: row for row in stack.supervisor.status()}
    assert {name: row.state for name, row in rows.items()} == {s.name: "healthy" for s in stack.site.topology}
    for service in stack.site.topology:
        assert 0 < rows[service.name].memory_mb <= service.memory_mb, service.name


def test_up_again_changes_nothing_and_remembers_its_options(stack: Stack) -> None:
    before = {row.name: row.pid for row in stack.supervisor.status()}
    again = watershed("up", "--small", "--json", WATERSHED_STATE_DIR=str(stack.state_dir))
    assert again.returncode == 0, again.stderr
    assert {row["name"]: row["pid"] for row in json.loads(again.stdout)} == before
    assert stack.cloud.url in json.loads((stack.site.root / "site.json").read_text())["options"].values()


def test_the_audit_of_every_process_verifies(stack: Stack) -> None:
    stack.ask(GENERAL)
    stack.ask(SENSITIVE)
    verified = stack.operate("audit", "verify", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    told = stack.operate("audit", "tail", "-n", "50")
    assert told.returncode == 0, told.stderr
    assert "clearance.issued" in told.stdout, "the authority's own log"
    assert "gateway-a" in verified.stdout


def test_an_edited_event_is_found(stack: Stack, tmp_path: Path) -> None:
    """In a copy of the logs, since the real ones are needed."""
    stack.ask(SENSITIVE)
    copy = tmp_path / "audit"
    shutil.copytree(stack.site.audit_root, copy)
    settings = operator_settings_file(stack.site).read_text().replace(str(stack.site.audit_root), str(copy))
    config = tmp_path / "operator.toml"
    config.write_text(settings)
    assert watershed("audit", "verify", WATERSHED_CONFIG=str(config)).returncode == 0
    segment = next(path for path in files_of(copy) if b"confidential-stays" in path.read_bytes())
    segment.write_bytes(segment.read_bytes().replace(b"confidential-stays", b"confidential-stayz", 1))
    assert watershed("audit", "verify", WATERSHED_CONFIG=str(config)).returncode == 1


# What is written down: nothing in the clear.


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def holding(folder: Path, needle: bytes) -> list[str]:
    """Files under ``folder`` that hold ``needle``."""
    return [str(path) for path in files_of(folder) if needle in path.read_bytes()]


def sealed_requests(stack: Stack) -> list[bytes]:
    """Every record on the topic of requests, as the brokers have it."""
    from confluent_kafka import Consumer, TopicPartition

    config = kafka_access.client_config(stack.site, "operator") | {
        "group.id": "watershed.search",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    }
    consumer = Consumer(config)
    consumer.assign([TopicPartition(REQUESTS, number, 0) for number in range(REQUEST_PARTITIONS)])
    records: list[bytes] = []
    ended = 0
    deadline = time.monotonic() + 30
    while ended < REQUEST_PARTITIONS and time.monotonic() < deadline:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error() is not None:
            ended += 1
        else:
            records.append(message.value())
    consumer.close()
    assert ended == REQUEST_PARTITIONS
    return records


def test_nothing_that_was_asked_is_written_down_in_the_clear(stack: Stack) -> None:
    for stream in (False, True):
        assert stack.ask(GENERAL, stream=stream)[0] == "cloud"
        assert stack.ask(SENSITIVE, stream=stream)[0] == "onprem"
    site = stack.site
    database = site.home(site.topology["mariadb-a"])
    for place in (site.root, database):
        for canary in (CROSSES, STAYS, SSN):
            assert holding(place, canary.encode()) == [], canary

    # The search is worth something only where it would have found them: it looks at the brokers' records as they stand
    # on the disk, at the database's pages and at the logs.
    keys = {KEY_EPOCH: FileKeyRing(site.files("worker-a").folder / "keys").sealing("pool-cloud")}
    payloads = []
    for record in sealed_requests(stack):
        try:
            payloads.append((record, decode_call(open_request(record, keys).payload).body))
        except SealingError:
            continue
    crossed = [record for record, body in payloads if CROSSES.encode() in body]
    assert crossed, "the control canary is in a record, once that is unsealed"
    assert holding(site.home(site.topology["kafka-a"]), crossed[-1]), "and that record is in a file that was searched"
    assert not [body for _, body in payloads if STAYS.encode() in body]
    assert holding(database, TENANT.encode()), "the database's pages are readable"
    assert holding(site.logs, b"reply partition leased"), "the logs are readable"


# Who does not get in.


def peer(stack: Stack, name: str) -> PeerClient:
    files = stack.site.files(name)
    return PeerClient(TlsFiles(files.identity, files.identity, files.ca, files.crl))


async def call(client: PeerClient, url: str) -> HttpResponse:
    request = HttpRequest("POST", url, (("content-type", MSGPACK),), b"")
    return await client.send(request, time.monotonic() + 10)


@pytest.mark.parametrize(
    ("service", "path"), [("node-a", "/v1/chat/completions"), ("clearance", "/v1/clear"), ("witness", "/v1/cosign")]
)
async def test_a_worker_may_call_no_process_of_the_on_prem_zone(stack: Stack, service: str, path: str) -> None:
    url = stack.site.https_url(stack.site.topology[service])
    async with peer(stack, "worker-a") as worker, peer(stack, "gateway-a") as gateway:
        assert (await call(worker, url + path)).status == 403
        assert (await call(gateway, url + path)).status != 403


@pytest.mark.parametrize("service", ["node-a", "clearance", "witness", "worker-a"])
def test_without_a_certificate_there_is_no_connection(stack: Stack, service: str) -> None:
    url = stack.site.https_url(stack.site.topology[service])
    with httpx.Client(verify=stack.tls(), trust_env=False) as client, pytest.raises(httpx.TransportError):
        client.get(f"{url}/healthz").raise_for_status()


# What happens when something is gone. Each test leaves the stack whole.


@pytest.fixture
def whole_again(stack: Stack) -> Iterator[None]:
    yield
    up = stack.up()
    assert up.returncode == 0, up.stderr
    wait_for(lambda: stack.target("Name a river.") == "cloud", "answers from the cloud again")


@pytest.mark.usefixtures("whole_again")
def test_without_a_worker_general_questions_are_answered_at_home(stack: Stack) -> None:
    kill(stack, "worker-a")
    assert stack.target(GENERAL) == "onprem"
    assert stack.onprem.saw(CROSSES)
    assert not stack.cloud.saw(CROSSES)


@pytest.mark.usefixtures("whole_again")
def test_without_a_node_sensitive_questions_wait_and_are_refused(stack: Stack) -> None:
    kill(stack, "node-a")
    with pytest.raises(openai.InternalServerError) as refused:
        stack.ask(SENSITIVE)
    assert refused.value.status_code == 503
    assert "retry-after" in refused.value.response.headers
    assert stack.cloud.received == []
    assert stack.ask(GENERAL)[0] == "cloud", "and the others go on"


@pytest.mark.usefixtures("whole_again")
def test_without_the_clearance_authority_nothing_crosses(stack: Stack) -> None:
    kill(stack, "clearance")
    assert stack.target(GENERAL) == "onprem"
    assert not stack.cloud.saw(CROSSES)
    assert stack.ask(SENSITIVE)[0] == "onprem", "what stays needs no clearance"


@pytest.mark.usefixtures("whole_again")
def test_a_gateway_that_was_killed_comes_back_with_its_log(stack: Stack) -> None:
    stack.ask(GENERAL)
    kill(stack, "gateway-a")
    assert stack.up().returncode == 0
    assert stack.ask(SENSITIVE)[0] == "onprem"
    assert stack.operate("audit", "verify").returncode == 0


@pytest.mark.usefixtures("whole_again")
def test_without_the_broker_general_questions_are_answered_at_home(stack: Stack) -> None:
    kill(stack, "kafka-a")
    assert stack.target(GENERAL) == "onprem"
    assert stack.ask(SENSITIVE)[0] == "onprem"
    assert stack.cloud.received == []


@pytest.mark.usefixtures("whole_again")
def test_without_the_database_everything_is_refused(stack: Stack) -> None:
    """Neither callers' keys nor a conversation's taint can be looked up: what cannot be judged is not answered."""
    kill(stack, "mariadb-a")

    def refused(text: str) -> bool:
        try:
            stack.ask(text)
        except openai.InternalServerError as error:
            return error.status_code == 503
        return False

    # Callers' keys are known for a second after they were read.
    for text in (SENSITIVE, GENERAL):
        wait_for(lambda text=text: refused(text), "503")  # type: ignore[misc]
    assert not stack.cloud.saw(STAYS)
