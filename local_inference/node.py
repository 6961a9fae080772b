"""The on-prem node: OpenAI's endpoints over one engine, whatever the transport.

POST /v1/chat/completions ──▶ read ──▶ engine (loaded on first need) ──▶ slot ──▶ deltas ──▶ body or events
GET  /v1/models
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog

from local_inference.answer import Answer, ChoiceReader, Piece
from local_inference.chat import ChatCall, read_chat
from local_inference.engines.base import Engine
from local_inference.scheduler import Priority, Scheduler
from local_inference.work import Put, Work
from runtime.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    UnavailableError,
    UpstreamError,
    WatershedError,
)
from runtime.http import HttpRequest, HttpResponse

PRIORITY_HEADER = "x-watershed-priority"
"""``sensitive`` (also where it is absent) or ``general``: traffic that could have crossed. The gateway sets it."""

AUTO_MODEL = "auto"
LOADING_RETRY_S = 5.0


class Node:
    """One engine behind OpenAI's endpoints. ``handle`` is a ``runtime.http.Sender``.

    Args:
        engine_factory: makes the engine, cheaply; its ``load`` is called on first need.
        name: the node's name in logs and fingerprints.
        concurrency: answers under way at a time.
        queue_limit: requests that may wait for a slot.
        general_share: part of slots and queue that general traffic may take, 0 … 1.
        reload_pause_s: how long a failed load is reported before another is tried.
    """

    def __init__(
        self,
        engine_factory: Callable[[], Engine],
        *,
        name: str = "embedded",
        concurrency: int = 2,
        queue_limit: int = 64,
        general_share: float = 0.5,
        reload_pause_s: float = 5.0,
    ) -> None:
        self._engine_factory = engine_factory
        self._engine = engine_factory()
        self._name = name
        self._scheduler = Scheduler(concurrency, queue_limit=queue_limit, general_share=general_share)
        self._reload_pause_s = reload_pause_s
        self._loading: asyncio.Task[None] | None = None
        self._load_failed_at = 0.0
        self._works: set[Work] = set()
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._engine.ready

    @property
    def model_id(self) -> str:
        return self._engine.model_id

    async def handle(self, request: HttpRequest, deadline: float) -> HttpResponse:
        """Answer a request; faults are OpenAI-shaped answers too, so this raises nothing but cancellation.

        Args:
            request: ``url`` may be absolute or a path.
            deadline: in ``time.monotonic()`` seconds; passed while waiting for the model or a slot: 503, after: 504.

        A stream's chunks raise the WatershedError that breaks it off. ``aclose`` of the answer, or cancelling this
        call, stops the engine's work for it within one step.
        """
        try:
            return await self._route(request, deadline)
        except WatershedError as error:
            return _refusal(error)

    async def load(self) -> None:
        """Load the model now. Concurrent callers share one load; each hears of its failure.

        Raises:
            UnavailableError: it cannot be loaded; the message says what to do.
        """
        if self._engine.ready:
            return
        if self._closed:
            raise UnavailableError("the node is shutting down", code="node_closing")
        failed_for_s = time.monotonic() - self._load_failed_at
        if self._loading is None or (self._loading.done() and failed_for_s >= self._reload_pause_s):
            self._loading = asyncio.create_task(self._load())
        await asyncio.shield(self._loading)

    async def aclose(self) -> None:
        """Stop all work and give the engine back. Later requests get 503."""
        self._closed = True
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        await asyncio.gather(*(work.aclose() for work in tuple(self._works)))
        await self._engine.aclose()

    async def _route(self, request: HttpRequest, deadline: float) -> HttpResponse:
        path = urlsplit(request.url).path
        if path == "/v1/models":
            _require_method(request, "GET")
            return _json(200, self._models())
        if path == "/v1/chat/completions":
            _require_method(request, "POST")
            return await self._complete(request, deadline)
        raise NotFoundError("no such path")

    def _models(self) -> dict[str, Any]:
        model = {"id": self.model_id, "object": "model", "created": 0, "owned_by": "watershed"}
        return {"object": "list", "data": [model]}

    async def _complete(self, request: HttpRequest, deadline: float) -> HttpResponse:
        call = read_chat(request.body)
        if call.model not in {self.model_id, AUTO_MODEL}:
            raise NotFoundError("the local node serves no such model", code="model_not_found", param="/model")
        priority = _priority(request)
        answer = Answer(self.model_id, f"watershed-{self._name}-{self.model_id}")
        work = Work(lambda put: self._produce(call, priority, deadline, put))
        self._works.add(work)
        try:
            if call.stream:
                first = await work.first()
                return self._stream(work, first, answer, include_usage=call.include_usage)
            body = answer.completion([piece async for piece in work])
        except BaseException:
            await self._stop(work)
            raise
        await self._stop(work)
        return _raw(200, body)

    def _stream(self, work: Work, first: Piece, answer: Answer, *, include_usage: bool) -> HttpResponse:
        async def chunks() -> AsyncIterator[bytes]:
            events = answer.events(include_usage=include_usage)
            try:
                yield events.write(first)
                async for piece in work:
                    yield events.write(piece)
                yield events.end()
            finally:
                await self._stop(work)

        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}
        return HttpResponse(200, headers, chunks(), lambda: self._stop(work))

    async def _produce(self, call: ChatCall, priority: Priority, deadline: float, put: Put) -> None:
        await self._loaded(deadline)
        async with self._scheduler.slot(priority, deadline):
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                    for index in range(call.n):
                        await self._choose(call, index, put)
                    await put(None)
            except TimeoutError:
                raise DeadlineExceededError("the local model did not finish within the deadline") from None

    async def _choose(self, call: ChatCall, index: int, put: Put) -> None:
        reader = ChoiceReader(call, index)
        async with aclosing(self._engine.generate(reader.request)) as deltas:
            async for delta in deltas:
                piece = reader.read(delta)
                if piece is not None:
                    await put(piece)
                    if piece.finish_reason is not None:
                        return
        raise UpstreamError("the engine broke off its answer", code="answer_broken")

    async def _loaded(self, deadline: float) -> None:
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                await self.load()
        except TimeoutError:
            raise UnavailableError(
                "the local model is still loading", code="model_loading", retry_after_s=LOADING_RETRY_S
            ) from None

    async def _load(self) -> None:
        log = structlog.get_logger().bind(node=self._name, model=self.model_id)
        began = time.monotonic()
        try:
            await self._engine.load()
        except Exception as error:
            self._load_failed_at = time.monotonic()
            failed, self._engine = self._engine, self._engine_factory()
            await failed.aclose()
            log.error("model not loaded", error=type(error).__name__, code=getattr(error, "code", None))
            raise _load_failure(error) from None
        log.info("model loaded", seconds=round(time.monotonic() - began, 1))

    async def _stop(self, work: Work) -> None:
        self._works.discard(work)
        await work.aclose()


def _load_failure(error: Exception) -> UnavailableError:
    """What callers are told: to them, a model that is not installed and one that cannot be read are the same 503."""
    if isinstance(error, WatershedError):
        return UnavailableError(error.message, code=error.code, retry_after_s=error.retry_after_s)
    return UnavailableError(f"the local model cannot be loaded ({type(error).__name__})", code="model_load_failed")


def _require_method(request: HttpRequest, method: str) -> None:
    if request.method != method:
        raise MethodNotAllowedError(f"use {method}")


def _priority(request: HttpRequest) -> Priority:
    value = next((value for name, value in request.headers if name.lower() == PRIORITY_HEADER), "sensitive")
    try:
        return Priority(value)
    except ValueError:
        raise InvalidRequestError(f"{PRIORITY_HEADER} is sensitive or general", code="invalid_header") from None


def _json(status: int, value: Any) -> HttpResponse:
    return _raw(status, msgspec.json.encode(value))


def _raw(status: int, body: bytes) -> HttpResponse:
    async def chunks() -> AsyncIterator[bytes]:
        yield body

    return HttpResponse(status, {"content-type": "application/json"}, chunks())


def _refusal(error: WatershedError) -> HttpResponse:
    detail = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    response = _json(error.status, {"error": detail})
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    return response
