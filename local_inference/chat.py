"""The body of ``POST /v1/chat/completions``, read into what is to be generated.

What the node cannot honour is refused with the field's pointer, never ignored; fields that change no answer (``user``,
``metadata``, cache keys, tiers) are taken and dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from local_inference.engines.base import GenerationRequest, Message, ToolCall, ToolSchema
from runtime.errors import InvalidRequestError

DEFAULT_TEMPERATURE = 0.0
"""Greedy. OpenAI's default is 1.0, at which a model this small loses its thread: of "What is the capital of France?"
its first choice is "The capital of France is Paris.", and its next ones are nonsense of nearly the same probability."""

MAX_TOOLS = 128

_Count = Annotated[int, Meta(ge=1)]
_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_Stop = Annotated[str, Meta(min_length=1, max_length=256)]


class _CalledFunction(msgspec.Struct):
    name: _Name
    arguments: str


class _Call(msgspec.Struct):
    id: str
    function: _CalledFunction


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[_Call] | None = None
    function_call: Any = None
    audio: Any = None


class _Function(msgspec.Struct):
    name: _Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(msgspec.Struct):
    type: Literal["function"]
    function: _Function


class _NamedFunction(msgspec.Struct):
    name: str


class _NamedTool(msgspec.Struct):
    type: Literal["function"]
    function: _NamedFunction


class _Format(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    stop: _Stop | Annotated[list[_Stop], Meta(max_length=4)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    n: Annotated[int, Meta(ge=1, le=4)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: Annotated[list[_Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | _NamedTool | None = None
    response_format: _Format | None = None
    # Without effect on an answer of ours.
    metadata: Any = None
    parallel_tool_calls: bool | None = None
    prediction: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    store: bool | None = None
    user: Any = None
    # Known, and refused unless they ask for nothing.
    audio: Any = UNSET
    frequency_penalty: Any = UNSET
    function_call: Any = UNSET
    functions: Any = UNSET
    logit_bias: Any = UNSET
    logprobs: Any = UNSET
    modalities: Any = UNSET
    presence_penalty: Any = UNSET
    reasoning_effort: Any = UNSET
    top_logprobs: Any = UNSET
    verbosity: Any = UNSET
    web_search_options: Any = UNSET


_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "frequency_penalty": (None, 0),
    "function_call": (None,),
    "functions": (None,),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "modalities": (None, ["text"]),
    "presence_penalty": (None, 0),
    "reasoning_effort": (None, "none"),
    "top_logprobs": (None, 0),
    "verbosity": (None, "medium"),
    "web_search_options": (None,),
}


class ChatCall(msgspec.Struct, frozen=True, kw_only=True):
    """A chat request, read and checked.

    Attributes:
        model: as the caller named it.
        generation: what the engine is asked for, for the first of ``n`` answers.
        n: how many answers, 1 … 4; with a seed, each next one's is higher by one.
        stream: answer as server-sent events.
        include_usage: end the stream with a chunk of token counts.
        forced_function: the answer must be a call of this function.
    """

    model: str
    generation: GenerationRequest
    n: int
    stream: bool
    include_usage: bool
    forced_function: str | None


def read_chat(body: bytes) -> ChatCall:
    """Read and check a request's body.

    Raises:
        InvalidRequestError: it is not JSON, or a field (``param``, a JSON pointer) is wrong or cannot be honoured.
    """
    parsed = _decode(body)
    for field, accepted in _NEUTRAL.items():
        value = getattr(parsed, field)
        if not isinstance(value, UnsetType) and value not in accepted:
            raise _unsupported(f"/{field}", "this parameter is not offered by the local model")
    tools, forced_function = _tools(parsed)
    temperature = DEFAULT_TEMPERATURE if parsed.temperature is None else parsed.temperature
    return ChatCall(
        model=parsed.model,
        generation=GenerationRequest(
            messages=tuple(_message(message, f"/messages/{i}") for i, message in enumerate(parsed.messages)),
            max_tokens=parsed.max_completion_tokens or parsed.max_tokens,
            temperature=temperature,
            top_p=1.0 if parsed.top_p is None else parsed.top_p,
            stop=(parsed.stop,) if isinstance(parsed.stop, str) else tuple(parsed.stop or ()),
            seed=parsed.seed,
            tools=tools,
            response_format=_response_format(parsed, forced_function),
        ),
        n=parsed.n or 1,
        stream=bool(parsed.stream),
        include_usage=bool(parsed.stream_options and parsed.stream_options.include_usage),
        forced_function=forced_function,
    )


_decode_body: Callable[[bytes], _Body] = msgspec.json.Decoder(_Body).decode
_PATH = re.compile(r" - at `\$((?:\.\w+|\[\d+\]|\[\.\.\.\])*)`$")


def _decode(body: bytes) -> _Body:
    try:
        return _decode_body(body)
    except msgspec.ValidationError as error:
        # msgspec's own text may quote a value or an unknown key: only the path is taken from it.
        found = _PATH.search(str(error))
        pointer = "/" + re.sub(r"\[([^]]*)\]", r".\1", found[1]).strip(".").replace(".", "/") if found else None
        code = "unknown_parameter" if "unknown field" in str(error) else "invalid_value"
        message = "an unknown parameter" if code == "unknown_parameter" else "a value of the wrong type or out of range"
        raise InvalidRequestError(f"the body has {message}", code=code, param=pointer) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequestError("the body is not valid JSON", code="invalid_json") from None


def _message(message: _Message, pointer: str) -> Message:
    if message.function_call is not None:
        raise _unsupported(f"{pointer}/function_call", "use tool_calls")
    if message.audio is not None:
        raise _unsupported(f"{pointer}/audio", "the local model reads text alone")
    return Message(
        role="system" if message.role == "developer" else message.role,
        content=_text(message, f"{pointer}/content"),
        tool_calls=tuple(ToolCall(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or ()),
    )


def _text(message: _Message, pointer: str) -> str:
    if isinstance(message.content, str):
        return message.content
    if message.content is None:
        if message.role != "assistant":
            raise InvalidRequestError("a message has no content", code="invalid_value", param=pointer)
        return ""
    return "\n".join(_part(part, f"{pointer}/{i}") for i, part in enumerate(message.content))


def _part(part: dict[str, Any], pointer: str) -> str:
    kind = part.get("type")
    field = {"text": "text", "refusal": "refusal"}.get(kind) if isinstance(kind, str) else None
    if field is None:
        raise _unsupported(pointer, "the local model reads text parts alone")
    text = part.get(field)
    if not isinstance(text, str):
        raise InvalidRequestError("a part has no text", code="invalid_value", param=f"{pointer}/{field}")
    return text


def _tools(body: _Body) -> tuple[tuple[ToolSchema, ...] | None, str | None]:
    """The tools that the model is told of, and the one that it must call."""
    schemas = tuple(
        ToolSchema(t.function.name, t.function.description or "", t.function.parameters or {}) for t in body.tools or ()
    )
    choice = body.tool_choice
    if choice in (None, "auto", "none"):
        return (schemas or None) if choice != "none" else None, None
    if choice == "required":
        if len(schemas) != 1:
            raise _unsupported("/tool_choice", "the local model can be made to call one function only: name it")
        return schemas, schemas[0].name
    assert isinstance(choice, _NamedTool)
    named = tuple(schema for schema in schemas if schema.name == choice.function.name)
    if not named:
        raise InvalidRequestError("no such tool", code="invalid_value", param="/tool_choice/function/name")
    return named[:1], named[0].name


def _response_format(body: _Body, forced_function: str | None) -> Literal["text", "json_object"]:
    if body.response_format is None or body.response_format.type == "text":
        return "text"
    if body.response_format.type == "json_schema":
        raise _unsupported("/response_format/type", "the local model offers json_object, and no schema")
    if body.tools and (forced_function or body.tool_choice != "none"):
        raise _unsupported("/response_format/type", "the local model takes tools or json_object, not both")
    return "json_object"


def _unsupported(pointer: str, tip: str) -> InvalidRequestError:
    return InvalidRequestError(f"not supported: {tip}", code="unsupported_value", param=pointer)
