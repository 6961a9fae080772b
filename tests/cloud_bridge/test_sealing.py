"""Sealing: what is changed, cut, swapped, repeated or meant for others does not open."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.messages import HEADER_BYTES, PREFIX_BYTES, Header, Schema
from cloud_bridge.sealing import (
    BUCKET_BYTES,
    TAG_BYTES,
    WRAPPED_BYTES,
    AnswerOpener,
    AnswerSealer,
    check_cancellation,
    open_request,
    pad,
    seal_cancellation,
    seal_request,
    unpad,
)
from runtime.errors import SealingError

POOL = X25519PrivateKey.generate()
INSTANCE = X25519PrivateKey.generate()
HEADER = Header(Schema.INTL_REQUEST, bytes(range(16)), 1_790_000_000_000_000, 3)
ANSWER = Header(Schema.INTL_ANSWER, HEADER.message_id, HEADER.deadline_us, 8)
SECRET = bytes(32)


def room_for(payload: bytes) -> bytearray:
    return bytearray(PREFIX_BYTES) + payload


def sealed(payload: bytes = b"payload") -> bytes:
    return seal_request(HEADER, room_for(payload), POOL.public_key()).message


def answer_of(*payloads: bytes, secret: bytes = SECRET, header: Header = ANSWER) -> list[bytes]:
    sealer = AnswerSealer(header, INSTANCE.public_key(), secret)
    return [sealer.seal(room_for(p), end=i == len(payloads) - 1) for i, p in enumerate(payloads)]


def opener(secret: bytes = SECRET, header: Header = ANSWER) -> AnswerOpener:
    return AnswerOpener(header, INSTANCE, secret)


def read(message: bytes, into: AnswerOpener) -> tuple[bytes, bool] | None:
    opened = into.open(message)
    return None if opened is None else (bytes(opened[0]), opened[1])


# --- padding ---


@given(st.binary(max_size=1200))
def test_padding_comes_off_again_and_hides_all_but_the_bucket(payload: bytes) -> None:
    padded = bytes(pad(room_for(payload)))

    assert unpad(padded) == payload
    assert len(padded) % BUCKET_BYTES == 0
    assert len(padded) - PREFIX_BYTES - len(payload) < BUCKET_BYTES


@pytest.mark.parametrize("padded", [b"", bytes(255), bytes(512), b"\x00\x00\x00\xfd" + bytes(252), b"\xff" * 256])
def test_padding_of_another_shape_is_refused(padded: bytes) -> None:
    with pytest.raises(SealingError):
        unpad(padded)


# --- requests ---


@given(st.binary(max_size=2000))
def test_a_request_opens_for_its_pool_and_both_ends_share_a_secret(payload: bytes) -> None:
    request = seal_request(HEADER, room_for(payload), POOL.public_key())

    opened = open_request(request.message, {3: POOL})

    assert (opened.header, bytes(opened.payload), opened.secret) == (HEADER, payload, request.secret)


def test_outside_the_seal_stands_the_header_and_nothing_else_has_a_shape() -> None:
    message = sealed(b"x" * 300)

    assert message[:HEADER_BYTES] == HEADER.pack()
    assert len(message) == HEADER_BYTES + WRAPPED_BYTES + 2 * BUCKET_BYTES + TAG_BYTES
    assert len(sealed(b"")) == len(sealed(b"x" * 252)) < len(sealed(b"x" * 253))


def test_the_same_request_never_looks_the_same_twice() -> None:
    assert sealed()[HEADER_BYTES:] != sealed()[HEADER_BYTES:]


@given(st.data())
def test_any_changed_byte_of_a_request_breaks_its_seal(data: st.DataObject) -> None:
    message = bytearray(sealed())
    message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(SealingError):
        open_request(bytes(message), dict.fromkeys(range(256), POOL))


@given(st.integers(0, 500))
def test_a_request_cut_short_does_not_open(length: int) -> None:
    message = sealed()
    with pytest.raises(SealingError):
        open_request(message[: min(length, len(message) - 1)], {3: POOL})


def test_another_pool_cannot_open_it() -> None:
    with pytest.raises(SealingError):
        open_request(sealed(), {3: X25519PrivateKey.generate()})


def test_a_key_of_another_epoch_is_not_tried() -> None:
    with pytest.raises(SealingError) as caught:
        open_request(sealed(), {2: POOL, 4: POOL})
    assert caught.value.code == "seal_epoch"


@pytest.mark.parametrize("schema", [0x0000, 0x0102, 0x0103, 0x0199, 0x0201])
def test_an_unknown_schema_or_suite_is_refused(schema: int) -> None:
    with pytest.raises(SealingError) as caught:
        open_request(schema.to_bytes(2, "big") + sealed()[2:], {3: POOL})
    assert caught.value.code == "seal_schema"


def test_header_and_content_of_two_requests_do_not_mix() -> None:
    other = Header(HEADER.schema, os.urandom(16), HEADER.deadline_us, HEADER.key_epoch)
    one, two = sealed(), seal_request(other, room_for(b"payload"), POOL.public_key()).message

    for mixed in (
        one[:HEADER_BYTES] + two[HEADER_BYTES:],
        one[: HEADER_BYTES + WRAPPED_BYTES] + two[HEADER_BYTES + WRAPPED_BYTES :],
    ):
        with pytest.raises(SealingError):
            open_request(mixed, {3: POOL})


# --- answers ---


@given(st.lists(st.binary(max_size=600), min_size=1, max_size=6))
def test_an_answer_opens_in_order_up_to_its_end_mark(payloads: list[bytes]) -> None:
    into = opener()

    found = [read(message, into) for message in answer_of(*payloads)]

    assert found == [(payload, i == len(payloads) - 1) for i, payload in enumerate(payloads)]


@given(st.data())
def test_any_changed_byte_of_a_chunk_breaks_the_answer(data: st.DataObject) -> None:
    messages = answer_of(b"head", b"body", b"end")
    at = data.draw(st.integers(0, 2))
    changed = bytearray(messages[at])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    into = opener()
    for message in messages[:at]:
        read(message, into)

    with pytest.raises(SealingError):
        read(bytes(changed), into)


@given(st.permutations(range(4)))
def test_swapped_chunks_do_not_open(order: list[int]) -> None:
    messages, into = answer_of(b"0", b"1", b"2", b"3"), opener()
    if order == [0, 1, 2, 3]:
        return

    with pytest.raises(SealingError):  # noqa: PT012
        for position in order:
            read(messages[position], into)


def test_a_left_out_chunk_is_noticed_at_the_next() -> None:
    first, _, third = answer_of(b"0", b"1", b"2")
    into = opener()
    read(first, into)

    with pytest.raises(SealingError):
        read(third, into)


def test_an_exact_repetition_is_told_from_a_forgery() -> None:
    messages, into = answer_of(b"0", b"1", b"2"), opener()

    assert read(messages[0], into) == (b"0", False)
    assert read(messages[0], into) is None
    assert read(messages[1], into) == (b"1", False)
    assert read(messages[0], into) is None


def test_nothing_comes_after_the_end() -> None:
    sealer, into = AnswerSealer(ANSWER, INSTANCE.public_key(), SECRET), opener()
    read(sealer.seal(room_for(b"end"), end=True), into)

    with pytest.raises(SealingError):
        read(sealer.seal(room_for(b"more"), end=False), into)


@pytest.mark.parametrize("length", [0, HEADER_BYTES, HEADER_BYTES + WRAPPED_BYTES, 300])
def test_a_chunk_cut_short_does_not_open(length: int) -> None:
    with pytest.raises(SealingError):
        read(answer_of(b"only")[0][:length], opener())


def test_chunks_of_another_answer_do_not_open() -> None:
    other = Header(ANSWER.schema, os.urandom(16), ANSWER.deadline_us, ANSWER.key_epoch)
    for message in (answer_of(b"0", header=other)[0], ANSWER.pack() + answer_of(b"0", header=other)[0][HEADER_BYTES:]):
        with pytest.raises(SealingError):
            read(message, opener())


def test_who_did_not_open_the_request_cannot_answer_it() -> None:
    """The instance's public key is no secret, and HPKE's base mode lets anybody seal to it."""
    with pytest.raises(SealingError):
        read(answer_of(b"forged", secret=os.urandom(32))[0], opener())


# --- cancellations ---


def test_only_who_sealed_the_request_can_cancel_it() -> None:
    request = seal_request(HEADER, room_for(b""), POOL.public_key())

    check_cancellation(seal_cancellation(HEADER, request.secret), request.secret)

    with pytest.raises(SealingError):
        check_cancellation(seal_cancellation(HEADER, os.urandom(32)), request.secret)


@given(st.data())
def test_any_changed_byte_of_a_cancellation_voids_it(data: st.DataObject) -> None:
    message = bytearray(seal_cancellation(HEADER, SECRET))
    message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(SealingError):
        check_cancellation(bytes(message), SECRET)
