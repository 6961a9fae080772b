from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.register import RegisterEntry, enter, read_register
from runtime.errors import AuditError
from tests.audit.conftest import Bench


def enter_log(
    bench: Bench, instance: str, key: Ed25519PrivateKey | None = None
) -> tuple[RegisterEntry, RegisterEntry | None]:
    bench.root.mkdir(exist_ok=True)
    public = (key or bench.key).public_key()
    return enter(bench.root, key=public, register_key=bench.register_key, instance=instance, opened_us=1)


def test_each_entry_signs_the_one_before(bench: Bench) -> None:
    first, second = enter_log(bench, "gw-a")[0], enter_log(bench, "gw-b")[0]
    assert read_register(bench.root / "register.jsonl") == [first, second]
    assert (first.number, first.previous) == (0, "0" * 64)
    assert (second.number, second.previous) == (1, first.digest())
    assert second.is_signed_by(bench.register_key.public_key())
    assert not second.is_signed_by(bench.key.public_key())


def test_an_instance_with_the_same_key_is_entered_once(bench: Bench) -> None:
    first = enter_log(bench, "gw-a")
    assert enter_log(bench, "gw-a") == first
    renewed, predecessor = enter_log(bench, "gw-a", Ed25519PrivateKey.generate())
    assert renewed.log_id != first[0].log_id
    assert predecessor == first[0]


def test_a_half_written_entry_is_replaced(bench: Bench) -> None:
    first = enter_log(bench, "gw-a")[0]
    with (bench.root / "register.jsonl").open("ab") as file:
        file.write(b'{"suite":"intl","num')
    second = enter_log(bench, "gw-b")[0]
    assert read_register(bench.root / "register.jsonl") == [first, second]


def test_nothing_is_added_to_a_broken_chain(bench: Bench) -> None:
    enter_log(bench, "gw-a")
    enter_log(bench, "gw-b")
    path = bench.root / "register.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[1])
    with pytest.raises(AuditError, match="chain is broken"):
        enter_log(bench, "gw-c")
