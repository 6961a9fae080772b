"""Salted commitments to bodies, so that the audit can prove what was seen without holding it.

The salt of a request is derived from a secret of its day; destroying a day's secret makes that day's commitments mean
nothing (docs/threat-model.md, rule 17).
"""

from __future__ import annotations

import hashlib
import hmac
import time

from audit.event import commitment
from runtime.keys import KeyRing


class Commitments:
    """Commitments under the key ring's secret of the day (UTC)."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._day = ""
        self._secret = b""

    def over(self, request_id: str, data: bytes) -> str:
        day = time.strftime("%Y-%m-%d", time.gmtime())
        if day != self._day:
            self._secret = self._keys.secret(f"commitments-{day}")
            self._day = day
        salt = hmac.new(self._secret, request_id.encode(), hashlib.sha256).digest()
        return commitment(salt, data)
