"""Identifiers and clocks."""

from __future__ import annotations

import os
import re
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, lower case
CLIENT_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)


def new_id(prefix: str) -> str:
    """``prefix-`` and 26 characters: 48 bits of time in milliseconds, then 80 random bits (ULID), so ids sort by age."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    chars = [""] * 26
    for i in range(25, -1, -1):
        chars[i] = _ALPHABET[value & 31]
        value >>= 5
    return f"{prefix}-{''.join(chars)}"


def now_us() -> int:
    """Wall clock, microseconds since the Unix epoch."""
    return time.time_ns() // 1_000
