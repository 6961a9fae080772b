"""Clearance: a signed, single-use statement that exactly these bytes may cross to this recipient, until a deadline.

    Crossing + audit receipt ──▶ ClearanceAuthority ──▶ Clearance ──▶ ClearanceVerifier (bridge)  ──▶ published
                                  rate, receipt,                  └──▶ ClearanceVerifier (worker)  ──▶ provider
                                  recheck, sign

The authority alone holds the key. It signs the root over all clearances that wait when it is free, never waiting to
gather, so a burst costs one signature. Laws 4 and TRUST.md, rule 1.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.merkle import leaf_hash, verify_inclusion
from cloud_bridge.batch import prove_all
from cloud_bridge.crossing import Crossing, Destination, check_crossing
from runtime.errors import ClearanceError
from runtime.http import Headers
from runtime.ids import new_id, now_us
from runtime.keys import SUITE
from runtime.telemetry import CLEARANCES

MAX_LIFETIME_S = 120
CLOCK_SKEW_US = 2_000_000
_SIGNED_CONTEXT = b"watershed clearance root 1\x00"
_MAX_BATCH = 1024
_USED_BUCKET_US = 5_000_000
_KNOWN_ROOTS = 256

_encode = msgspec.msgpack.Encoder().encode


class BatchProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a clearance stands in its group commit: leaf ``index`` of ``size``, siblings upwards, the root and its signature."""

    index: int
    size: int
    siblings: tuple[bytes, ...]
    root: bytes
    signature: bytes


class Clearance(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What may cross, where to, until when. Digests are SHA-256; times are microseconds since the Unix epoch."""

    suite: str
    id: str
    request_id: str
    decision_id: str
    policy_version: str
    tenant: str
    recipient: str
    attempt: int
    method: str
    scheme: str
    host: str
    path: str
    headers_digest: bytes
    body_digest: bytes
    stream: bool
    topic: str
    partition: int
    issued_us: int
    not_after_us: int
    proof: BatchProof


class Recheck(Protocol):
    """Scans the body again and recomputes the decision; passed in, since this package knows no classifier.

    It also checks that ``decision_receipt`` is the receipt of *this* crossing's decision.

    Raises:
        ClearanceError: the decision does not allow this crossing.
    """

    async def __call__(self, crossing: Crossing, decision_receipt: Any, /) -> None: ...


def digest_headers(headers: Headers) -> bytes:
    return hashlib.sha256(_encode(headers)).digest()


_NO_PROOF = BatchProof(0, 0, (), b"", b"")


def _unsigned(
    crossing: Crossing, destination: Destination, clearance_id: str, issued_us: int, until_us: int
) -> Clearance:
    """The clearance that says what ``crossing`` is, before it is signed."""
    request = crossing.request
    return Clearance(
        suite=SUITE,
        id=clearance_id,
        request_id=crossing.request_id,
        decision_id=crossing.decision_id,
        policy_version=crossing.policy_version,
        tenant=crossing.tenant,
        recipient=crossing.recipient,
        attempt=crossing.attempt,
        method=request.method,
        scheme=destination.scheme,
        host=destination.host,
        path=destination.path,
        headers_digest=digest_headers(request.headers),
        body_digest=hashlib.sha256(request.body).digest(),
        stream=crossing.stream,
        topic=crossing.topic,
        partition=crossing.partition,
        issued_us=issued_us,
        not_after_us=until_us,
        proof=_NO_PROOF,
    )


def _signed_bytes(root: bytes, size: int) -> bytes:
    return b"".join((_SIGNED_CONTEXT, SUITE.encode(), b"\x00", size.to_bytes(8, "big"), root))


class _Waiting(msgspec.Struct):
    unsigned: Clearance
    done: asyncio.Future[Clearance]


class ClearanceAuthority:
    """The only holder of the clearance key.

    Args:
        recheck: see ``Recheck``; whatever it raises, nothing is signed.
        receipt_holds: whether an audit receipt is durable (``AuditLog.holds``).
        rate_per_s: clearances a second, and the size of a burst; a stolen gateway is limited by it.
        lifetime_s: how long a clearance is valid, at most 120 s; the crossing's deadline may shorten it.
    """

    def __init__(
        self,
        *,
        key: Ed25519PrivateKey,
        recheck: Recheck,
        receipt_holds: Callable[[Any], bool],
        rate_per_s: float,
        lifetime_s: float = MAX_LIFETIME_S,
        clock_us: Callable[[], int] = now_us,
    ) -> None:
        self._key = key
        self._recheck = recheck
        self._receipt_holds = receipt_holds
        self._lifetime_us = int(min(lifetime_s, MAX_LIFETIME_S) * 1e6)
        self._clock_us = clock_us
        self._rate = _Rate(rate_per_s, clock_us())
        self._waiting: list[_Waiting] = []

    @property
    def public_key(self) -> Ed25519PublicKey:
        return self._key.public_key()

    async def clear(self, crossing: Crossing, receipt: Any) -> Clearance:
        """A clearance for exactly this crossing.

        Raises:
            ClearanceError: malformed crossing, receipt not held, over the rate (with ``retry_after_s``), past the
                deadline (``deadline_exceeded``), or the recheck does not allow it.
        """
        try:
            clearance = await self._clear(crossing, receipt)
        except ClearanceError as error:
            CLEARANCES.labels(error.code).inc()
            raise
        CLEARANCES.labels("issued").inc()
        return clearance

    async def _clear(self, crossing: Crossing, receipt: Any) -> Clearance:
        destination = check_crossing(crossing)
        now = self._clock_us()
        if now >= crossing.deadline_us:
            raise ClearanceError("the deadline passed before the clearance", code="deadline_exceeded")
        if receipt is None or not self._receipt_holds(receipt):
            raise ClearanceError("the decision is not in the audit log", code="receipt_not_held")
        self._rate.take(now)
        await self._run_recheck(crossing, receipt, (crossing.deadline_us - now) / 1e6)
        issued = self._clock_us()
        until = min(issued + self._lifetime_us, crossing.deadline_us)
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._sign_waiting)
        waiting = _Waiting(_unsigned(crossing, destination, new_id("clr"), issued, until), loop.create_future())
        self._waiting.append(waiting)
        return await waiting.done

    async def _run_recheck(self, crossing: Crossing, receipt: Any, remaining_s: float) -> None:
        try:
            async with asyncio.timeout(remaining_s):
                await self._recheck(crossing, receipt)
        except ClearanceError:
            raise
        except TimeoutError:
            raise ClearanceError("the deadline passed during the recheck", code="deadline_exceeded") from None
        except Exception:
            # Fail closed; the cause may quote the request, so it is not chained.
            raise ClearanceError("the recheck failed", code="recheck_failed") from None

    def _sign_waiting(self) -> None:
        """One signature over all that wait now; runs in the loop, since signing (40 µs) costs less than a thread hop."""
        batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
        loop = asyncio.get_running_loop()
        if self._waiting:
            loop.call_soon(self._sign_waiting)
        try:
            root, paths = prove_all([_encode(waiting.unsigned) for waiting in batch])
            signature = self._key.sign(_signed_bytes(root, len(batch)))
        except Exception:
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(ClearanceError("the clearance cannot be signed", code="signing_failed"))
            return
        for index, (waiting, path) in enumerate(zip(batch, paths, strict=True)):
            if not waiting.done.done():  # its caller may have left
                proof = BatchProof(index, len(batch), path, root, signature)
                waiting.done.set_result(msgspec.structs.replace(waiting.unsigned, proof=proof))


class _Rate:
    """Token bucket that holds one second's worth."""

    def __init__(self, per_s: float, now: int) -> None:
        self._per_s = per_s
        self._tokens = max(per_s, 1.0)
        self._at_us = now

    def take(self, now: int) -> None:
        gained = max(now - self._at_us, 0) / 1e6 * self._per_s
        self._tokens = min(self._tokens + gained, max(self._per_s, 1.0))
        self._at_us = now
        if self._tokens < 1:
            wait_s = (1 - self._tokens) / self._per_s
            raise ClearanceError(
                "more clearances than the authority gives", code="clearance_rate", retry_after_s=wait_s
            )
        self._tokens -= 1


class ClearanceVerifier:
    """Checks clearances for one recipient and remembers those used until they expire.

    The bridge and each worker pool have one of their own; a worker that takes over from another in the same process
    takes over its verifier, so that a used clearance stays used.
    """

    def __init__(self, public_key: Ed25519PublicKey, *, recipient: str, clock_us: Callable[[], int] = now_us) -> None:
        self._public_key = public_key
        self._recipient = recipient
        self._clock_us = clock_us
        self._used: dict[int, set[str]] = {}  # by time of expiry, so that forgetting is dropping whole buckets
        self._roots: dict[tuple[bytes, int, bytes], None] = {}
        self._latest_us = 0

    def verify(self, clearance: Clearance | None, crossing: Crossing) -> None:
        """Accept ``clearance`` for ``crossing`` once, or raise; a refused one is not used up.

        Raises:
            ClearanceError: missing, forged, for another recipient, place, attempt or message, not valid now, or used.
        """
        if clearance is None:
            raise ClearanceError("there is no clearance", code="clearance_missing")
        destination = check_crossing(crossing)
        if clearance.suite != SUITE:
            raise ClearanceError("the clearance's suite is not known", code="clearance_suite")
        if clearance.recipient != self._recipient or crossing.recipient != self._recipient:
            raise ClearanceError("the clearance is for another recipient", code="clearance_recipient")
        unsigned = _unsigned(crossing, destination, clearance.id, clearance.issued_us, clearance.not_after_us)
        if msgspec.structs.replace(clearance, proof=_NO_PROOF) != unsigned:
            raise ClearanceError("the clearance is for something else", code="clearance_mismatch")
        self._check_signature(unsigned, clearance.proof)
        # A clock that is set back must not bring back what expired: its uses are forgotten.
        self._latest_us = max(self._latest_us, self._clock_us())
        self._check_time(clearance, self._latest_us)
        self._use(clearance)

    def _check_signature(self, unsigned: Clearance, proof: BatchProof) -> None:
        leaf = leaf_hash(_encode(unsigned))
        if not verify_inclusion(leaf, proof.index, proof.size, proof.siblings, proof.root):
            raise ClearanceError("the clearance is not in its signed batch", code="clearance_signature")
        known = (proof.root, proof.size, proof.signature)
        if known in self._roots:
            return
        try:
            self._public_key.verify(proof.signature, _signed_bytes(proof.root, proof.size))
        except InvalidSignature:
            raise ClearanceError("the clearance's signature does not hold", code="clearance_signature") from None
        if len(self._roots) >= _KNOWN_ROOTS:
            del self._roots[next(iter(self._roots))]
        self._roots[known] = None

    def _check_time(self, clearance: Clearance, now: int) -> None:
        lifetime_us = clearance.not_after_us - clearance.issued_us
        if not 0 < lifetime_us <= MAX_LIFETIME_S * 1_000_000:
            raise ClearanceError("the clearance's lifetime is not allowed", code="clearance_lifetime")
        if now >= clearance.not_after_us or now < clearance.issued_us - CLOCK_SKEW_US:
            raise ClearanceError("the clearance is not valid now", code="clearance_expired")

    def _use(self, clearance: Clearance) -> None:
        now_bucket = self._latest_us // _USED_BUCKET_US
        for bucket in [bucket for bucket in self._used if bucket < now_bucket]:
            del self._used[bucket]
        used = self._used.setdefault(clearance.not_after_us // _USED_BUCKET_US, set())
        if clearance.id in used:
            raise ClearanceError("the clearance has been used", code="clearance_used")
        used.add(clearance.id)
