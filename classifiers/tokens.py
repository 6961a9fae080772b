"""Encoded tokens: base64 and hexadecimal, compressed or not; and those that nobody here can read.

token ──base64 · hex──▶ bytes ──gzip · zlib, bounded──▶ text, one level deeper
                          └──▶ not text, long, and as even as cipher text: ``UndecodedError``
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable

from classifiers.text import Reading, ReadingBuilder

BASE64_PROBES = (r"[A-Za-z0-9+/_-]{20}",)
HEX_PROBES = (r"[0-9A-Fa-f]{18}", r"(?:[0-9A-Fa-f]{2}[ :,]){8}[0-9A-Fa-f]{2}")
OPAQUE_PROBES = (r"[A-Za-z0-9+/_-]{200}", r"(?:[A-Za-z0-9+/]{60,76}\r?\n){2}[A-Za-z0-9+/]{48}")

MAX_INFLATED_BYTES = 1 << 20
MAX_INFLATION = 100
"""How much a compressed token may grow, in bytes and as a ratio."""

_MIN_PRINTABLE = 0.9
_MIN_OPAQUE_CHARACTERS = 200
# A random text of 200 characters has about 5.77 bits a character in base64 and 3.95 in hex; prose, paths and identifiers in
# those alphabets stay under 5, decimal digits under 3.33.
_MIN_BASE64_BITS, _MIN_HEX_BITS = 5.3, 3.7

_WRAPPED = r"(?:[A-Za-z0-9+/]{60,76}\r?\n)+[A-Za-z0-9+/]{1,76}={0,2}"
_BASE64 = re.compile(rf"{_WRAPPED}|[A-Za-z0-9+/_-]{{20,}}={{0,2}}")
_HEX = re.compile(
    r"(?<![0-9A-Za-z])(?:0x)?(?P<v>[0-9A-Fa-f]{18,}|[0-9A-Fa-f]{2}(?:[ :,][0-9A-Fa-f]{2}){8,})(?![0-9A-Za-z])"
)
_OPAQUE = re.compile(rf"(?<![A-Za-z0-9+/_-])(?:{_WRAPPED}|[A-Za-z0-9+/_-]{{{_MIN_OPAQUE_CHARACTERS},}}={{0,2}})")
_HEX_ONLY = re.compile(r"(?:0x)?[0-9A-Fa-f]+")
_COMPRESSED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")
_DIGESTS = re.compile(r"(?:[0-9A-Fa-f]{64}\r?\n)+[0-9A-Fa-f]{64}")
# What long tokens are part of in the open: pictures in data URLs, certificates and keys (which have detectors of their own),
# public keys of SSH, signatures of signed tokens.
_KNOWN_BEFORE = re.compile(
    r"(?:data:[\w.+/\-]{0,80}(?:;[\w=.\-]{1,40}){0,4},|-----BEGIN [A-Z0-9 ]{3,40}-----\s{1,2}"
    r"|(?:ssh|ecdsa|sk)-[\w@.\-]{3,48} |eyJ[\w\-]{8,2000}\.[\w\-]{0,8000}\.)$"
)
_LOOK_BACK_CHARACTERS = 10_100


class UndecodedError(Exception):
    """Something encoded stays unread: silence about it means nothing."""


def read_base64(parent: Reading, depth: int) -> Reading | None:
    """The text in base64 tokens (RFC 4648, both alphabets, wrapped lines), or None. Raises UndecodedError for a compression bomb."""
    return _read(parent, _BASE64, _from_base64, depth, "base64")


def read_hex(parent: Reading, depth: int) -> Reading | None:
    """The text in hexadecimal tokens, or None. Raises UndecodedError for a compression bomb."""
    return _read(parent, _HEX, _from_hex, depth, "hex")


def require_readable(parent: Reading, depth: int) -> None:
    """Raises UndecodedError where ``parent`` has a token of 200 characters or more that looks enciphered."""
    for found in _OPAQUE.finditer(parent.text):
        token = found[0]
        if (
            len(token) >= _MIN_OPAQUE_CHARACTERS
            and not _DIGESTS.fullmatch(token)
            and _is_even(token)
            and _text_of(_bytes_of(token)) is None
            and not _KNOWN_BEFORE.search(parent.text, max(0, found.start() - _LOOK_BACK_CHARACTERS), found.start())
        ):
            raise UndecodedError


def _bytes_of(token: str) -> bytes | None:
    return _from_hex(token) if _HEX_ONLY.fullmatch(token) else _from_base64(token)


def _is_even(token: str) -> bool:
    """Whether characters are spread as evenly as in cipher text."""
    body = re.sub(r"[\r\n=]", "", token)
    bits = -sum(count / len(body) * math.log2(count / len(body)) for count in Counter(body).values())
    return bits >= (_MIN_HEX_BITS if _HEX_ONLY.fullmatch(body) else _MIN_BASE64_BITS)


def _read(
    parent: Reading, pattern: re.Pattern[str], decode: Callable[[str], bytes | None], depth: int, how: str
) -> Reading | None:
    builder = ReadingBuilder()
    empty = True
    for found in pattern.finditer(parent.text):
        text = _text_of(decode(found[0]))
        if text:
            builder.decoded(text + "\n", *found.span())
            empty = False
    return None if empty else builder.reading(parent=parent, depth=depth, how=how)


def _from_base64(token: str) -> bytes | None:
    body = re.sub(r"[\r\n=]", "", token).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(body[: len(body) - (len(body) % 4 == 1)] + "=" * (-len(body) % 4 % 3))
    except binascii.Error:
        return None


def _from_hex(token: str) -> bytes | None:
    digits = re.sub(r"[ :,]", "", token.removeprefix("0x"))
    return bytes.fromhex(digits) if len(digits) % 2 == 0 else None


def _text_of(data: bytes | None) -> str | None:
    """What ``data`` says in UTF-8, inflated where it is compressed; None unless that is text."""
    if data is None:
        return None
    try:
        text = (_inflated(data) if _COMPRESSED.match(data) else data).decode()
    except (zlib.error, UnicodeDecodeError):
        return None
    printable = sum(map(str.isprintable, text)) + text.count("\n") + text.count("\t") + text.count("\r")
    return text if printable >= _MIN_PRINTABLE * len(text) else None


def _inflated(data: bytes) -> bytes:
    """``data`` without its gzip or zlib form (RFC 1950, 1952). Raises UndecodedError beyond the bounds, ``zlib.error`` for rubbish."""
    inflater = zlib.decompressobj(wbits=47)
    limit = min(MAX_INFLATED_BYTES, MAX_INFLATION * len(data))
    inflated = inflater.decompress(data, limit)
    if inflater.unconsumed_tail or (len(inflated) == limit and not inflater.eof):
        raise UndecodedError
    return inflated
