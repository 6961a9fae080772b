"""The one interface every wire format implements; the pipeline never asks which it is.

bytes ─ receive ─▶ Call(document, segments, turns) ─ edits by pointer ─ render ─▶ bytes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from classifiers import Segment
from gateway.wire.pointer import edited
from gateway.wire.reading import write_json
from runtime.errors import WatershedError


class Turn(msgspec.Struct, frozen=True):
    """One message of a conversation as lineage sees it: where it stands, who spoke, each of its texts."""

    pointer: str
    role: str
    texts: tuple[str, ...]


class Call(msgspec.Struct, frozen=True):
    """A request, read.

    Attributes:
        wire: the format it came in.
        body: the bytes as received; forwarded as they are unless something is edited.
        document: the same, parsed; never changed in place.
        model: the model asked for, ``auto`` for the route's own choice.
        stream: whether the caller wants server-sent events.
        segments: everything in it that could say something.
        turns: its messages, oldest first.
        has_history: whether it continues something (assistant or tool turns).
    """

    wire: WireFormat
    body: bytes
    document: dict[str, Any]
    model: str
    stream: bool
    segments: tuple[Segment, ...]
    turns: tuple[Turn, ...]
    has_history: bool

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(segment.kind for segment in self.segments)

    def with_edits(self, edits: Mapping[str, Any]) -> Call:
        """The same call with values replaced by pointer, read again, so that its segments are true of it."""
        if not edits:
            return self
        return self.wire.receive(write_json(edited(self.document, edits)))


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the target reports them; None where it does not."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class AnswerReader(Protocol):
    """Listens to an answer passing by, for lineage and accounting; never holds it up."""

    def feed(self, chunk: bytes) -> None: ...

    def usage(self) -> Usage: ...

    def texts(self) -> list[str]:
        """What was said, each part of each choice by itself (text, refusal, reasoning, arguments of tool calls).

        Complete once the answer is; empty if ``keep_text`` was not asked for.
        """
        ...


class WireFormat(Protocol):
    """One wire format: how to read a body, what replaces what at the crossing, how to say no."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> str: ...

    def receive(self, body: bytes) -> Call:
        """Raises InvalidRequestError with a JSON pointer to what is wrong."""
        ...

    def crossing_edits(self, call: Call, token: str) -> dict[str, Any]:
        """What docs/threat-model.md, rules 3 and 5, replace before a body crosses, by pointer; ``token`` stands for the caller."""
        ...

    def model_edit(self, model: str) -> dict[str, Any]: ...

    def answer_reader(self, *, stream: bool, keep_text: bool) -> AnswerReader: ...

    def error_body(self, error: WatershedError) -> bytes: ...

    def stream_error(self, error: WatershedError) -> bytes:
        """The last event of a stream that broke."""
        ...
