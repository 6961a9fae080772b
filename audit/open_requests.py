"""Requests that have a decision and no closing event yet: what a crash would leave interrupted (law 6)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from audit.event import ClearanceEvent, ClosingEvent, DecisionEvent, Event

INTERRUPTED = "interrupted"

MAX_OPEN = 16_384
"""Far above what a gateway has in flight. Each segment's header lists them, so their number must have a bound: of more,
the oldest are forgotten."""


class OpenRequest(msgspec.Struct, frozen=True):
    """What is known of a request that has not ended.

    Attributes:
        decided_us: when it was decided, microseconds since the epoch.
        attempts: the highest attempt that was cleared; a provider may have worked for each.
        target: the last target it was cleared for; empty before any.
    """

    request_id: str
    tenant: str
    decided_us: int
    attempts: int = 0
    target: str = ""


class OpenRequests:
    """Follows a log's events; holds no more than the requests in flight, and never more than ``MAX_OPEN``."""

    def __init__(self, requests: Iterable[OpenRequest] = ()) -> None:
        self._requests = {request.request_id: request for request in requests}

    def note(self, event: Event) -> None:
        match event:
            case DecisionEvent():
                self._requests[event.request_id] = OpenRequest(event.request_id, event.tenant, event.at_us)
                if len(self._requests) > MAX_OPEN:
                    del self._requests[next(iter(self._requests))]
            case ClosingEvent():
                self._requests.pop(event.request_id, None)
            case ClearanceEvent(outcome="issued") if request := self._requests.get(event.request_id):
                self._requests[event.request_id] = msgspec.structs.replace(
                    request, attempts=max(request.attempts, event.attempt), target=event.target
                )
            case _:
                pass

    def all(self) -> tuple[OpenRequest, ...]:
        """In the order of their decisions."""
        return tuple(self._requests.values())


def interrupted(request: OpenRequest, now_us: int) -> ClosingEvent:
    """The closing event of a request that a crash ended."""
    return ClosingEvent(
        request_id=request.request_id,
        tenant=request.tenant,
        at_us=now_us,
        outcome=INTERRUPTED,
        status=0,
        code=INTERRUPTED,
        target=request.target or "none",
        attempts=request.attempts,
        prompt_tokens=None,
        completion_tokens=None,
        first_byte_us=None,
        duration_us=max(now_us - request.decided_us, 0),
    )
