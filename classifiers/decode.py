r"""Encodings under which values travel unseen: JSON escapes, URL encoding, HTML entities, base64.

    reading ──(probe matched)──▶ Decoder.decode ──▶ reading, one level deeper (at most ``MAX_DEPTH``)

Findings in a decoded reading point at the encoded characters, or at the whole token where there is no finer map.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Callable

import msgspec

from classifiers import structure
from classifiers.text import Reading, ReadingBuilder, substitute

MAX_DEPTH = 2

_ESCAPE = re.compile(r'\\(?:u[0-9A-Fa-f]{4}|["\\/bfnrt])')
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{20,}+={0,2}")
_MIN_PRINTABLE = 0.9


class Decoder(msgspec.Struct, frozen=True):
    """One encoding.

    Attributes:
        name: for explanations.
        probes: Hyperscan expressions without which there is nothing to decode.
        decode: the decoded reading at the given depth, or None where nothing decodes. Must take linear time.
    """

    name: str
    probes: tuple[str, ...]
    decode: Callable[[Reading, int], Reading | None]


def _percent(run: str) -> str:
    return bytes.fromhex(run.replace("%", "")).decode(errors="replace")


def _substituting(
    pattern: re.Pattern[str], decode: Callable[[str], str], how: str
) -> Callable[[Reading, int], Reading]:
    return lambda parent, depth: substitute(parent, pattern, decode, depth=depth, how=how)


def _base64_text(token: str) -> str | None:
    """What ``token`` says in base64, or None unless that is text."""
    body = token.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        text = base64.b64decode(body[: len(body) - (len(body) % 4 == 1)] + "=" * (-len(body) % 4 % 3)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    printable = sum(map(str.isprintable, text)) + text.count("\n") + text.count("\t") + text.count("\r")
    return text if printable >= _MIN_PRINTABLE * len(text) else None


def _read_base64(parent: Reading, depth: int) -> Reading | None:
    builder = ReadingBuilder()
    empty = True
    for found in _BASE64.finditer(parent.text):
        text = _base64_text(found[0])
        if text:
            builder.decoded(text + "\n", *found.span())
            empty = False
    return None if empty else builder.reading(parent=parent, depth=depth, how="base64")


DECODERS: tuple[Decoder, ...] = (
    Decoder("json", structure.PROBES, structure.read_json),
    Decoder("escapes", (r'\\u[0-9A-Fa-f]{4}|\\["/nrt]',), _substituting(_ESCAPE, structure.unescape, "escapes")),
    Decoder("percent", (r"%[0-9A-Fa-f]{2}",), _substituting(_PERCENT, _percent, "percent")),
    Decoder("entities", (r"&#[0-9xX]|&[A-Za-z]{2,8};",), _substituting(_ENTITY, html.unescape, "entities")),
    Decoder("base64", (r"[A-Za-z0-9+/_-]{20}",), _read_base64),
)
