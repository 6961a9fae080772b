"""From tokens to text that may be shown: whole characters only, and nothing of a stop text.

token ──▶ TokenText ──▶ StopFilter ──▶ text
"""

from __future__ import annotations

import codecs


def _byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in a byte-level BPE vocabulary (GPT-2's ``bytes_to_unicode``)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_alphabet()


class TokenText:
    """Decodes byte-level BPE tokens one by one; bytes of a character not yet whole are held back.

    Bytes that can begin no character come out as U+FFFD. What is still held when the answer ends is half a character
    and is left out.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: str) -> str:
        """The text that ``token``, as the vocabulary spells it, makes whole."""
        return self._decoder.decode(bytes(_BYTES[character] for character in token))


class StopFilter:
    """Passes text on up to the first stop text; holds back an end that may be the beginning of one."""

    __slots__ = ("_held", "_stop", "stopped")

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What may be shown now. After ``stopped`` it is always empty."""
        if self.stopped:
            return ""
        if not self._stop:
            return text
        pending = self._held + text
        found = [at for stop in self._stop if (at := pending.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return pending[: min(found)]
        keep = max(_overlap(pending, stop) for stop in self._stop)
        cut = len(pending) - keep
        self._held = pending[cut:]
        return pending[:cut]

    def flush(self) -> str:
        """What was held back, once no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of ``text`` with which ``stop`` begins, short of all of it."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
