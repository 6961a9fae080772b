"""What other workers used is known by headers alone, for as long as it could be used again."""

from __future__ import annotations

import pytest

from cloud_bridge.clearance import MAX_LIFETIME_S
from cloud_bridge.earlier import EarlierMessages
from cloud_bridge.messages import Header, Schema
from cloud_bridge.transport import REQUESTS, Record
from runtime.errors import ClearanceError


def record(message_id: bytes, *, schema: Schema = Schema.INTL_REQUEST, deadline_us: int = 1) -> Record:
    return Record(REQUESTS, 0, 0, Header(schema, message_id, deadline_us, 3).pack() + b"sealed")


def used(earlier: EarlierMessages, message_id: bytes) -> bool:
    try:
        earlier.check(message_id)
    except ClearanceError:
        return True
    return False


def test_a_message_that_another_worker_took_is_used_whatever_deadline_its_header_names() -> None:
    earlier = EarlierMessages(lambda: 10_000_000)
    earlier.note(record(b"a" * 16, deadline_us=1))

    assert used(earlier, b"a" * 16)
    assert not used(earlier, b"b" * 16)


@pytest.mark.parametrize("value", [b"", b"short", b"\x00" * 64])
def test_what_is_no_request_was_used_by_nobody(value: bytes) -> None:
    earlier = EarlierMessages()
    earlier.note(Record(REQUESTS, 0, 0, value))
    earlier.note(record(b"a" * 16, schema=Schema.INTL_CANCEL))

    assert not used(earlier, b"a" * 16)


def test_it_is_forgotten_once_no_clearance_can_be_valid_any_more() -> None:
    now = [0]
    earlier = EarlierMessages(lambda: now[0])
    earlier.note(record(b"a" * 16))
    now[0] = MAX_LIFETIME_S * 1_000_000
    earlier.note(record(b"b" * 16))
    assert used(earlier, b"a" * 16)

    now[0] += 10_000_000
    earlier.note(record(b"c" * 16))
    assert not used(earlier, b"a" * 16)
    assert used(earlier, b"b" * 16)
