"""One request's way through the pipeline: what is known of it so far, and the answer that goes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec

from audit.event import ClosingEvent
from classifiers import Label, Sensitivity
from gateway.tenants import Caller
from gateway.wire import Call, WireFormat
from gateway.wire.base import Usage
from policies.decision import Decision
from runtime.ids import new_id, now_us


class Hints(msgspec.Struct, frozen=True):
    """What a caller says of its own request; it can only tighten."""

    sensitivity: Sensitivity = Sensitivity.PUBLIC
    purpose: str | None = None
    dry_run: bool = False


@dataclass(slots=True)
class Exchange:
    """One request and what the stages have found out. Each stage sets its own field, once."""

    wire: WireFormat
    body: bytes
    caller: Caller
    hints: Hints
    deadline: float  # time.monotonic() seconds, by which an answer must have begun
    max_stream_s: float = 600.0
    request_id: str = field(default_factory=lambda: new_id("req"))
    started: float = field(default_factory=time.monotonic)
    call: Call | None = None
    label: Label | None = None
    decision: Decision | None = None
    target: str = "none"
    attempts: int = 0
    first_byte_us: int | None = None
    sent: bool = False
    closed: bool = False

    def closing(self, outcome: str, status: int, code: str, usage: Usage | None = None) -> ClosingEvent:
        """The event that ends this request."""
        return ClosingEvent(
            request_id=self.request_id,
            tenant=self.caller.tenant,
            at_us=now_us(),
            outcome=outcome,
            status=status,
            code=code,
            target=self.target,
            attempts=self.attempts,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            first_byte_us=self.first_byte_us,
            duration_us=self.elapsed_us(),
        )

    def elapsed_us(self) -> int:
        return int((time.monotonic() - self.started) * 1_000_000)

    @property
    def whole_by(self) -> float:
        """When the answer must be complete (monotonic seconds): a stream that began in time may go on."""
        if self.call is not None and self.call.stream:
            return max(self.started + self.max_stream_s, self.deadline)
        return self.deadline

    def remaining_s(self) -> float:
        return max(self.deadline - time.monotonic(), 0.0)

    def headers(self, policy_version: str) -> dict[str, str]:
        """The headers of ours on the answer. What was never decided counts as the strictest."""
        decision = self.decision
        sensitivity = decision.sensitivity if decision else Sensitivity.RESTRICTED
        return {
            "x-request-id": self.request_id,
            "x-watershed-route": decision.route.word if decision else "reject",
            "x-watershed-sensitivity": sensitivity.word,
            "x-watershed-decision": decision.id if decision else "none",
            "x-watershed-policy": decision.policy_version if decision else policy_version,
            "x-watershed-target": self.target,
        }


class Reply:
    """An answer for the caller: status, headers, and the chunks of its body.

    ``aclose`` must be awaited whether or not ``chunks`` was read to its end; it stops the work behind it.
    """

    __slots__ = ("chunks", "headers", "status", "stream")

    def __init__(self, status: int, headers: dict[str, str], chunks: AsyncIterator[bytes], *, stream: bool) -> None:
        self.status = status
        self.headers = headers
        self.chunks = chunks
        self.stream = stream

    @classmethod
    def whole(cls, status: int, headers: dict[str, str], body: bytes) -> Reply:
        return cls(status, {"content-type": "application/json", **headers}, _once(body), stream=False)

    async def aclose(self) -> None:
        close = getattr(self.chunks, "aclose", None)
        if close is not None:
            await asyncio.shield(close())


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
