"""Messages: 30 bytes outside, msgpack inside, and nothing that is read in two ways."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.messages import (
    HEADER_BYTES,
    PREFIX_BYTES,
    Beat,
    Body,
    End,
    Fault,
    Frame,
    Head,
    Header,
    Schema,
    decode_call,
    decode_frame,
    encode,
    read_header,
)
from runtime.errors import SealingError

CODES = st.from_regex(r"[a-z0-9_]{1,64}", fullmatch=True)
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Head, st.integers(200, 599), st.lists(st.tuples(st.text(), st.text()), max_size=3).map(tuple)),
    st.builds(Body, st.binary()),
    st.builds(Fault, st.text(), CODES, st.none() | st.floats(0, 86_400)),
    st.just(End()),
    st.just(Beat()),
)


@given(
    st.sampled_from(Schema), st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)
)
def test_a_header_comes_back_as_it_was(schema: Schema, message_id: bytes, deadline_us: int, epoch: int) -> None:
    header = Header(schema, message_id, deadline_us, epoch)

    assert len(header.pack()) == HEADER_BYTES
    assert read_header(header.pack() + b"sealed", schema) == header


@given(st.binary(max_size=40), st.sampled_from(Schema))
def test_other_bytes_are_no_header(data: bytes, schema: Schema) -> None:
    if data[:2] == schema.to_bytes(2, "big") and len(data) > HEADER_BYTES:
        return
    with pytest.raises(SealingError):
        read_header(data, schema)


@given(FRAMES)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert decode_frame(memoryview(encode(frame))[PREFIX_BYTES:]) == frame


@given(st.binary(max_size=64))
def test_no_bytes_make_a_reader_raise_anything_but_a_sealing_error(data: bytes) -> None:
    for decode in (decode_call, decode_frame):
        with contextlib.suppress(SealingError):
            decode(data)


@pytest.mark.parametrize(
    "frame",
    [
        [1, 99, []],
        [1, 600, []],
        [4, "target", "Not A Code", None],
        [4, "target", "ok", -1.0],
        [2, b"x", "more"],
        [9],
        [],
    ],
)
def test_frames_out_of_range_are_refused(frame: list[object]) -> None:
    with pytest.raises(SealingError):
        decode_frame(msgspec.msgpack.encode(frame))
