"""How a model that knows only turns of text is told of tools, tool calls and formats.

SmolLM2 at 135 million parameters was not trained to call tools: it is told of them in words, and what it answers is
taken as a call only where it is one exactly (``local_inference/tools.py``).
"""

from __future__ import annotations

import msgspec

from local_inference.engines.base import GenerationRequest, Message

DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""The system turn of SmolLM2's own chat template, used where a conversation has none."""

_TOOLS = (
    "You may call one of these functions. To call one, answer with nothing but a JSON object of the form "
    '{"name": "<function>", "arguments": {…}}.\n'
)
_JSON = "Answer with one JSON object and nothing else."


def turns(request: GenerationRequest) -> list[tuple[str, str]]:
    """The conversation as pairs of role (``system``, ``user``, ``assistant``) and text."""
    instructions = _instructions(request)
    spoken = [_turn(message) for message in request.messages]
    head = spoken.pop(0)[1] if spoken and spoken[0][0] == "system" else DEFAULT_SYSTEM
    return [("system", "\n\n".join([head, *instructions])), *spoken]


def _instructions(request: GenerationRequest) -> list[str]:
    instructions = []
    if request.tools:
        instructions.append(_TOOLS + "\n".join(msgspec.json.encode(tool).decode() for tool in request.tools))
    if request.response_format == "json_object":
        instructions.append(_JSON)
    return instructions


def _turn(message: Message) -> tuple[str, str]:
    if message.role == "tool":
        return "user", f"Result of the function:\n{message.content}"
    calls = [f'{{"name": "{call.name}", "arguments": {call.arguments}}}' for call in message.tool_calls]
    return message.role, "\n".join([message.content, *calls] if message.content else calls)
