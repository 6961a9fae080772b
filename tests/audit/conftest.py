"""Logs in a temporary folder, with keys of their own and a local witness beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.event import ClearanceEvent, ClosingEvent, DecisionEvent, Span
from audit.log import WITNESS_LIMIT_S, AuditLog
from audit.report import Report
from audit.segment import frames, read_frames, read_header
from audit.verify import verify
from audit.witness import LocalWitness, Witness


def decision(number: int, *, request_id: str | None = None) -> DecisionEvent:
    return DecisionEvent(
        request_id=request_id or f"req-{number:06}",
        tenant="default",
        at_us=1_700_000_000_000_000 + number,
        endpoint="chat",
        decision_id=f"dec-{number:06}",
        policy_version="v1",
        classifier="c1",
        sensitivity="restricted",
        categories=("pii",),
        spans=(Span("/messages/0/content", "CN_RESIDENT_ID", 3, 21, 1.0, "cn_resident_id"),),
        unscanned=(),
        rules=("residents-stay",),
        route="onprem",
        recipients=("onprem",),
        edits=(),
        body_commitment="0" * 64,
        stream=False,
    )


def clearance(number: int, *, attempt: int = 1) -> ClearanceEvent:
    return ClearanceEvent(
        request_id=f"req-{number:06}",
        at_us=1_700_000_000_000_000 + number,
        clearance_id=f"clr-{number:06}",
        decision_id=f"dec-{number:06}",
        recipient="provider",
        attempt=attempt,
        target="cloud-a",
        body_digest_commitment="0" * 64,
        not_after_us=1,
        outcome="issued",
        reason="",
    )


def closing(number: int) -> ClosingEvent:
    return ClosingEvent(
        request_id=f"req-{number:06}",
        tenant="default",
        at_us=1_700_000_000_000_000 + number,
        outcome="answered",
        status=200,
        code="",
        target="node-a",
        attempts=1,
        prompt_tokens=3,
        completion_tokens=None,
        first_byte_us=7,
        duration_us=9,
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the test's own time limit ends the wait."""
    while not condition():
        await asyncio.sleep(0.005)


@dataclass
class Bench:
    """An audit root, its keys and its witness."""

    folder: Path
    key: Ed25519PrivateKey
    register_key: Ed25519PrivateKey
    witness_key: Ed25519PrivateKey

    @property
    def root(self) -> Path:
        return self.folder / "audit"

    @property
    def store(self) -> Path:
        return self.folder / "witness"

    def witness(self) -> LocalWitness:
        return LocalWitness(self.store, key=self.witness_key, register_key=self.register_key.public_key())

    def open(
        self,
        *,
        key: Ed25519PrivateKey | None = None,
        witness: Witness | None = None,
        instance: str = "gw-a",
        witness_limit_s: float = WITNESS_LIMIT_S,
    ) -> AuditLog:
        return AuditLog.open(
            self.root,
            key=key or self.key,
            register_key=self.register_key,
            witness=witness or self.witness(),
            instance=instance,
            witness_limit_s=witness_limit_s,
        )

    async def filled(self, count: int = 20) -> str:
        """A closed log of ``count`` requests, decided and closed; its id."""
        log = self.open()
        for number in range(count):
            await log.append_all([decision(number), closing(number)])
        await log.aclose()
        return log.log_id

    def verify(self, *, with_witness: bool = True) -> Report:
        return verify(
            self.root,
            register_key=self.register_key.public_key(),
            witness_key=self.witness_key.public_key(),
            witness_folder=self.store if with_witness else None,
        )

    def causes(self, *, with_witness: bool = True) -> list[tuple[str, int | None, str]]:
        """(log id, index, cause) of each fault."""
        return [(f.log_id, f.index, f.cause) for f in self.verify(with_witness=with_witness).faults]

    def warnings(self) -> list[str]:
        return [warning.cause for warning in self.verify().warnings]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate())


def payloads_of(path: Path) -> list[bytes]:
    """A segment's events."""
    return [payload for _, payload in read_frames(path, read_header(path)[0])]


def rewrite(path: Path, payloads: list[bytes]) -> None:
    """Put other events behind a segment's header, in good order."""
    header = read_header(path)[1]
    path.write_bytes(b"".join(frames([payload]) for payload in [msgspec.json.encode(header), *payloads]))
