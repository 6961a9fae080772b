"""Ports and places are chosen once and remembered."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from deploy import topology
from deploy.native import state
from deploy.site import listeners
from runtime.errors import ConfigurationError


def test_every_listener_gets_a_port_of_its_own_that_is_free() -> None:
    ports = state.allocate(topology.full(), {})
    assert ports.keys() == listeners(topology.full()).keys()
    assert len(set(ports.values())) == len(ports)
    assert all(state.is_free(port) for port in ports.values())


def test_ports_are_remembered(tmp_path: Path) -> None:
    created = state.create(tmp_path, topology.small())
    loaded = state.load(tmp_path)
    assert loaded == created
    again = state.create(tmp_path, topology.small(), loaded)
    assert again.ports == created.ports


def test_a_remembered_port_that_another_program_has_taken_is_chosen_anew() -> None:
    before = state.allocate(topology.small(), {})
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # an earlier stack may have used it just now
        other.bind(("127.0.0.1", before["kafka-a/client"]))
        other.listen()
        after = state.allocate(topology.small(), before)
    assert after["kafka-a/client"] != before["kafka-a/client"]
    assert {k: v for k, v in after.items() if k != "kafka-a/client"} == {
        k: v for k, v in before.items() if k != "kafka-a/client"
    }


def test_no_stack_is_none_and_a_damaged_record_is_an_error(tmp_path: Path) -> None:
    assert state.load(tmp_path) is None
    state.create(tmp_path, topology.small())
    (state.root_of(tmp_path) / "site.json").write_text("{")
    with pytest.raises(ConfigurationError, match="damaged"):
        state.load(tmp_path)
