"""From an engine's deltas to OpenAI's answers: content, tool calls and JSON; whole, or as server-sent events.

Delta ──▶ ChoiceReader ──▶ Piece ──▶ completion (one body) │ EventWriter (chunks)
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from local_inference.chat import ChatCall
from local_inference.engines.base import Delta, FinishReason, GenerationRequest, ToolCall
from local_inference.tools import JsonObjectEnd, forced_call, forced_prefix, json_object, read_call
from runtime.errors import UpstreamError
from runtime.ids import new_id


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the answer with number ``index``; the last one has the finish reason and the tokens used."""

    index: int
    content: str = ""
    tool_call: ToolCall | None = None
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ChoiceReader:
    """Reads one answer's deltas as what the caller asked for.

    Plain text passes at once. JSON and forced calls are kept until their object is closed; with tools, so is an answer
    that begins with ``{``, until it is known to be a call or not.
    """

    def __init__(self, call: ChatCall, index: int) -> None:
        self._call = call
        self._index = index
        self._function = call.forced_function
        self._json = self._function is not None or call.generation.response_format == "json_object"
        self._object = JsonObjectEnd()
        self._held = self._object.push("{") if self._json else ""
        self._begun = False

    @property
    def request(self) -> GenerationRequest:
        """What the engine is asked for."""
        seed = self._call.generation.seed
        prefix = forced_prefix(self._function) if self._function else self._held
        return msgspec.structs.replace(
            self._call.generation, seed=None if seed is None else _next_seed(seed, self._index), prefix=prefix
        )

    def read(self, delta: Delta) -> Piece | None:
        """The next piece, where there is one. After one with a finish reason no more deltas are wanted.

        Raises:
            UpstreamError: JSON was asked for, and the model's answer is none.
        """
        if self._json:
            self._held += self._object.push(delta.text)
            if not self._object.complete and delta.finish_reason is None:
                return None
            return self._json_piece(delta)
        text = self._held + delta.text
        if not self._begun and self._call.generation.tools:
            start = text.lstrip()
            if delta.finish_reason is None and (not start or start[0] == "{"):
                self._held = text
                return None
            call = read_call(text, self._call.generation.tools)
            if call is not None:
                return self._last(delta, tool_call=call, finish_reason="tool_calls")
        self._begun, self._held = True, ""
        if delta.finish_reason is not None:
            return self._last(delta, content=text, finish_reason=delta.finish_reason)
        return Piece(index=self._index, content=text) if text else None

    def _json_piece(self, delta: Delta) -> Piece:
        if self._function is not None:
            call = forced_call(self._function, self._held)
            return self._last(delta, tool_call=call, finish_reason="tool_calls")
        reason: FinishReason = "stop" if self._object.complete else delta.finish_reason or "stop"
        if reason == "stop" and json_object(self._held) is None:
            raise UpstreamError("the local model's answer is not valid JSON", code="json_not_produced")
        return self._last(delta, content=self._held, finish_reason=reason)

    def _last(self, delta: Delta, **values: Any) -> Piece:
        return Piece(
            index=self._index,
            prompt_tokens=delta.prompt_tokens,
            completion_tokens=delta.completion_tokens,
            **values,
        )


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0

    def add(self, piece: Piece) -> None:
        """The prompt counts once, however many answers were made for it."""
        self.prompt_tokens = max(self.prompt_tokens, piece.prompt_tokens)
        self.completion_tokens += piece.completion_tokens
        self.total_tokens = self.prompt_tokens + self.completion_tokens


class Answer:
    """One answer in OpenAI's form: its id, its time, and who made it."""

    def __init__(self, model: str, fingerprint: str) -> None:
        self._head = {
            "id": new_id("chatcmpl"),
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }

    def completion(self, pieces: Iterable[Piece]) -> bytes:
        """The whole answer as one ``chat.completion``."""
        usage = _Usage()
        contents: dict[int, list[str]] = {}
        finals: dict[int, Piece] = {}
        for piece in pieces:
            usage.add(piece)
            contents.setdefault(piece.index, []).append(piece.content)
            finals[piece.index] = piece
        choices = [
            {
                "index": index,
                "message": _message("".join(contents[index]), final.tool_call),
                "logprobs": None,
                "finish_reason": final.finish_reason,
            }
            for index, final in sorted(finals.items())
        ]
        return msgspec.json.encode({**self._head, "object": "chat.completion", "choices": choices, "usage": usage})

    def events(self, *, include_usage: bool) -> EventWriter:
        return EventWriter(self._head, include_usage=include_usage)


class EventWriter:
    """Writes pieces as ``chat.completion.chunk`` events."""

    def __init__(self, head: dict[str, Any], *, include_usage: bool) -> None:
        self._head = {**head, "object": "chat.completion.chunk"}
        self._include_usage = include_usage
        self._usage = _Usage()
        self._begun: set[int] = set()

    def write(self, piece: Piece) -> bytes:
        """The events of one piece: the role first, then what is new, then why it ended."""
        self._usage.add(piece)
        events = []
        if piece.index not in self._begun:
            self._begun.add(piece.index)
            content = None if piece.tool_call else ""
            events.append(self._chunk(piece.index, {"role": "assistant", "content": content}))
        if piece.content:
            events.append(self._chunk(piece.index, {"content": piece.content}))
        if piece.tool_call:
            events.append(self._chunk(piece.index, {"tool_calls": [{"index": 0, **_tool_call(piece.tool_call)}]}))
        if piece.finish_reason:
            events.append(self._chunk(piece.index, {}, piece.finish_reason))
        return b"".join(events)

    def end(self) -> bytes:
        """The counts, where they were asked for, and ``[DONE]``."""
        usage = _event({**self._head, "choices": [], "usage": self._usage}) if self._include_usage else b""
        return usage + b"data: [DONE]\n\n"

    def _chunk(self, index: int, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self._include_usage else {}
        return _event({**self._head, "choices": [choice], **usage})


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _message(content: str, call: ToolCall | None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content or None if call else content, "refusal": None}
    return {**message, "tool_calls": [_tool_call(call)]} if call else message


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _next_seed(seed: int, index: int) -> int:
    """``seed + index``, in 64 signed bits."""
    return (seed + index + 2**63) % 2**64 - 2**63
