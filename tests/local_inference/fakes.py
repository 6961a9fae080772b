"""A fake engine, and a caller of nodes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import msgspec

from local_inference.engines.base import Delta, GenerationRequest
from local_inference.node import Node
from runtime.http import HttpRequest, HttpResponse


class EchoEngine:
    """A fake: answers with ``answers`` in turn, or with the last message, word by word; a word is a token.

    ``gate`` is awaited before each word, so that a test decides when the answer goes on. ``running`` and ``peak`` count
    answers under way.
    """

    model_id = "fake-echo"

    def __init__(self, *answers: str, gate: Callable[[int], Awaitable[None]] | None = None) -> None:
        self.answers = list(answers)
        self.gate = gate
        self.ready = False
        self.loads = 0
        self.running = self.peak = self.finished = self.words = 0
        self.closed = False
        self.requests: list[GenerationRequest] = []

    async def load(self) -> None:
        self.loads += 1
        await asyncio.sleep(0)
        self.ready = True

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            answer = self.answers.pop(0) if self.answers else request.messages[-1].content
            words = [word + " " for word in answer.split(" ")]
            words[-1] = words[-1][:-1]
            limit = request.max_tokens or len(words)
            for count, word in enumerate(words[:limit], start=1):
                if self.gate is not None:
                    await self.gate(count)
                self.words += 1
                reason = ("stop" if len(words) <= limit else "length") if count == min(limit, len(words)) else None
                yield Delta(word, reason, 7, count)  # type: ignore[arg-type]
            self.finished += 1
        finally:
            self.running -= 1

    async def aclose(self) -> None:
        self.closed = True


class Caller:
    """Calls a node as the gateway does."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def chat(self, *, timeout_s: float = 30, headers: Any = (), **body: Any) -> HttpResponse:
        body = {"model": "auto", "messages": [{"role": "user", "content": "one two three"}], **body}
        request = HttpRequest("POST", "http://node/v1/chat/completions", tuple(headers), msgspec.json.encode(body))
        return await self.node.handle(request, time.monotonic() + timeout_s)

    async def completion(self, **body: Any) -> dict[str, Any]:
        response = await self.chat(**body)
        value: dict[str, Any] = msgspec.json.decode(await response.body(max_bytes=1 << 20))
        assert response.status == 200, value
        return value

    async def refusal(self, **body: Any) -> tuple[int, dict[str, Any]]:
        response = await self.chat(**body)
        value = msgspec.json.decode(await response.body(max_bytes=1 << 20))
        assert "error" in value, value
        return response.status, value["error"]

    async def events(self, **body: Any) -> list[dict[str, Any]]:
        response = await self.chat(stream=True, **body)
        text = (await response.body(max_bytes=1 << 20)).decode()
        assert response.status == 200, text
        lines = text.removesuffix("\n\n").split("\n\n")
        assert lines.pop() == "data: [DONE]"
        return [msgspec.json.decode(line.removeprefix("data: ")) for line in lines]


def text_of(events: list[dict[str, Any]], index: int = 0) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for event in events
        for choice in event["choices"]
        if choice["index"] == index
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that other tasks bring about."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)
