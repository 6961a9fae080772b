"""JSON pointers (RFC 6901): naming a place in a body, and writing new values there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REMOVED: Any = object()
"""As a new value: take the member away."""


def child(pointer: str, token: str | int) -> str:
    if isinstance(token, str) and ("~" in token or "/" in token):
        token = token.replace("~", "~0").replace("/", "~1")
    return f"{pointer}/{token}"


def tokens(pointer: str) -> list[str]:
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def edited(document: Any, edits: Mapping[str, Any]) -> Any:
    """A copy of ``document`` with the values at ``edits``' pointers replaced; what is not on their way is shared.

    Raises:
        KeyError, IndexError: a pointer names no place (but a new member of an object may be written).
    """
    copied: set[int] = set()
    root = _copy(document, copied)
    for pointer, value in edits.items():
        path = tokens(pointer)
        node = root
        for token in path[:-1]:
            key: Any = int(token) if isinstance(node, list) else token
            if id(node[key]) not in copied:
                node[key] = _copy(node[key], copied)
            node = node[key]
        last: Any = int(path[-1]) if isinstance(node, list) else path[-1]
        if value is REMOVED:
            node.pop(last, None)
        else:
            node[last] = value
    return root


def _copy(node: Any, copied: set[int]) -> Any:
    copy = dict(node) if isinstance(node, dict) else list(node)
    copied.add(id(copy))
    return copy
