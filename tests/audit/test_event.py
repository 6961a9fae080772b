from __future__ import annotations

import hashlib
import hmac
import json

from audit.event import AdminEvent, Event, commitment, decode, encode, kind_of, leaf_hash_of
from audit.merkle import leaf_hash
from tests.audit.conftest import clearance, closing, decision

EVENTS: list[Event] = [decision(1), clearance(1), closing(1), AdminEvent(1, "officer", "key.created", "tenant-a")]


def test_events_read_back_as_they_were_and_have_one_encoding() -> None:
    for event in EVENTS:
        assert decode(encode(event)) == event
        assert encode(decode(encode(event))) == encode(event)


def test_bytes_are_json_that_begins_with_the_kind_and_keeps_the_fields_in_order() -> None:
    for event in EVENTS:
        fields = list(json.loads(encode(event)))
        assert fields == ["type", *event.__struct_fields__]
        assert json.loads(encode(event))["type"] == kind_of(event)


def test_an_events_leaf_is_the_hash_of_its_bytes() -> None:
    assert leaf_hash_of(EVENTS[0]) == leaf_hash(encode(EVENTS[0]))
    assert leaf_hash_of(EVENTS[0]) != leaf_hash_of(decision(2))


def test_a_commitment_is_an_hmac_so_that_without_its_salt_guesses_cannot_be_tried() -> None:
    assert commitment(b"salt", b"body") == hmac.new(b"salt", b"body", hashlib.sha256).hexdigest()
    assert commitment(b"other", b"body") != commitment(b"salt", b"body")
