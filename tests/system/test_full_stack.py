"""Both availability zones: whatever one process is lost, every request is answered, and where it must be."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from deploy import topology
from tests.laws.checks import SSN
from tests.system.conftest import Stack, kill, started, wait_for, watershed

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

STAYS = "canary-stays-5e20c4"
GENERAL = "Name three rivers in Europe."
SENSITIVE = f"My SSN is {SSN}: {STAYS}"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with started(tmp_path_factory.mktemp("full"), topology.full()) as stack:
        yield stack


def answered(stack: Stack, text: str, *, retries: int = 1) -> str:
    """Where a question was answered, with the one retry that an SDK is allowed."""
    raw = stack.sdk(max_retries=retries).chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": text}]
    )
    return raw.headers["x-watershed-target"].partition("/")[0]


@pytest.mark.parametrize("lost", ["gateway-a", "node-a", "worker-a", "kafka-a", "mariadb-a"])
def test_the_peer_takes_over(full: Stack, lost: str) -> None:
    full.cloud.clear()
    kill(full, lost)
    for _ in range(3):
        assert answered(full, SENSITIVE) == "onprem"
        assert answered(full, GENERAL) in {"cloud", "onprem"}
    wait_for(lambda: answered(full, GENERAL) == "cloud", "the cloud zone answers again, with its peer alone")
    assert not full.cloud.saw(STAYS)
    up = full.up()
    assert up.returncode == 0, up.stderr
    assert {row.state for row in full.supervisor.status()} == {"healthy"}


def test_afterwards_the_audit_of_every_process_verifies(full: Stack) -> None:
    verified = full.operate("audit", "verify")
    assert verified.returncode == 0, verified.stdout
    for name in ("gateway-a", "gateway-b", "clearance"):
        assert name in verified.stdout


def test_a_revoked_gateway_is_shut_out_and_its_peer_goes_on(full: Stack) -> None:
    def steady() -> bool:
        try:
            return all(answered(full, SENSITIVE, retries=0) == "onprem" for _ in range(8))
        except openai.APIError:
            return False

    def certs(action: str) -> int:
        return watershed("certs", action, "gateway-a", WATERSHED_STATE_DIR=str(full.state_dir)).returncode

    assert certs("revoke") == 0
    wait_for(steady, "the entrance sends nobody to the revoked gateway")
    (row,) = (row for row in full.supervisor.status() if row.name == "gateway-a")
    assert row.pid is not None, "it still runs, for nobody"
    assert certs("rotate") == 0
    kill(full, "gateway-b")
    wait_for(steady, "the gateway is let in again")
