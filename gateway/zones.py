"""Zones and their targets: where a decided request may be answered, and in which order they are tried.

    decision ─ route ─▶ Target, Target, …      on-prem: HttpRequest ─▶ node
                                               cloud:   HttpRequest + Clearance ─▶ bridge ─▶ provider

A target is a thing one adds; the pipeline asks only for its recipient, whether a crossing is needed, and for ``send``.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from cloud_bridge.clearance import Clearance
from cloud_bridge.crossing import Crossing
from gateway.hold import Capacity
from local_inference.node import PRIORITY_HEADER
from policies.decision import ONPREM, Decision
from runtime.errors import DeadlineExceededError, TargetError, UnavailableError
from runtime.http import HttpRequest, HttpResponse, Sender

AUTO = "auto"


class Passage(msgspec.Struct, frozen=True):
    """One attempt at one target.

    Attributes:
        request: exactly what is sent, credentials excepted.
        general: whether the request could have crossed (it then takes on-prem capacity within its share only).
        head_by: ``time.monotonic()`` seconds by which an answer must have begun; the whole of it may take longer.
        crossing, clearance: for a target outside the on-prem zone.
    """

    request: HttpRequest
    general: bool
    head_by: float
    crossing: Crossing | None = None
    clearance: Clearance | None = None


class Target(Protocol):
    """One place that answers."""

    name: str
    zone: str
    recipient: str
    crosses: bool
    topic: str  # of the crossing; empty at home

    def partition_for(self, conversation: str) -> int:
        """The topic's partition for a conversation, named by a keyed token that tells nothing."""
        ...

    def url_for(self, path: str) -> str:
        """Where a request to our ``path`` (``/v1/…``) goes."""
        ...

    async def model_for(self, model: str) -> str:
        """The model to ask this target for in the place of ``model``."""
        ...

    async def send(self, passage: Passage, deadline: float) -> HttpResponse:
        """The answer, once it has begun; the whole of it must be there by ``deadline`` (monotonic seconds)."""
        ...


Models = Callable[[], Awaitable[Sequence[str] | None]]


class OnPremTarget:
    """A node in the on-prem zone. It serves every model: one it does not know is answered by its own."""

    zone = "onprem"
    recipient: str = ONPREM
    crosses = False
    topic = ""

    def __init__(
        self,
        name: str,
        send: Sender,
        models: Models,
        *,
        default_model: str | None,
        capacity: Capacity,
        hold_s: float,
    ) -> None:
        self.name = name
        self._send = send
        self._models = models
        self._default_model = default_model
        self._capacity = capacity
        self._hold_s = hold_s

    def partition_for(self, conversation: str) -> int:
        return 0

    def url_for(self, path: str) -> str:
        return path

    async def models(self) -> list[str]:
        known = await self._models() or ()
        return [*known, self._default_model] if self._default_model and self._default_model not in known else [*known]

    async def model_for(self, model: str) -> str:
        known = await self._models()
        if known and model in known:
            return model
        if self._default_model:
            return self._default_model
        return known[0] if known else model

    async def send(self, passage: Passage, deadline: float) -> HttpResponse:
        """Wait for capacity and for the node itself, ``hold_s`` at the most, then pass the request on.

        Raises:
            UnavailableError: no capacity, or no node, in time.
        """
        until = min(passage.head_by, time.monotonic() + self._hold_s)
        slot = await self._capacity.acquire(general=passage.general, until=until)
        try:
            response = await self._send_held(passage, until, deadline)
        except BaseException:
            slot.release()
            raise

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async for chunk in response.chunks:
                    yield chunk
            finally:
                await close()

        async def close() -> None:
            slot.release()
            await response.aclose()

        return HttpResponse(response.status, response.headers, chunks(), close)

    async def _send_held(self, passage: Passage, until: float, deadline: float) -> HttpResponse:
        pause_s = 0.1
        while True:
            try:
                return await self._send(with_priority(passage.request, general=passage.general), deadline)
            except TargetError as error:
                # General traffic came here because the cloud was down: it is not worth holding.
                if passage.general or error.code == "model_unavailable" or time.monotonic() + pause_s >= until:
                    raise UnavailableError(
                        f"the on-prem node cannot answer ({error.code}); the request may not go elsewhere",
                        code="onprem_unavailable",
                        retry_after_s=error.retry_after_s or 5.0,
                    ) from None
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)


class Crossings(Protocol):
    """``cloud_bridge.client.Bridge``, or what stands for the one in force."""

    async def send(self, crossing: Crossing, clearance: Clearance | None, deadline: float) -> HttpResponse: ...


class CloudTarget:
    """A recipient outside, reached over the bridge only."""

    zone = "cloud"
    crosses = True

    def __init__(
        self,
        name: str,
        recipient: str,
        bridge: Crossings,
        *,
        base_url: str,
        model_for: Callable[[str], str],
        topic: str,
        partitions: int = 1,
    ) -> None:
        self.name = name
        self.recipient = recipient
        self._base_url = base_url
        self.topic = topic
        self._partitions = partitions
        self._bridge = bridge
        self._model_for = model_for

    def partition_for(self, conversation: str) -> int:
        return zlib.crc32(conversation.encode()) % self._partitions

    def url_for(self, path: str) -> str:
        return self._base_url + path.removeprefix("/v1")

    async def model_for(self, model: str) -> str:
        return self._model_for(model)

    async def send(self, passage: Passage, deadline: float) -> HttpResponse:
        if passage.crossing is None or passage.clearance is None:
            raise TargetError("nothing crosses without a clearance", code="no_clearance")
        return await self._bridge.send(passage.crossing, passage.clearance, deadline)


class Zones:
    """The targets there are; ``order`` keeps to the decision's recipients (law 3)."""

    def __init__(self, targets: Iterable[Target], *, cloud_tries: int = 2) -> None:
        self._targets = tuple(targets)
        self._cloud_tries = cloud_tries

    @property
    def targets(self) -> tuple[Target, ...]:
        return self._targets

    async def order(self, decision: Decision, model: str) -> list[Target]:
        """The targets to try, in turn: those outside first where the decision allows them, home last.

        A model that only an on-prem target serves is a pin to that zone; a pin can tighten and never widen.
        """
        allowed = [target for target in self._targets if target.recipient in decision.recipients]
        home = [target for target in allowed if not target.crosses]
        if model != AUTO and await self._is_home_model(model):
            return home
        away = [target for target in allowed if target.crosses for _ in range(self._cloud_tries)]
        return away + home

    async def models(self) -> list[str]:
        names: list[str] = []
        for target in self._targets:
            if isinstance(target, OnPremTarget):
                names += await target.models()
        return names

    async def _is_home_model(self, model: str) -> bool:
        return model in await self.models()


def with_priority(request: HttpRequest, *, general: bool) -> HttpRequest:
    """Tell a node of ours that sensitive traffic goes first."""
    if not general:
        return request
    return msgspec.structs.replace(request, headers=(*request.headers, (PRIORITY_HEADER, "general")))


def check_deadline(deadline: float) -> None:
    """Raises DeadlineExceededError once ``deadline`` (monotonic seconds) has passed."""
    if time.monotonic() >= deadline:
        raise DeadlineExceededError("the request's deadline has passed")
