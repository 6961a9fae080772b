"""What an engine takes and gives.

GenerationRequest ──▶ Engine.generate ──▶ Delta, Delta, … Delta(finish_reason)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Literal, Protocol

import msgspec

FinishReason = Literal["stop", "length"]


class ToolCall(msgspec.Struct, frozen=True):
    """A call of a function; ``arguments`` is JSON text, as OpenAI has it."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True):
    """One turn: ``role`` is ``system``, ``user``, ``assistant`` or ``tool``; ``content`` is text alone."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()


class ToolSchema(msgspec.Struct, frozen=True):
    """A function the model may call; ``parameters`` is its JSON Schema."""

    name: str
    description: str
    parameters: dict[str, Any]


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to be made.

    Attributes:
        messages: the conversation, oldest first.
        max_tokens: most tokens of the answer; None leaves it to the engine. The context's room caps either.
        temperature: 0 is greedy.
        top_p: nucleus of probability that tokens are drawn from, in (0, 1].
        stop: texts before which the answer ends; they are not part of it.
        seed: the same seed and request give the same answer; None draws a fresh one.
        tools: functions that the model is told of.
        response_format: ``json_object`` tells the model to answer in JSON.
        prefix: the answer is made to begin with this text, which the deltas do not repeat.
    """

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tools: tuple[ToolSchema, ...] | None = None
    response_format: Literal["text", "json_object"] = "text"
    prefix: str = ""


class Delta(msgspec.Struct, frozen=True):
    """The next piece of an answer.

    Attributes:
        text: whole characters; may be empty.
        finish_reason: set on the last delta alone.
        prompt_tokens, completion_tokens: counts so far.
    """

    text: str
    finish_reason: FinishReason | None
    prompt_tokens: int
    completion_tokens: int


class Engine(Protocol):
    """A model that answers.

    ``generate`` may be called only while ``ready``; closing the generator stops the work behind it within one step.
    The first step raises InvalidRequestError (``context_length_exceeded``) for a prompt that does not fit.
    """

    @property
    def model_id(self) -> str: ...

    @property
    def ready(self) -> bool: ...

    async def load(self) -> None:
        """Make the engine ready.

        Raises:
            ConfigurationError: it cannot become so without the operator.
            UnavailableError: it could not this time.
        """
        ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]: ...

    async def aclose(self) -> None: ...
