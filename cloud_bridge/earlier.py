"""What other workers of the pool have used: message ids read back from a partition that was taken over.

A message id is a hash of its clearance's id, and the worker serves no message whose id is not. So the headers alone,
which stand outside the seal, tell which clearances were used (TRUST.md, rule 1).
"""

from __future__ import annotations

from collections.abc import Callable

from cloud_bridge.clearance import CLOCK_SKEW_US, MAX_LIFETIME_S
from cloud_bridge.messages import Schema, read_header
from cloud_bridge.transport import Record
from runtime.errors import ClearanceError, SealingError
from runtime.ids import now_us

_KEPT_US = MAX_LIFETIME_S * 1_000_000 + CLOCK_SKEW_US


class EarlierMessages:
    """Message ids that others took, each for as long as its clearance could be valid."""

    def __init__(self, clock_us: Callable[[], int] = now_us) -> None:
        self._clock_us = clock_us
        self._until_us: dict[bytes, int] = {}  # oldest first

    def note(self, record: Record) -> None:
        """Remember a record that was committed before; one that is no request was used by nobody."""
        try:
            message_id = read_header(record.value, Schema.INTL_REQUEST).message_id
        except SealingError:
            return
        now = self._clock_us()
        while self._until_us and self._until_us[oldest := next(iter(self._until_us))] < now:
            del self._until_us[oldest]
        # The header's deadline says nothing about the clearance's: its longest life is what counts.
        self._until_us.pop(message_id, None)
        self._until_us[message_id] = now + _KEPT_US

    def check(self, message_id: bytes) -> None:
        """Raises ClearanceError for a message whose clearance another worker has used."""
        if message_id in self._until_us:
            raise ClearanceError("the clearance has been used", code="clearance_used")
