"""An on-prem model server of the operator's own (``--onprem-url``): vLLM, SGLang, llama.cpp, Ollama …

    HttpRequest(path) ──▶ RemoteNode.send: on-prem? no forwarder? ──▶ + key ──▶ server

On-prem stays on-prem (docs/threat-model.md, rule 7): the address is resolved and checked again at each probe, redirects are
refused, and so are models that the server forwards to a cloud.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from runtime.errors import (
    ConfigurationError,
    DeadlineExceededError,
    PermissionDeniedError,
    TargetError,
    UpstreamError,
    WatershedError,
)
from runtime.http import HttpClient, HttpRequest, HttpResponse, OnPremResolver, require_onprem_address

PROBE_TIMEOUT_S = 2.0
PROBE_EVERY_S = 10.0
MAX_LISTING_BYTES = 1_048_576

_OWN_HEADERS = "x-watershed-"


class _Model(msgspec.Struct):
    id: str
    remote_host: str | None = None


class _Models(msgspec.Struct):
    """``GET /v1/models``, OpenAI's listing."""

    data: list[_Model]


class _Tag(msgspec.Struct):
    name: str
    remote_host: str | None = None


class _Tags(msgspec.Struct):
    """``GET /api/tags``, Ollama's listing, which alone says where a model is run."""

    models: list[_Tag]


_Listing = TypeVar("_Listing", _Models, _Tags)


class _Call(msgspec.Struct):
    model: str = ""


def open_client(ca_file: Path | None) -> HttpClient:
    """A client that connects to on-prem addresses only, and trusts ``ca_file`` alone where it is given.

    Raises:
        ConfigurationError: the file holds no CA.
    """
    try:
        return HttpClient(ca_file=ca_file, resolver=OnPremResolver(pinned_ca=ca_file is not None))
    except OSError:
        raise ConfigurationError(f"the CA file {ca_file} cannot be read, or holds no certificate") from None


class RemoteNode:
    """An OpenAI-compatible server in the on-prem zone.

    Args:
        base_url: with or without a trailing ``/v1``.
        key: bearer key; None sends none.
        ca_file: the CA that ``http`` was made to trust; a private address needs one.
        http: the client; this object does not close it.
    """

    def __init__(self, base_url: str, *, key: str | None, ca_file: Path | None, http: HttpClient) -> None:
        self._root = base_url.rstrip("/").removesuffix("/v1").rstrip("/")
        self._key = key
        self._pinned_ca = ca_file is not None
        self._http = http
        self._models: tuple[str, ...] | None = None
        self._forwarded: frozenset[str] = frozenset()
        self._probed_at: float | None = None
        self._fault: WatershedError | None = None
        self._probing = asyncio.Lock()

    async def start(self) -> None:
        """Check the address before the first request.

        Raises:
            ConfigurationError: it is not on-prem.
        """
        await self._require_onprem()

    async def models(self) -> tuple[str, ...] | None:
        """The models served, forwarders left out; None where the server lists none. At most PROBE_EVERY_S old."""
        await self._probe()
        return self._models

    async def send(self, request: HttpRequest, deadline: float) -> HttpResponse:
        """Send ``request``, whose URL is a path such as ``/v1/chat/completions``. A ``runtime.http.Sender``.

        Raises:
            PermissionDeniedError: the server forwards that model to a cloud.
            TargetError: the server cannot be reached, or its address is no longer on-prem.
            UpstreamError: it answers with a redirect.
            DeadlineExceededError: no head of an answer by ``deadline``.
        """
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                await self._probe()
        except TimeoutError:
            raise DeadlineExceededError("the on-prem server was not checked within the deadline") from None
        if self._fault is not None:
            raise TargetError(self._fault.message, code="onprem_address_refused")
        self._refuse_forwarder(request.body)
        response = await self._http.send(self._addressed(request), deadline)
        if 300 <= response.status < 400:
            await response.aclose()
            raise UpstreamError("the on-prem server redirects, which is not followed", code="redirect_refused")
        return response

    def _addressed(self, request: HttpRequest) -> HttpRequest:
        headers = tuple(
            (name, value)
            for name, value in request.headers
            if not name.lower().startswith(_OWN_HEADERS) and name.lower() != "authorization"
        )
        if self._key is not None:
            headers += (("authorization", f"Bearer {self._key}"),)
        return HttpRequest(request.method, self._root + urlsplit(request.url).path, headers, request.body)

    def _refuse_forwarder(self, body: bytes) -> None:
        if not body:
            return
        try:
            model = msgspec.json.decode(body, type=_Call).model
        except (msgspec.DecodeError, RecursionError):
            return  # not a call of a model that we could name; the server says what is wrong with it
        if _is_cloud_name(model) or model in self._forwarded or f"{model}:latest" in self._forwarded:
            raise PermissionDeniedError(
                "the on-prem server forwards this model to a cloud", code="model_leaves_onprem", param="/model"
            )

    async def _probe(self) -> None:
        """Check address and listing, unless that was done just now. One probe serves all who wait for it."""
        async with self._probing:
            if self._probed_at is not None and time.monotonic() - self._probed_at < PROBE_EVERY_S:
                return
            try:
                await self._require_onprem()
            except ConfigurationError as error:
                self._fault, self._models = error, None
            else:
                self._fault = None
                await self._read_listings()
            self._probed_at = time.monotonic()

    async def _require_onprem(self) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await asyncio.to_thread(require_onprem_address, self._root, pinned_ca=self._pinned_ca)
        except TimeoutError:
            raise ConfigurationError("the on-prem host does not resolve in time") from None

    async def _read_listings(self) -> None:
        deadline = time.monotonic() + PROBE_TIMEOUT_S
        listed, tags = await asyncio.gather(
            self._get("/v1/models", _Models, deadline), self._get("/api/tags", _Tags, deadline)
        )
        if tags is not None:
            self._forwarded = frozenset(tag.name for tag in tags.models if tag.remote_host)
        if listed is None:
            self._models = None
            return
        self._forwarded |= {model.id for model in listed.data if model.remote_host}
        self._models = tuple(
            model.id for model in listed.data if not _is_cloud_name(model.id) and model.id not in self._forwarded
        )

    async def _get(self, path: str, form: type[_Listing], deadline: float) -> _Listing | None:
        request = self._addressed(HttpRequest("GET", path, (("accept", "application/json"),), b""))
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                response = await self._http.send(request, deadline)
                try:
                    body = await response.body(max_bytes=MAX_LISTING_BYTES)
                finally:
                    await response.aclose()
            return msgspec.json.decode(body, type=form) if response.status == 200 else None
        except (WatershedError, TimeoutError, msgspec.DecodeError):
            return None


def _is_cloud_name(model: str) -> bool:
    """Ollama's names for models that it forwards: ``gpt-oss:120b-cloud``, ``glm-4.6:cloud``."""
    return model.lower().endswith("cloud")
