"""The unmodified ``openai`` SDK against a running gateway: sync and async, streaming, tools, errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.laws.checks import GENERAL, SSN
from tests.support.running import Running, running

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "lookup",
            "description": "Look something up",
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
        },
    }
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("state"), hold_s=0.2) as started:
        yield started


@pytest.fixture
def client(gateway: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_general_question_is_answered_by_the_cloud(client: openai.OpenAI, gateway: Running) -> None:
    raw = client.chat.completions.with_raw_response.create(model="some-model", messages=user(GENERAL))  # type: ignore[arg-type]
    assert raw.headers["x-watershed-route"] == "cloud"
    completion = raw.parse()
    assert completion.choices[0].message.content == gateway.cloud.answer
    assert completion.usage is not None
    assert completion.usage.total_tokens == 12


def test_a_sensitive_question_is_answered_at_home(client: openai.OpenAI, gateway: Running) -> None:
    raw = client.chat.completions.with_raw_response.create(model="some-model", messages=user(f"SSN {SSN}"))  # type: ignore[arg-type]
    assert raw.headers["x-watershed-route"] == "onprem"
    assert raw.headers["x-watershed-target"].startswith("onprem/")
    assert raw.parse().choices[0].message.content == gateway.onprem.answer


@pytest.mark.parametrize("text", [GENERAL, f"SSN {SSN}"], ids=["cloud", "onprem"])
def test_streaming(client: openai.OpenAI, gateway: Running, text: str) -> None:
    stream = client.chat.completions.create(model="m", messages=user(text), stream=True)  # type: ignore[call-overload]
    words = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(words).strip() == gateway.cloud.answer
    assert len(words) > 3


@pytest.mark.parametrize("text", [GENERAL, f"SSN {SSN}"], ids=["cloud", "onprem"])
async def test_async_and_async_streaming(gateway: Running, text: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        completion = await client.chat.completions.create(model="m", messages=user(text))  # type: ignore[call-overload]
        assert completion.choices[0].message.content == gateway.cloud.answer
        stream = await client.chat.completions.create(model="m", messages=user(text), stream=True)  # type: ignore[call-overload]
        words = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(words).strip() == gateway.cloud.answer


def test_a_tool_round_trip(client: openai.OpenAI, gateway: Running) -> None:
    first = client.chat.completions.create(model="m", messages=user("look"), tools=TOOLS, tool_choice="required")  # type: ignore[call-overload]
    (call,) = first.choices[0].message.tool_calls
    history = [
        *user("look"),
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "nothing there"},
    ]
    raw = client.chat.completions.with_raw_response.create(model="m", messages=history, tools=TOOLS)  # type: ignore[arg-type]
    assert raw.headers["x-watershed-route"] == "cloud"
    tainted = [*history[:-1], {"role": "tool", "tool_call_id": call.id, "content": f"found {SSN}"}]
    raw = client.chat.completions.with_raw_response.create(model="m", messages=tainted, tools=TOOLS)  # type: ignore[arg-type]
    assert raw.headers["x-watershed-route"] == "onprem"
    assert not gateway.cloud.saw(SSN)


def test_structured_output_passes(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model="m",
        messages=user(GENERAL),  # type: ignore[arg-type]
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "s", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}},
        },
    )
    assert completion.choices


def test_errors_are_the_sdks_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="m",
            messages=[
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]}
            ],
        )
    assert refused.value.code == "reference_not_allowed"
    assert refused.value.param == "/messages/0/content/0/image_url/url"
    with pytest.raises(openai.NotFoundError):
        client.get("/nowhere", cast_to=object)


def test_an_upstreams_own_error_reaches_the_caller(client: openai.OpenAI, gateway: Running) -> None:
    from typing import Any

    from tests.support.recorder import Received, respond

    async def refuse(_: Received, __: Any, send: Any) -> None:
        error = {
            "message": "no such model",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
        await respond(send, 404, {"error": error})

    gateway.cloud.behaviour = refuse
    try:
        with pytest.raises(openai.NotFoundError) as refused:
            client.chat.completions.create(model="m", messages=user(GENERAL))  # type: ignore[arg-type]
    finally:
        gateway.cloud.behaviour = None
    assert refused.value.code == "model_not_found"


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert "auto" in [model.id for model in client.models.list()]


def test_keys_are_asked_for_once_there_are_any(tmp_path: Path) -> None:
    from gateway.tenants import create_key
    from runtime.database import open_engine, sqlite_url

    with running(tmp_path) as gateway:
        engine = open_engine(sqlite_url(tmp_path))
        key, _ = create_key(engine, "bank")
        engine.dispose()
        base_url = f"{gateway.url}/v1"
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=base_url, api_key="wrong", max_retries=0).models.list()
        client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)
        assert client.chat.completions.create(model="m", messages=user(GENERAL)).choices  # type: ignore[arg-type]
        assert {decision.tenant for decision in gateway.decisions()} == {"bank"}


def test_the_sdks_retry_gets_through_a_moment_without_capacity(gateway: Running) -> None:
    """503 with Retry-After is what SDKs wait for; the second try is answered."""
    from typing import Any

    from tests.support.recorder import ANSWER, Received, answer_chat, respond

    tries = 0

    async def busy_once(request: Received, _: Any, send: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await respond(send, 503, {"error": {"message": "busy"}}, [(b"retry-after-ms", b"10")])
        else:
            await answer_chat(request, send, ANSWER)

    gateway.onprem.behaviour = busy_once
    try:
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=2)
        completion = client.chat.completions.create(model="m", messages=user(f"SSN {SSN}"))  # type: ignore[arg-type]
    finally:
        gateway.onprem.behaviour = None
    assert completion.choices[0].message.content == ANSWER
    assert tries == 2
