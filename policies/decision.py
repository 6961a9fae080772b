"""What the policy says of one request: who may see it, what must be edited first, and why.

Label + CallFacts ──▶ PolicyEngine ──▶ Decision(recipients, edits, obligations, rules, …)
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from classifiers.label import Sensitivity

ONPREM: Final = "onprem"
"""The recipient that every decision allows unless a rule rejects."""


class Route(enum.IntEnum):
    """The four names of a decision's result, by strictness."""

    CLOUD = 0
    CLOUD_PSEUDONYMISED = 1
    ONPREM = 2
    REJECT = 3

    @property
    def word(self) -> str:
        return self.name.lower()


class Edit(enum.StrEnum):
    """What becomes of a finding before its text crosses; members stand in order of strictness."""

    MASK = "mask"
    REDACT = "redact"

    @property
    def strictness(self) -> int:
        return _STRICTNESS[self]


_STRICTNESS = {edit: position for position, edit in enumerate(Edit)}


class CallFacts(msgspec.Struct, frozen=True):
    """What a decision may know of a call besides its label.

    Attributes:
        tenant: the authenticated tenant.
        model: the model asked for; empty for none.
        purpose: the caller's ``x-watershed-purpose``.
        sensitivity: the caller's hint; it joins upward, so it can only tighten.
        kinds: the kinds of the request's segments, such as ``binary``.
        size_bytes: length of the request's body.
        endpoint: path of the endpoint called.
    """

    tenant: str
    model: str = ""
    purpose: str | None = None
    sensitivity: Sensitivity = Sensitivity.PUBLIC
    kinds: frozenset[str] = frozenset()
    size_bytes: int = 0
    endpoint: str = ""


class Decision(msgspec.Struct, frozen=True):
    """The meet of all matching rules' outcomes (law 1).

    Attributes:
        id: the decision's id.
        recipients: ids of those who may see the request; empty means ``reject``.
        edits: the strictest edit asked for, by entity type, of the types that were found; made before a crossing.
        obligations: what else the rules ask for, united.
        rules: ids of the rules that fired, sorted, then ``exception:<id>`` for each exception that held one back, then
            ``floor:unscanned`` where the built-in floor kept the request on-prem.
        policy_version: the version that decided.
        sensitivity: the label's and the caller's hint, joined.
        reason: for a reject, the rule's title and remedy; otherwise empty.
    """

    id: str
    recipients: frozenset[str]
    edits: Mapping[str, Edit]
    obligations: frozenset[str]
    rules: tuple[str, ...]
    policy_version: str
    sensitivity: Sensitivity
    reason: str = ""

    @property
    def route(self) -> Route:
        if not self.recipients:
            return Route.REJECT
        if self.recipients == {ONPREM}:
            return Route.ONPREM
        return Route.CLOUD_PSEUDONYMISED if self.edits else Route.CLOUD
