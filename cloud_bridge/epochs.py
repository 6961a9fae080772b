"""Minimum key epochs: how the on-prem zone takes keys away from workers, and stops those it can no longer reach.

    on-prem: sign, each 10 s ──▶ watershed.control ──▶ worker: refuse older epochs; stop 30 s after the last was signed

A notice is a header (its deadline: until when it counts; its epoch: the lowest that the pool may open) and a signature
over it and the pool's name. It is signed with the key that workers already trust, the clearance authority's, so that
neither a broker nor a gateway can keep a worker going or turn an epoch back. TRUST.md, rule 6.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cloud_bridge.clearance import CLOCK_SKEW_US
from cloud_bridge.messages import HEADER_BYTES, Header, Schema, read_header
from cloud_bridge.transport import CONTROL, Transport
from runtime.errors import ClearanceError, SealingError, TargetError
from runtime.ids import now_us

NOTICE_EVERY_S = 10.0
FRESH_S = 30.0
_PUBLISH_S = 2.0
_CONTEXT = b"watershed minimum epoch 1\x00"

_log = structlog.get_logger()


def sign_notice(key: Ed25519PrivateKey, *, recipient: str, minimum: int, issued_us: int) -> bytes:
    """The message that no key epoch of ``recipient``'s pool below ``minimum`` is to be used; counts for ``FRESH_S``."""
    header = Header(Schema.INTL_EPOCH, os.urandom(16), issued_us + int(FRESH_S * 1e6), minimum).pack()
    return header + key.sign(_signed(header, recipient))


async def publish_notices(
    transport: Transport, make: Callable[[], Awaitable[bytes]], *, every_s: float = NOTICE_EVERY_S
) -> None:
    """Publish what ``make`` gives each ``every_s`` seconds until cancelled; one that fails is made up by the next."""
    while True:
        try:
            await transport.publish(CONTROL, 0, await make(), deadline=time.monotonic() + _PUBLISH_S)
        except TargetError as error:
            _log.warning("a minimum epoch was not published", code=error.code)
        await asyncio.sleep(every_s)


class EpochWatch(Protocol):
    """What a worker asks before it takes anything."""

    def take(self, message: bytes) -> None:
        """Hear a notice.

        Raises:
            SealingError: it is none, is not signed for this pool, or does not count now.
        """
        ...

    def fresh_for_s(self) -> float | None:
        """Seconds for which the worker may go on; none or fewer: it stops; None: without a limit."""
        ...

    async def fresh(self) -> None:
        """Wait until the worker may go on."""
        ...

    def check(self, key_epoch: int) -> None:
        """Raises SealingError for an epoch below the minimum, ClearanceError where the minimum is not known."""
        ...


class MinimumEpoch:
    """The minimum epoch of one pool, as last signed; it never falls.

    Args:
        public_key: the clearance authority's.
    """

    def __init__(self, public_key: Ed25519PublicKey, *, recipient: str, clock_us: Callable[[], int] = now_us) -> None:
        self._public_key = public_key
        self._recipient = recipient
        self._clock_us = clock_us
        self._latest_us = 0
        self._minimum = 0
        self._until = 0.0  # time.monotonic()
        self._heard = asyncio.Event()

    def take(self, message: bytes) -> None:
        header = read_header(message, Schema.INTL_EPOCH)
        try:
            self._public_key.verify(message[HEADER_BYTES:], _signed(message[:HEADER_BYTES], self._recipient))
        except InvalidSignature:
            raise SealingError("the minimum epoch is not signed for this pool", code="epoch_signature") from None
        # A clock that is set back must not make an old notice count again.
        self._latest_us = max(self._latest_us, self._clock_us())
        remaining_us = header.deadline_us - self._latest_us
        if not 0 < remaining_us <= FRESH_S * 1e6 + CLOCK_SKEW_US:
            raise SealingError("the minimum epoch does not count now", code="epoch_expired")
        self._minimum = max(self._minimum, header.key_epoch)
        self._until = max(self._until, time.monotonic() + remaining_us / 1e6)
        self._heard.set()

    def fresh_for_s(self) -> float:
        return self._until - time.monotonic()

    async def fresh(self) -> None:
        while self.fresh_for_s() <= 0:
            self._heard.clear()
            await self._heard.wait()

    def check(self, key_epoch: int) -> None:
        if self.fresh_for_s() <= 0:
            raise ClearanceError("the worker has not heard the minimum epoch", code="epoch_unknown")
        if key_epoch < self._minimum:
            raise SealingError("the key's epoch has ended", code="seal_epoch")


class OneProcess:
    """Worker and gateway are one process: there is nobody to be cut off from, and keys go with it."""

    def take(self, message: bytes) -> None:
        raise SealingError("no minimum epoch is expected here", code="seal_schema")

    def fresh_for_s(self) -> None:
        return None

    async def fresh(self) -> None:
        return None

    def check(self, key_epoch: int) -> None:
        """Every epoch whose key is held may be used."""


def _signed(header: bytes, recipient: str) -> bytes:
    return b"".join((_CONTEXT, header, recipient.encode()))
