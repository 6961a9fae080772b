"""Probes that services share."""

from __future__ import annotations

import socket

from deploy.native import driver
from deploy.site import Address


def test_a_listener_is_seen_without_being_connected_to() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert not driver.listens(port), "bound is not listening"
        listener.listen()
        listener.settimeout(0)
        assert driver.listens(port)
        assert not _was_dialled(listener)
        assert driver.accepts_tcp(Address("127.0.0.1", port))
        assert _was_dialled(listener)
    assert not driver.listens(port)
    assert not driver.accepts_tcp(Address("127.0.0.1", port))


def _was_dialled(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True
