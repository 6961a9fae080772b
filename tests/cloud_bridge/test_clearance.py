"""Clearance: who gets one, and what it is good for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.clearance import MAX_LIFETIME_S, Clearance, ClearanceAuthority, ClearanceVerifier
from cloud_bridge.crossing import Crossing
from runtime.errors import ClearanceError
from runtime.http import HttpRequest
from tests.cloud_bridge.scene import BASE_URL, RECEIPT, RECIPIENT, allow, crossing

KEY = Ed25519PrivateKey.generate()
START_US = 1_790_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_us = START_US

    def __call__(self) -> int:
        return self.now_us

    def advance(self, seconds: float) -> None:
        self.now_us += int(seconds * 1e6)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def authority(clock: Callable[[], int], **changes: Any) -> ClearanceAuthority:
    options: dict[str, Any] = {
        "key": KEY, "recheck": allow, "receipt_holds": lambda r: r == RECEIPT, "rate_per_s": 1000, "clock_us": clock,
    }  # fmt: skip
    return ClearanceAuthority(**(options | changes))


def verifier(clock: Callable[[], int], recipient: str = RECIPIENT) -> ClearanceVerifier:
    return ClearanceVerifier(KEY.public_key(), recipient=recipient, clock_us=clock)


def wanted(**changes: Any) -> Crossing:
    return crossing(**({"deadline_us": START_US + 60_000_000} | changes))


async def refused(clearing: Any) -> ClearanceError:
    with pytest.raises(ClearanceError) as caught:
        await clearing
    return caught.value


# --- the authority ---


async def test_a_cleared_crossing_is_accepted_once(clock: Clock) -> None:
    what = wanted()
    clearance = await authority(clock).clear(what, RECEIPT)
    check = verifier(clock)

    check.verify(clearance, what)

    with pytest.raises(ClearanceError) as caught:
        check.verify(clearance, what)
    assert caught.value.code == "clearance_used"


@pytest.mark.parametrize("receipt", [None, "another"])
async def test_without_a_receipt_that_the_log_holds_nothing_is_cleared(clock: Clock, receipt: str | None) -> None:
    assert (await refused(authority(clock).clear(wanted(), receipt))).code == "receipt_not_held"


async def test_a_recheck_that_refuses_is_the_last_word(clock: Clock) -> None:
    async def refuse(_crossing: Crossing, _receipt: Any) -> None:
        raise ClearanceError("not allowed", code="decision_differs")

    assert (await refused(authority(clock, recheck=refuse).clear(wanted(), RECEIPT))).code == "decision_differs"


async def test_a_recheck_that_breaks_clears_nothing_and_says_nothing_of_the_request(clock: Clock) -> None:
    async def break_down(_crossing: Crossing, _receipt: Any) -> None:
        raise RuntimeError("canary-from-the-body")

    error = await refused(authority(clock, recheck=break_down).clear(wanted(), RECEIPT))

    assert error.code == "recheck_failed"
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert "canary" not in str(error)


async def test_past_the_deadline_nothing_is_cleared(clock: Clock) -> None:
    what = wanted()
    clock.advance(60)

    assert (await refused(authority(clock).clear(what, RECEIPT))).code == "deadline_exceeded"


async def test_a_recheck_may_not_outlast_the_deadline(clock: Clock) -> None:
    async def hang(_crossing: Crossing, _receipt: Any) -> None:
        await asyncio.Event().wait()

    what = wanted(deadline_us=START_US + 5_000)

    assert (await refused(authority(clock, recheck=hang).clear(what, RECEIPT))).code == "deadline_exceeded"


async def test_over_the_rate_it_refuses_until_time_has_passed(clock: Clock) -> None:
    limited = authority(clock, rate_per_s=3)
    for _ in range(3):
        await limited.clear(wanted(), RECEIPT)

    error = await refused(limited.clear(wanted(), RECEIPT))
    clock.advance(1 / 3 + 0.001)

    assert error.code == "clearance_rate"
    assert error.retry_after_s == pytest.approx(1 / 3)
    await limited.clear(wanted(), RECEIPT)


async def test_a_malformed_crossing_is_refused_before_anybody_looks_at_it(clock: Clock) -> None:
    looked: list[Crossing] = []

    async def look(what: Crossing, _receipt: Any) -> None:
        looked.append(what)

    error = await refused(authority(clock, recheck=look).clear(wanted(url=f"{BASE_URL}/x?q=1"), RECEIPT))

    assert error.code == "crossing_query"
    assert looked == []


async def test_a_burst_shares_one_signature_and_each_clearance_stands_alone(clock: Clock) -> None:
    all_wanted = [wanted() for _ in range(37)]
    giver = authority(clock)

    cleared = await asyncio.gather(*(giver.clear(what, RECEIPT) for what in all_wanted))

    assert {(c.proof.size, c.proof.signature) for c in cleared} == {(37, cleared[0].proof.signature)}
    for what, clearance in zip(all_wanted, cleared, strict=True):
        verifier(clock).verify(clearance, what)


async def test_one_alone_does_not_wait_for_others(clock: Clock) -> None:
    clearance = await authority(clock).clear(wanted(), RECEIPT)

    assert (clearance.proof.size, clearance.proof.siblings) == (1, ())


async def test_who_leaves_while_waiting_spoils_nothing_for_the_others(clock: Clock) -> None:
    giver, what = authority(clock), wanted()
    leaving = asyncio.ensure_future(giver.clear(wanted(), RECEIPT))
    staying = asyncio.ensure_future(giver.clear(what, RECEIPT))
    asyncio.get_running_loop().call_soon(leaving.cancel)

    verifier(clock).verify(await staying, what)


@pytest.mark.parametrize(
    ("deadline_s", "lifetime_s", "valid_s"), [(30, 120, 30), (600, 120, 120), (600, 5, 5), (600, 999, 120)]
)
async def test_it_lives_to_the_deadline_or_120_seconds_at_most(
    clock: Clock, deadline_s: int, lifetime_s: int, valid_s: int
) -> None:
    what = wanted(deadline_us=START_US + deadline_s * 1_000_000)

    clearance = await authority(clock, lifetime_s=lifetime_s).clear(what, RECEIPT)

    assert clearance.not_after_us - clearance.issued_us == valid_s * 1_000_000


# --- the verifier ---

OTHER: dict[str, Any] = {
    "request_id": "req-other", "decision_id": "dec-other", "policy_version": "other", "tenant": "other", "attempt": 2,
    "stream": True, "topic": "watershed.records", "partition": 3, "method": "GET",
    "url": f"{BASE_URL}/embeddings", "headers": (("content-type", "application/json"),), "body": b'{"model":"n"}',
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
async def test_it_is_good_for_nothing_that_differs(clock: Clock, name: str) -> None:
    fields: dict[str, Any] = {
        "request_id": "req-1",
        "decision_id": "dec-1",
        "headers": (("accept", "application/json"),),
    }
    clearance = await authority(clock).clear(wanted(**fields), RECEIPT)

    with pytest.raises(ClearanceError) as caught:
        verifier(clock).verify(clearance, wanted(**(fields | {name: OTHER[name]})))

    assert caught.value.code == "clearance_mismatch"
    verifier(clock).verify(clearance, wanted(**fields))  # and nothing else was different


@pytest.mark.parametrize(
    "url", ["http://provider.example/v1/x", "https://provider.example:8443/v1/x", "https://other.example/v1/x"]
)
async def test_scheme_host_and_port_are_cleared_too(clock: Clock, url: str) -> None:
    clearance = await authority(clock).clear(
        wanted(request_id="r", decision_id="d", url="https://provider.example/v1/x"), RECEIPT
    )

    with pytest.raises(ClearanceError, match="something else"):
        verifier(clock).verify(clearance, wanted(request_id="r", decision_id="d", url=url))


async def test_another_recipients_worker_refuses_it(clock: Clock) -> None:
    what = wanted()
    clearance = await authority(clock).clear(what, RECEIPT)

    for asked in (what, msgspec.structs.replace(what, recipient="other")):
        with pytest.raises(ClearanceError) as caught:
            verifier(clock, "other").verify(clearance, asked)
        assert caught.value.code == "clearance_recipient"


async def test_another_key_signs_for_nobody(clock: Clock) -> None:
    what = wanted()
    clearance = await authority(clock, key=Ed25519PrivateKey.generate()).clear(what, RECEIPT)

    with pytest.raises(ClearanceError) as caught:
        verifier(clock).verify(clearance, what)
    assert caught.value.code == "clearance_signature"


@pytest.mark.parametrize(
    ("moved_s", "code"), [(60, "clearance_expired"), (59.9, None), (-1.9, None), (-2.1, "clearance_expired")]
)
async def test_it_is_valid_from_its_issue_to_its_end(clock: Clock, moved_s: float, code: str | None) -> None:
    what = wanted()
    clearance = await authority(clock).clear(what, RECEIPT)
    clock.advance(moved_s)

    if code is None:
        verifier(clock).verify(clearance, what)
        return
    with pytest.raises(ClearanceError) as caught:
        verifier(clock).verify(clearance, what)
    assert caught.value.code == code


async def test_a_longer_life_than_120_seconds_is_refused_even_when_signed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = wanted(deadline_us=START_US + 600_000_000)
    with monkeypatch.context() as patched:
        patched.setattr("cloud_bridge.clearance.MAX_LIFETIME_S", 600)
        clearance = await authority(clock, lifetime_s=600).clear(what, RECEIPT)

    with pytest.raises(ClearanceError) as caught:
        verifier(clock).verify(clearance, what)
    assert caught.value.code == "clearance_lifetime"


async def test_a_refused_use_does_not_use_it_up(clock: Clock) -> None:
    what = wanted()
    clearance = await authority(clock).clear(what, RECEIPT)
    check = verifier(clock)

    with pytest.raises(ClearanceError):
        check.verify(clearance, msgspec.structs.replace(what, attempt=2))
    check.verify(clearance, what)


async def test_memory_of_used_ones_is_bounded_by_their_expiry(clock: Clock) -> None:
    giver, check = authority(clock), verifier(clock)
    sizes = []
    for _ in range(100):
        what = wanted(deadline_us=clock.now_us + 10_000_000)
        check.verify(await giver.clear(what, RECEIPT), what)
        clock.advance(1)
        sizes.append(sum(len(bucket) for bucket in check._used.values()))

    assert max(sizes) <= 10 + 2 * 5


async def test_a_clock_set_back_brings_no_used_one_back(clock: Clock) -> None:
    giver, check, what = authority(clock), verifier(clock), wanted()
    clearance = await giver.clear(what, RECEIPT)
    check.verify(clearance, what)
    clock.advance(300)
    later = wanted(deadline_us=clock.now_us + 1_000_000)
    check.verify(await giver.clear(later, RECEIPT), later)  # the first one's use is forgotten with this
    clock.advance(-299)

    with pytest.raises(ClearanceError) as caught:
        check.verify(clearance, what)
    assert caught.value.code == "clearance_expired"


def test_nothing_at_all_is_no_clearance(clock: Clock) -> None:
    with pytest.raises(ClearanceError) as caught:
        verifier(clock).verify(None, wanted())
    assert caught.value.code == "clearance_missing"


def _signed_batch(count: int) -> list[tuple[Crossing, Clearance]]:
    clock = Clock()

    async def clear_all() -> list[tuple[Crossing, Clearance]]:
        all_wanted, giver = [wanted() for _ in range(count)], authority(clock)
        return list(zip(all_wanted, await asyncio.gather(*(giver.clear(w, RECEIPT) for w in all_wanted)), strict=True))

    return asyncio.run(clear_all())


BATCH = _signed_batch(5)


@given(st.data())
def test_any_changed_byte_of_a_clearance_voids_it(data: st.DataObject) -> None:
    what, clearance = data.draw(st.sampled_from(BATCH))
    encoded = bytearray(msgspec.msgpack.encode(clearance))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises((ClearanceError, msgspec.MsgspecError, UnicodeDecodeError)):  # noqa: PT012
        changed = msgspec.msgpack.decode(encoded, type=Clearance)
        assert changed != clearance
        verifier(Clock()).verify(changed, what)


@given(st.sampled_from(BATCH), st.sampled_from(BATCH))
def test_a_proof_of_another_clearance_does_not_help(
    one: tuple[Crossing, Clearance], other: tuple[Crossing, Clearance]
) -> None:
    what, clearance = one
    mixed = msgspec.structs.replace(clearance, proof=other[1].proof)

    if one is other:
        verifier(Clock()).verify(mixed, what)
        return
    with pytest.raises(ClearanceError):
        verifier(Clock()).verify(mixed, what)


def test_the_request_is_cleared_byte_for_byte() -> None:
    """Two requests with the same parts glued elsewhere are not the same."""
    what, clearance = BATCH[0]
    request = what.request
    moved = HttpRequest(request.method, request.url, request.headers, request.body + b" ")

    with pytest.raises(ClearanceError):
        verifier(Clock()).verify(clearance, msgspec.structs.replace(what, request=moved))


def test_the_longest_life_is_120_seconds() -> None:
    assert MAX_LIFETIME_S == 120
