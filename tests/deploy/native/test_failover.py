"""The pair that survives: a broker and a database node are killed while records are written, and none is lost."""

from __future__ import annotations

import signal
import ssl
import time
from typing import Any

import pytest

from deploy import kafka_access
from deploy.native import mariadb
from deploy.native.supervisor import Supervisor

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]
DEADLINE_S = 30.0
TOPIC = "watershed.inference.requests"


def test_no_acknowledged_record_is_lost_with_a_broker(full_stack: Supervisor) -> None:
    from confluent_kafka import Producer

    acknowledged: list[bytes] = []
    failures: list[Any] = []

    def delivered(error: Any, message: Any) -> None:
        failures.append(error) if error else acknowledged.append(message.value())

    settings = {**kafka_access.client_config(full_stack.site, "gateway-a"), "acks": "all", "enable.idempotence": True}
    producer = Producer({**settings, "linger.ms": 0, "message.timeout.ms": int(DEADLINE_S * 1000)})
    sent = [str(number).encode() for number in range(400)]
    for position, value in enumerate(sent):
        if position == 100:
            producer.flush(DEADLINE_S)
            full_stack.process(full_stack.site.topology["kafka-b"]).signal(signal.SIGKILL)
        producer.produce(TOPIC, value, key=value, on_delivery=delivered)
        producer.poll(0.005)
    assert producer.flush(DEADLINE_S) == 0
    assert failures == []
    assert sorted(acknowledged) == sorted(sent)
    assert sorted(_everything(full_stack, len(sent))) == sorted(sent), "each once: none lost, none doubled"
    full_stack.up()
    assert [line.name for line in full_stack.status() if line.state in {"stopped", "unhealthy"}] == []


def _everything(stack: Supervisor, count: int) -> list[bytes]:
    from confluent_kafka import Consumer

    settings = {**kafka_access.client_config(stack.site, "worker-a"), "auto.offset.reset": "earliest"}
    consumer = Consumer(
        {**settings, "group.id": "watershed.workers", "session.timeout.ms": 3000, "heartbeat.interval.ms": 500}
    )
    consumer.subscribe([TOPIC])
    values: list[bytes] = []
    end = time.monotonic() + DEADLINE_S
    quiet = 0
    try:
        while time.monotonic() < end and (len(values) < count or quiet < 4):
            message = consumer.poll(0.25)
            quiet = quiet + 1 if message is None else 0
            if message is not None and message.error() is None:
                values.append(message.value())
    finally:
        consumer.close()
    return values


def test_no_committed_row_is_lost_with_a_database_node(full_stack: Supervisor) -> None:
    _execute(full_stack, "mariadb-a", "CREATE TABLE probe (id INT PRIMARY KEY)")
    full_stack.process(full_stack.site.topology["mariadb-b"]).signal(signal.SIGKILL)
    committed = []
    began = time.monotonic()
    for number in range(50):
        _execute(full_stack, "mariadb-a", f"INSERT INTO probe VALUES ({number})")
        committed.append(number)
    assert time.monotonic() - began < DEADLINE_S, "the arbiter's vote keeps the survivor primary"
    full_stack.up()
    rows = _execute(full_stack, "mariadb-b", "SELECT id FROM probe ORDER BY id", "SET SESSION wsrep_sync_wait = 1")
    assert [row[0] for row in rows] == committed
    _execute(full_stack, "mariadb-b", "DROP TABLE probe")


def _execute(stack: Supervisor, node: str, statement: str, *before: str) -> Any:
    import pymysql

    address = stack.site.address(stack.site.topology[node], "sql")
    files = stack.site.files("operator")
    context = ssl.create_default_context(cafile=str(files.ca))
    context.load_cert_chain(files.identity)
    with pymysql.connect(
        host=address.host,
        port=address.port,
        user="operator",
        database=mariadb.DATABASE,
        ssl=context,
        autocommit=True,
        connect_timeout=10,
        read_timeout=DEADLINE_S,
    ) as connection:
        cursor = connection.cursor()
        for line in (*before, statement):
            cursor.execute(line)
        return cursor.fetchall()


def test_the_standby_founds_the_group_where_it_stopped_last(full_stack: Supervisor) -> None:
    full_stack.down(["mariadb-arbiter", "mariadb-a"])
    _execute(full_stack, "mariadb-b", "CREATE TABLE late (id INT)")
    full_stack.down(["mariadb-b"])
    full_stack.up(["mariadb-arbiter"])
    assert _execute(full_stack, "mariadb-a", "SHOW TABLES LIKE 'late'", "SET SESSION wsrep_sync_wait = 1")
    _execute(full_stack, "mariadb-a", "DROP TABLE late")


def test_the_group_comes_back_after_a_crash_of_all_its_members(full_stack: Supervisor) -> None:
    _execute(full_stack, "mariadb-a", "CREATE TABLE crashed (id INT)")
    for name in ("mariadb-a", "mariadb-b", "mariadb-arbiter"):
        full_stack.process(full_stack.site.topology[name]).signal(signal.SIGKILL)
    full_stack.up(["mariadb-arbiter"])
    for node in ("mariadb-a", "mariadb-b"):
        assert _execute(full_stack, node, "SHOW TABLES LIKE 'crashed'"), node
