"""The on-prem zone's nodes as one target: the first that can be reached answers.

    send ─▶ node of our availability zone ─▶ its peer ─▶ …       one request id for all of them

The order is the caller's: same-zone first. Only a node that was not reached is passed over; one that answers, if only with
an error, is the answer. Nodes see by the request's id that no two of them answer it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec

from local_inference.client import with_request_id
from runtime.errors import TargetError, WatershedError
from runtime.http import HttpRequest, HttpResponse, Sender
from runtime.ids import new_id

LISTING_TIMEOUT_S = 2.0
LISTED_FOR_S = 10.0
MAX_LISTING_BYTES = 1_048_576


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class NodePool:
    """``send`` is a ``runtime.http.Sender``; ``nodes``: ``NodeClient.send`` of each, the preferred one first."""

    def __init__(self, nodes: Sequence[Sender]) -> None:
        """Raises ValueError without a node."""
        if not nodes:
            raise ValueError("a pool has at least one node")
        self._nodes = tuple(nodes)
        self._models: tuple[str, ...] | None = None
        self._listed_at = float("-inf")
        self._listing = asyncio.Lock()

    async def send(self, request: HttpRequest, deadline: float) -> HttpResponse:
        """Ask each node in turn.

        Raises:
            TargetError: none can be reached.
            DeadlineExceededError, UpstreamError: of the one that was.
        """
        named = with_request_id(request, new_id("call"))
        for node in self._nodes[:-1]:
            try:
                return await node(named, deadline)
            except TargetError:
                continue
        return await self._nodes[-1](named, deadline)

    async def models(self) -> tuple[str, ...] | None:
        """What the nodes serve, at most LISTED_FOR_S old; None where none of them says."""
        async with self._listing:
            if time.monotonic() - self._listed_at >= LISTED_FOR_S:
                self._models = await self._list()
                self._listed_at = time.monotonic()
            return self._models

    async def _list(self) -> tuple[str, ...] | None:
        request = HttpRequest("GET", "/v1/models", (("accept", "application/json"),), b"")
        for node in self._nodes:
            try:
                async with asyncio.timeout(LISTING_TIMEOUT_S):
                    response = await node(request, time.monotonic() + LISTING_TIMEOUT_S)
                    try:
                        body = await response.body(max_bytes=MAX_LISTING_BYTES)
                    finally:
                        await response.aclose()
                if response.status == 200:
                    return tuple(model.id for model in msgspec.json.decode(body, type=_Models).data)
            except (WatershedError, TimeoutError, msgspec.DecodeError):
                continue
        return None
