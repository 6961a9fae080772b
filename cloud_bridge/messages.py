"""The messages of the crossing: a fixed header outside the seal, msgpack inside.

    ┌ header, 30 bytes, authenticated ──────────────────┐┌ sealed ───────────────────────────────┐
    │ schema u16 │ message id 16 │ deadline u64 │ epoch u32 ││ request, answer chunk; or a tag, a signature   │

Nothing else stands outside (TRUST.md, rule 2). The high byte of the schema names the suite, the low byte the message.
The message id is a hash of the clearance's id: random to whoever has no clearance, yet a used clearance can be known by
the headers alone, so that a worker which takes over a partition can read them back.
"""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum
from typing import Annotated

import msgspec

from cloud_bridge.clearance import Clearance
from cloud_bridge.crossing import Crossing
from runtime.errors import SealingError
from runtime.http import Headers, HttpRequest

_HEADER = struct.Struct(">H16sQI")
HEADER_BYTES = _HEADER.size
MAX_CHUNK_BYTES = 256 * 1024


class Schema(IntEnum):
    INTL_REQUEST = 0x0101
    INTL_ANSWER = 0x0102
    INTL_CANCEL = 0x0103
    INTL_EPOCH = 0x0104


class Header(msgspec.Struct, frozen=True):
    """All that a broker can read. ``deadline_us``: wall clock; ``key_epoch``: of the key that the seal is for."""

    schema: Schema
    message_id: bytes
    deadline_us: int
    key_epoch: int

    def pack(self) -> bytes:
        return _HEADER.pack(self.schema, self.message_id, self.deadline_us, self.key_epoch)


def read_header(message: bytes, expected: Schema) -> Header:
    """The header of a message.

    Raises:
        SealingError: too short, or of another schema or suite than ``expected``.
    """
    if len(message) <= HEADER_BYTES:
        raise SealingError("the message is truncated", code="seal_truncated")
    schema, message_id, deadline_us, key_epoch = _HEADER.unpack_from(message)
    if schema != expected:
        raise SealingError("the message's schema or suite is not known here", code="seal_schema")
    return Header(expected, message_id, deadline_us, key_epoch)


def message_id_of(clearance: Clearance) -> bytes:
    """16 bytes, unlinkable to the clearance for anyone who has not seen it."""
    return hashlib.sha256(b"watershed message id\x00" + clearance.id.encode()).digest()[:16]


class ReplyTo(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where answers go: the gateway's leased partition, the epoch of its lease and its raw X25519 public key."""

    topic: str
    partition: int
    epoch: int
    public_key: bytes


class SealedCall(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A request inside its seal.

    Topic, partition and deadline are not in it: the worker takes them from where the message stood and from its header,
    so that what the clearance says is compared with what happened.
    """

    request_id: str
    decision_id: str
    policy_version: str
    tenant: str
    recipient: str
    attempt: int
    method: str
    url: str
    headers: Headers
    body: bytes
    stream: bool
    clearance: Clearance
    reply_to: ReplyTo

    @classmethod
    def of(cls, crossing: Crossing, clearance: Clearance, reply_to: ReplyTo) -> SealedCall:
        request = crossing.request
        return cls(
            request_id=crossing.request_id,
            decision_id=crossing.decision_id,
            policy_version=crossing.policy_version,
            tenant=crossing.tenant,
            recipient=crossing.recipient,
            attempt=crossing.attempt,
            method=request.method,
            url=request.url,
            headers=request.headers,
            body=request.body,
            stream=crossing.stream,
            clearance=clearance,
            reply_to=reply_to,
        )

    def crossing(self, *, topic: str, partition: int, deadline_us: int) -> Crossing:
        """The crossing that this message is, given where and until when it stood."""
        return Crossing(
            request_id=self.request_id,
            decision_id=self.decision_id,
            policy_version=self.policy_version,
            tenant=self.tenant,
            recipient=self.recipient,
            attempt=self.attempt,
            request=HttpRequest(self.method, self.url, self.headers, self.body),
            stream=self.stream,
            topic=topic,
            partition=partition,
            deadline_us=deadline_us,
        )


class Head(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """The first chunk of an answer: status and the headers that may come back."""

    status: Annotated[int, msgspec.Meta(ge=200, le=599)]
    headers: Headers


class Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    data: bytes


class End(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """The answer is whole."""


class Fault(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """The call ended without a whole answer; ``kind`` says which error the gateway raises. Codes only, never text."""

    kind: str
    code: Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]{1,64}$")]
    retry_after_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] | None = None


class Beat(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """The call is being worked on."""


Frame = Head | Body | End | Fault | Beat

_encoder = msgspec.msgpack.Encoder()
_call_decoder = msgspec.msgpack.Decoder(SealedCall)
_frame_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)

PREFIX_BYTES = 4  # room for the length that the padding needs, so that the payload is written once, in place


def encode(message: SealedCall | Frame) -> bytearray:
    """The message after ``PREFIX_BYTES`` of room, as ``sealing.pad`` wants it."""
    buffer = bytearray(PREFIX_BYTES)
    _encoder.encode_into(message, buffer, PREFIX_BYTES)
    return buffer


def decode_call(payload: bytes | memoryview) -> SealedCall:
    """Raises SealingError for anything that is not a call."""
    try:
        return _call_decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise SealingError("the sealed request cannot be read", code="seal_content") from None


def decode_frame(payload: bytes | memoryview) -> Frame:
    """Raises SealingError for anything that is not a chunk of an answer."""
    try:
        return _frame_decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise SealingError("the sealed answer cannot be read", code="seal_content") from None
