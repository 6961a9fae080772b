"""What the log records: decisions, clearances, how each request ended, and acts of administration.

Events hold no content (docs/architecture.md, law 7): commitments, spans, types, rule ids and codes only. An event's bytes are
its JSON with the fields in the order written here; those bytes are what is hashed, stored and proved.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TypeAlias

import msgspec

from audit.merkle import leaf_hash


class Span(msgspec.Struct, frozen=True):
    """Where something was found: a classifier's finding without its text.

    Attributes:
        pointer: JSON pointer of the segment.
        start, end: Unicode code points, end exclusive.
        score: 0 … 1.
    """

    pointer: str
    entity_type: str
    start: int
    end: int
    score: float
    detector: str


class DecisionEvent(msgspec.Struct, frozen=True, tag_field="type", tag="decision"):
    """What was decided of one request, and on what grounds; durable before anything of it leaves.

    Attributes:
        at_us: microseconds since the Unix epoch, as in every event.
        unscanned: (JSON pointer, reason) of what could not be scanned.
        edits: (entity type, edit).
        body_commitment: ``commitment`` over the request's body.
    """

    request_id: str
    tenant: str
    at_us: int
    endpoint: str
    decision_id: str
    policy_version: str
    classifier: str
    sensitivity: str
    categories: tuple[str, ...]
    spans: tuple[Span, ...]
    unscanned: tuple[tuple[str, str], ...]
    rules: tuple[str, ...]
    route: str
    recipients: tuple[str, ...]
    edits: tuple[tuple[str, str], ...]
    body_commitment: str
    stream: bool


class ClearanceEvent(msgspec.Struct, frozen=True, tag_field="type", tag="clearance"):
    """A clearance, or its refusal; durable before the first byte crosses.

    Attributes:
        attempt: counts the request's calls of targets, from 1.
        body_digest_commitment: ``commitment`` over the body that was to cross.
        not_after_us: the clearance's deadline; 0 when refused.
        outcome: ``issued`` or ``refused``.
        reason: the refusal's code; empty when issued.
    """

    request_id: str
    at_us: int
    clearance_id: str
    decision_id: str
    recipient: str
    attempt: int
    target: str
    body_digest_commitment: str
    not_after_us: int
    outcome: str
    reason: str


class ClosingEvent(msgspec.Struct, frozen=True, tag_field="type", tag="closing"):
    """How one request ended (law 6): one a request.

    Attributes:
        outcome: ``answered``, ``refused``, ``expired``, ``cancelled``, ``failed`` or ``interrupted``.
        status: the HTTP status the caller got; 0 for ``interrupted``, where it is not known.
        first_byte_us, duration_us: microseconds since the request was admitted.
    """

    request_id: str
    tenant: str
    at_us: int
    outcome: str
    status: int
    code: str
    target: str
    attempts: int
    prompt_tokens: int | None
    completion_tokens: int | None
    first_byte_us: int | None
    duration_us: int


class AdminEvent(msgspec.Struct, frozen=True, tag_field="type", tag="admin"):
    """An act of administration: a key made, a policy activated, a log opened.

    Attributes:
        detail: (name, value) pairs; never content.
    """

    at_us: int
    actor: str
    action: str
    subject: str
    detail: tuple[tuple[str, str], ...] = ()


Event: TypeAlias = DecisionEvent | ClearanceEvent | ClosingEvent | AdminEvent


class Receipt(msgspec.Struct, frozen=True):
    """Where a durable event stands: the log, its index there (from 0) and its leaf's 32-byte hash."""

    log_id: str
    index: int
    leaf_hash: bytes


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """The event's canonical bytes."""
    return _encoder.encode(event)


def decode(data: bytes) -> Event:
    """The event with these bytes. Raises msgspec.MsgspecError where they are none."""
    return _decoder.decode(data)


def kind_of(event: Event) -> str:
    """``decision``, ``clearance``, ``closing`` or ``admin``."""
    return str(event.__struct_config__.tag)


def leaf_hash_of(event: Event) -> bytes:
    """The hash under which the event stands in a log."""
    return leaf_hash(encode(event))


def commitment(salt: bytes, data: bytes) -> str:
    """HMAC-SHA-256 of ``data`` under ``salt``, in hex. Without the salt it says nothing, so erasing the salt erases it."""
    return hmac.new(salt, data, hashlib.sha256).hexdigest()
