"""OpenAI's Chat Completions (https://platform.openai.com/docs/api-reference/chat/create).

The field table below is the whole of what this gateway knows of the format. A field that is not in it makes the request
unscannable, so it stays on-prem.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from classifiers import Segment
from gateway.wire.base import Call, Turn, Usage
from gateway.wire.fields import Binary, Either, Free, Items, Record, Refused, Tagged, Text, Treatment, walk
from gateway.wire.pointer import REMOVED
from gateway.wire.reading import read_json, write_json
from runtime.errors import InvalidRequestError, PayloadTooLargeError, WatershedError

_REPLACED = Treatment.REPLACED
_WORD = Text(kind="control")
_NAME = Text(kind="name")
_TEXT = Text()
_NUMBER = Text(kind="control")  # numbers are scanned when long; a string in their place is scanned too


def _words(*safe: str) -> Text:
    return Text(kind="control", safe=frozenset(safe))


def _refuse_reference(pointer: str, value: Any) -> None:
    if isinstance(value, str) and not value[:5].lower() == "data:":
        raise InvalidRequestError(
            "content by reference is never fetched: send it inline as a data: URL",
            code="reference_not_allowed",
            param=pointer,
        )


_FILE_ID = Refused(
    "reference_not_allowed", "this file id was not issued by this gateway: send the file inline as file_data"
)
_CACHE_MARK = Record({"mode": _words("implicit", "explicit"), "ttl": _words("30m", "12h")})
_TEXT_PART = Record({"type": _words("text"), "text": _TEXT, "prompt_cache_breakpoint": _CACHE_MARK})
_PART = Tagged(
    "type",
    {
        "text": _TEXT_PART,
        "refusal": Record({"type": _words("refusal"), "refusal": _TEXT}),
        "image_url": Record({
            "type": _words("image_url"),
            "image_url": Record({"url": Binary("image", check=_refuse_reference), "detail": _words("auto", "low", "high", "original")}),
            "prompt_cache_breakpoint": _CACHE_MARK,
        }),
        "input_audio": Record({
            "type": _words("input_audio"),
            "input_audio": Record({"data": Binary("audio"), "format": _words("wav", "mp3")}),
            "prompt_cache_breakpoint": _CACHE_MARK,
        }),
        "file": Record({
            "type": _words("file"),
            "file": Record({"file_data": Binary("file"), "filename": _NAME, "file_id": _FILE_ID}),
            "prompt_cache_breakpoint": _CACHE_MARK,
        }),
    },
)  # fmt: skip
_CONTENT = Either(text=_TEXT, items=Items(_PART))
_TOOL_RESULT = Either(text=Text(kind="tool_result"), items=Items(_PART))
_FUNCTION_CALL = Record({"name": _NAME, "arguments": Text(kind="tool_arguments")})
_TOOL_CALL = Tagged(
    "type",
    {
        "function": Record({"id": _WORD, "type": _words("function"), "index": _NUMBER, "function": _FUNCTION_CALL}),
        "custom": Record({"id": _WORD, "type": _words("custom"), "custom": Record({"name": _NAME, "input": Text(kind="tool_arguments")})}),
    },
)  # fmt: skip
_ROLE = _words("system", "developer", "user", "assistant", "tool", "function")


def _message(**fields: Any) -> Record:
    return Record({"role": _ROLE, "content": _CONTENT, "name": _NAME, **fields}, role_from="role")


_MESSAGE = Tagged(
    "role",
    {
        "system": _message(),
        "developer": _message(),
        "user": _message(),
        "assistant": _message(
            refusal=_TEXT,
            reasoning=_TEXT,
            reasoning_content=_TEXT,
            tool_calls=Items(_TOOL_CALL),
            function_call=_FUNCTION_CALL,
            annotations=Free(kind="text"),
            audio=Record({"id": Refused("reference_not_allowed", "this audio id was not issued by this gateway")}),
        ),
        "tool": Record(
            {"role": _ROLE, "content": _TOOL_RESULT, "tool_call_id": _WORD, "name": _NAME}, role_from="role"
        ),
        "function": Record({"role": _ROLE, "content": _TOOL_RESULT, "name": _NAME}, role_from="role"),
    },
    otherwise=Refused("invalid_role", "role must be one of system, developer, user, assistant, tool, function"),
)
_FUNCTION = Record({
    "name": _NAME,
    "description": Text(kind="tool_definition"),
    "parameters": Free(kind="schema"),
    "strict": _WORD,
})  # fmt: skip
_CUSTOM_TOOL = Record({
    "name": _NAME,
    "description": Text(kind="tool_definition"),
    "format": Record({
        "type": _words("text", "grammar"),
        "grammar": Record({"definition": Text(kind="tool_definition"), "syntax": _words("lark", "regex")}),
    }),
})  # fmt: skip
_TOOL = Tagged(
    "type",
    {
        "function": Record({"type": _words("function"), "function": _FUNCTION}),
        "custom": Record({"type": _words("custom"), "custom": _CUSTOM_TOOL}),
    },
    otherwise=Refused(
        "tool_not_allowed", "tools that a provider runs are not registered here: use function or custom tools"
    ),
)
_TOOL_CHOICE = Either(
    text=_words("none", "auto", "required"),
    record=Record({
        "type": _words("function", "custom", "allowed_tools"),
        "function": Record({"name": _NAME}),
        "custom": Record({"name": _NAME}),
        "allowed_tools": Record({"mode": _words("auto", "required"), "tools": Free(kind="tool_definition")}),
    }),
)  # fmt: skip

FIELDS = Record({
    "model": _WORD,
    "messages": Items(_MESSAGE),
    "audio": Record({"format": _WORD, "voice": Free(kind="control")}),
    "frequency_penalty": _NUMBER,
    "function_call": Either(text=_words("none", "auto"), record=Record({"name": _NAME})),
    "functions": Items(_FUNCTION),
    "logit_bias": Free(),
    "logprobs": _NUMBER,
    "max_completion_tokens": _NUMBER,
    "max_tokens": _NUMBER,
    "metadata": Free(treatment=_REPLACED),
    "modalities": Items(_words("text", "audio")),
    "moderation": Free(kind="control"),
    "n": _NUMBER,
    "parallel_tool_calls": _NUMBER,
    "prediction": Record({"type": _words("content"), "content": Either(text=_TEXT, items=Items(_TEXT_PART))}),
    "presence_penalty": _NUMBER,
    "prompt_cache_key": Text(kind="metadata", treatment=_REPLACED),
    "prompt_cache_options": _CACHE_MARK,
    "prompt_cache_retention": _words("in_memory", "in-memory", "24h"),
    "reasoning_effort": _words("none", "minimal", "low", "medium", "high", "xhigh"),
    "response_format": Record({
        "type": _words("text", "json_object", "json_schema"),
        "json_schema": Record({"name": _NAME, "description": Text(kind="schema"), "schema": Free(kind="schema"), "strict": _WORD}),
    }),
    "safety_identifier": Text(kind="metadata", treatment=_REPLACED),
    "seed": _NUMBER,
    "service_tier": _words("auto", "default", "flex", "scale", "priority"),
    "stop": Either(text=_TEXT, items=Items(_TEXT)),
    "store": Text(kind="control", treatment=_REPLACED),
    "stream": _NUMBER,
    "stream_options": Record({"include_usage": _WORD, "include_obfuscation": _WORD}),
    "temperature": _NUMBER,
    "tool_choice": _TOOL_CHOICE,
    "tools": Items(_TOOL),
    "top_logprobs": _NUMBER,
    "top_p": _NUMBER,
    "user": Text(kind="metadata", treatment=_REPLACED),
    "verbosity": _words("low", "medium", "high"),
    "web_search_options": Refused("tool_not_allowed", "web search by the provider is not registered here"),
})  # fmt: skip


_HISTORY_ROLES = frozenset({"assistant", "tool", "function"})
_TURN_KINDS = frozenset({"text", "tool_arguments", "tool_result", "unknown"})


class ChatCompletions:
    """The format as the pipeline sees it."""

    name = "chat.completions"
    path = "/v1/chat/completions"

    def __init__(self, *, max_messages: int = 4096) -> None:
        self._max_messages = max_messages

    def receive(self, body: bytes) -> Call:
        document = read_json(body)
        if not isinstance(document, dict):
            raise InvalidRequestError("the body must be a JSON object", code="invalid_type")
        model = document.get("model")
        if not isinstance(model, str) or not model:
            raise InvalidRequestError("model must be a string", code="missing_model", param="/model")
        messages = document.get("messages")
        if not isinstance(messages, list) or not messages:
            raise InvalidRequestError("messages must be a non-empty array", code="missing_messages", param="/messages")
        if len(messages) > self._max_messages:
            raise PayloadTooLargeError(
                f"a request may hold {self._max_messages} messages", code="too_many_messages", param="/messages"
            )
        stream = document.get("stream")
        if stream is not None and not isinstance(stream, bool):
            raise InvalidRequestError("stream must be true or false", code="invalid_type", param="/stream")
        segments: list[Segment] = []
        walk(FIELDS, document, "", segments)
        roles = [m.get("role") if isinstance(m, dict) else None for m in messages]
        return Call(
            wire=self,
            body=body,
            document=document,
            model=model,
            stream=bool(stream),
            segments=tuple(segments),
            turns=_turns(segments, roles),
            has_history=any(role in _HISTORY_ROLES for role in roles),
        )

    def crossing_edits(self, call: Call, token: str) -> dict[str, Any]:
        document = call.document
        edits: dict[str, Any] = {
            f"/{name}": token
            for name in ("user", "safety_identifier", "prompt_cache_key")
            if document.get(name) is not None
        }
        if document.get("metadata") is not None:
            edits["/metadata"] = REMOVED
        if document.get("store") is not None:
            edits["/store"] = False
        return edits

    def model_edit(self, model: str) -> dict[str, Any]:
        return {"/model": model}

    def answer_reader(self, *, stream: bool, keep_text: bool) -> ChatAnswer | ChatStream:
        return ChatStream(keep_text) if stream else ChatAnswer(keep_text)

    def error_body(self, error: WatershedError) -> bytes:
        return write_json(
            {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
        )

    def stream_error(self, error: WatershedError) -> bytes:
        return b"data: " + self.error_body(error) + b"\n\n"


def _turns(segments: list[Segment], roles: list[Any]) -> tuple[Turn, ...]:
    """Each message's texts, by its place in ``messages``."""
    texts: dict[int, list[str]] = {}
    for segment in segments:
        if segment.text and segment.kind in _TURN_KINDS and segment.pointer.startswith("/messages/"):
            index = segment.pointer[10:].partition("/")[0]
            texts.setdefault(int(index), []).append(segment.text)
    return tuple(Turn(f"/messages/{i}", str(roles[i]), tuple(parts)) for i, parts in sorted(texts.items()))


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Function(msgspec.Struct):
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int = 0
    function: _Function | None = None


class _Said(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None

    def texts(self) -> Iterator[tuple[str, str]]:
        """Each part of what was said that a later request may carry, under a name that stays the same over a stream."""
        for name in ("content", "refusal", "reasoning_content"):
            text = getattr(self, name)
            if text:
                yield name, text
        for position, call in enumerate(self.tool_calls or ()):
            if call.function is not None and call.function.arguments:
                yield f"call {call.index or position}", call.function.arguments


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Said | None = None
    delta: _Said | None = None


class _Answer(msgspec.Struct):
    usage: _Usage | None = None
    choices: list[_Choice] = []


class _UsageOnly(msgspec.Struct):
    usage: _Usage | None = None


_answer_decoder = msgspec.json.Decoder(_Answer)
_usage_decoder = msgspec.json.Decoder(_UsageOnly)


class ChatAnswer:
    """Reads a whole answer once it has passed."""

    def __init__(self, keep_text: bool) -> None:
        self._keep_text = keep_text
        self._parts: list[bytes] = []

    def feed(self, chunk: bytes) -> None:
        self._parts.append(chunk)

    def usage(self) -> Usage:
        try:
            usage = _usage_decoder.decode(b"".join(self._parts)).usage
        except msgspec.DecodeError:
            usage = None
        return Usage(usage.prompt_tokens, usage.completion_tokens) if usage else Usage()

    def texts(self) -> list[str]:
        if not self._keep_text:
            return []
        try:
            answer = _answer_decoder.decode(b"".join(self._parts))
        except msgspec.DecodeError:
            return []
        return [text for choice in answer.choices if choice.message is not None for _, text in choice.message.texts()]


class ChatStream:
    """Reads server-sent events as they pass (WHATWG HTML, 9.2.6); text is put together only where it is kept."""

    def __init__(self, keep_text: bool) -> None:
        self._keep_text = keep_text
        self._rest = b""
        self._usage = Usage()
        self._texts: dict[tuple[int, str], list[str]] = {}

    def feed(self, chunk: bytes) -> None:
        if not self._keep_text and not self._rest and b'"usage"' not in chunk and chunk.endswith(b"\n\n"):
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and (self._keep_text or b'"usage"' in line):
                self._event(line[5:].strip())

    def _event(self, data: bytes) -> None:
        try:
            answer = _answer_decoder.decode(data)
        except msgspec.DecodeError:  # "[DONE]", or an event of a kind that is passed on unread
            return
        if answer.usage is not None:
            self._usage = Usage(answer.usage.prompt_tokens, answer.usage.completion_tokens)
        if self._keep_text:
            for choice in answer.choices:
                if choice.delta is not None:
                    for name, text in choice.delta.texts():
                        self._texts.setdefault((choice.index, name), []).append(text)

    def usage(self) -> Usage:
        return self._usage

    def texts(self) -> list[str]:
        return ["".join(parts) for _, parts in sorted(self._texts.items())]
