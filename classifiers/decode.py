r"""Forms in which values travel unseen: structure, escapes, URL encoding, HTML entities, base64, hex, numbers in words.

    reading ──(probe matched)──▶ Decoder.decode ──▶ reading, one level deeper (at most ``MAX_DEPTH``)

Findings in a decoded reading point at the encoded characters, or at the whole token where there is no finer map.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping

import msgspec

from classifiers import fields, numerals, structure, tables, tokens
from classifiers.text import Reading, substitute

MAX_DEPTH = 4

_ESCAPE = re.compile(r'\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|["\\/bfnrt])')
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});")


class Decoder(msgspec.Struct, frozen=True):
    """One encoding.

    Attributes:
        name: for explanations.
        probes: Hyperscan expressions without which there is nothing to decode.
        decode: the decoded reading at the given depth, or None where nothing decodes. Must take linear time. Raises
            ``tokens.UndecodedError`` where something stays closed.
        skips: what made a reading (``how``) from which this decoder would only say the same again.
        closed: whether what it would decode is unreadable as it stands, so that beyond ``MAX_DEPTH`` it is undecoded.
        proof: more than 0 where a reading is a guess: nothing decodes it further, and a match counts in it only with context
            words, as a credential, or as a valid value with this score by itself.
    """

    name: str
    probes: tuple[str, ...]
    decode: Callable[[Reading, int], Reading | None]
    skips: frozenset[str] = frozenset()
    closed: bool = False
    proof: float = 0.0


def _unescape(escape: str) -> str:
    return chr(int(escape[2:], 16)) if escape[1] == "x" else structure.unescape(escape)


def _percent(run: str) -> str:
    return bytes.fromhex(run.replace("%", "")).decode(errors="replace")


def _substituting(
    pattern: re.Pattern[str], decode: Callable[[str], str], how: str
) -> Callable[[Reading, int], Reading]:
    return lambda parent, depth: substitute(parent, pattern, decode, depth=depth, how=how)


_LINES = frozenset({"json", "table", "fields", "markup"})

DECODERS: tuple[Decoder, ...] = (
    Decoder("json", structure.PROBES, structure.read_json),
    Decoder("table", tables.PROBES, tables.read_tables, skips=_LINES - {"json"}),
    Decoder("fields", fields.LINE_PROBES, fields.read_lines, skips=_LINES),
    Decoder("markup", fields.MARKUP_PROBES, fields.read_markup, skips=_LINES - {"json", "table"}),
    Decoder(
        "escapes", (r'\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\["/nrt]',), _substituting(_ESCAPE, _unescape, "escapes")
    ),
    Decoder("percent", (r"%[0-9A-Fa-f]{2}",), _substituting(_PERCENT, _percent, "percent")),
    Decoder("entities", (r"&#[0-9xX]|&[A-Za-z]{2,8};",), _substituting(_ENTITY, html.unescape, "entities")),
    Decoder("base64", tokens.BASE64_PROBES, tokens.read_base64, closed=True),
    Decoder("hex", tokens.HEX_PROBES, tokens.read_hex, closed=True),
    Decoder("opaque", tokens.OPAQUE_PROBES, tokens.require_readable, closed=True),
    Decoder("english digits", numerals.ENGLISH_PROBES, numerals.read_english, proof=0.8),
    Decoder("chinese digits", numerals.CHINESE_PROBES, numerals.read_chinese, proof=0.8),
    Decoder("joined digits", numerals.BROKEN_PROBES, numerals.read_broken, proof=0.9),
    Decoder("rot13", numerals.ROT13_PROBES, numerals.read_rot13, proof=0.5),
)

PROOFS: Mapping[str, float] = {decoder.name: decoder.proof for decoder in DECODERS if decoder.proof}
"""What made a reading that is a guess → its decoder's ``proof``."""
