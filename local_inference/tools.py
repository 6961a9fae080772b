"""Where an answer is JSON: finding its end, and taking a tool call from it.

A 135-million-parameter model cannot be trusted to call tools. So an answer counts as a call only where it is exactly
one JSON object that names a given function; a forced call has its name written for it, and arguments that are no JSON
object become ``{}``. Arguments are not checked against the function's schema.
"""

from __future__ import annotations

from typing import Any

import msgspec

from local_inference.engines.base import ToolCall, ToolSchema
from runtime.ids import new_id


class JsonObjectEnd:
    """Watches text that begins with ``{`` for the bracket that closes it. Strings and their escapes are respected."""

    __slots__ = ("_depth", "_escaped", "_in_string", "complete")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.complete = False

    def push(self, text: str) -> str:
        """``text`` up to the end of the object, that included; empty once ``complete``."""
        for at, character in enumerate(text):
            if self.complete:
                return text[:at]
            self._step(character)
        return text

    def _step(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._in_string:
            self._escaped = character == "\\"
            self._in_string = character != '"'
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            self.complete = self._depth <= 0


def forced_prefix(function: str) -> str:
    """How an answer that must call ``function`` begins; what follows are the rest of the arguments."""
    return f'{{"name": "{function}", "arguments": {{'


def forced_call(function: str, arguments: str) -> ToolCall:
    """A call of ``function``; ``arguments`` that are no JSON object become ``{}``."""
    return ToolCall(new_id("call"), function, arguments if json_object(arguments) is not None else "{}")


def read_call(answer: str, tools: tuple[ToolSchema, ...]) -> ToolCall | None:
    """The call that ``answer`` is, where it is exactly one of a function in ``tools``."""
    call = json_object(answer)
    if call is None or call.keys() != {"name", "arguments"} or not isinstance(call["arguments"], dict):
        return None
    if call["name"] not in [tool.name for tool in tools]:
        return None
    return ToolCall(new_id("call"), call["name"], msgspec.json.encode(call["arguments"]).decode())


def json_object(text: str) -> dict[str, Any] | None:
    """``text`` as a JSON object, or None."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None
