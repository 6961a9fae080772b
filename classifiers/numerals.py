"""Numbers that are written so that nobody takes them for one: in words, over several lines, between unusual marks; ROT13.

    one three nine one two …   ──▶  13912…
    一三九一二三四五六七八       ──▶  13912345678
    3604261991\\n01010071       ──▶  360426199101010071

Such readings are guesses. What is found in them counts only where words around say so too, or a checksum does (see
``Decoder.proof``).
"""

from __future__ import annotations

import codecs
import re

from classifiers.text import Reading, substitute

_ENGLISH = {
    "zero": "0", "oh": "0", "nought": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9",
}  # fmt: skip
_TIMES = {"double": 2, "triple": 3, "treble": 3}
_CHINESE = str.maketrans("零〇一壹幺二贰貳两三叁參四肆五伍六陆陸七柒八捌九玖", "0011122223334455666778899")

_ENGLISH_DIGIT = rf"(?:{'|'.join(_ENGLISH)})"
_CHINESE_DIGIT = "[零〇一壹幺二贰貳两三叁參四肆五伍六陆陸七柒八捌九玖]"
_MIN_DIGITS, _MAX_DIGITS = 7, 24
_MIN_IN_WORDS = 4

ENGLISH_PROBES = (
    rf"(?i){_ENGLISH_DIGIT}[ ,.\-\n][ ,.\-\n]?(?:(?:double|triple|treble)[ \-])?(?:{_ENGLISH_DIGIT}|[0-9])[ ,.\-\n]",
)
CHINESE_PROBES = (f"(?:{_CHINESE_DIGIT}[ 0-9]?){{4}}",)
BROKEN_PROBES = (
    r"[0-9][ \-]{0,2}\r?\n[ \t>]{0,8}[0-9]",
    r"[0-9][ ]?[_*|~,][ ]?[0-9][0-9]{0,3}[ ]?[_*|~,]",
    r"(?:[0-9][ .\-]){6}[0-9]",
    "[0-9][ ]?[·•‧∙/][ ]?[0-9]{1,4}[ ]?[·•‧∙/]",
)

_ENGLISH_ITEM = rf"(?:(?:double|triple|treble)[ \-]{{1,2}})?(?:{_ENGLISH_DIGIT}|\d)"
_ENGLISH_NUMBER = re.compile(
    rf"(?<![A-Za-z0-9]){_ENGLISH_ITEM}(?:[ ,.\-\n]{{1,3}}{_ENGLISH_ITEM}(?![A-Za-z]))++", re.IGNORECASE
)
_CHINESE_NUMBER = re.compile(rf"(?:{_CHINESE_DIGIT}|\d)(?:[ ,、.\-]?(?:{_CHINESE_DIGIT}|\d))++")
_ENGLISH_WORD = re.compile(r"[A-Za-z]+|\d")
# It matches every run of digits, so that none is tried twice.
_BROKEN_NUMBER = re.compile(
    r"\d(?:[ \-]?\d)*+(?:(?:[ \-]{0,2}\r?\n[ \t>]{0,8}|[ ]?[_*|~,.·•‧∙][ ]?)\d(?:[ \-]?\d)*+)*+"
)
_SINGLE_DIGITS = re.compile(r"\d(?:[^\d\n]{1,3}\d)+")
_YEARS = re.compile(r"(?:(?:19|20)\d\d\s*)+")


def read_english(parent: Reading, depth: int) -> Reading:
    """``parent`` with numbers in English words as digits."""
    return substitute(parent, _ENGLISH_NUMBER, _from_english, depth=depth, how="english digits")


def read_chinese(parent: Reading, depth: int) -> Reading:
    """``parent`` with runs of Chinese numerals as digits."""
    return substitute(parent, _CHINESE_NUMBER, _from_chinese, depth=depth, how="chinese digits")


def read_broken(parent: Reading, depth: int) -> Reading:
    """``parent`` with numbers joined that a line's end or an unusual mark breaks."""
    return substitute(parent, _BROKEN_NUMBER, _joined, depth=depth, how="joined digits")


def _from_english(run: str) -> str:
    digits, times, in_words = "", 1, 0
    for word in _ENGLISH_WORD.findall(run.lower()):
        if word in _TIMES:
            times = _TIMES[word]
            continue
        in_words += word in _ENGLISH
        digits += _ENGLISH.get(word, word) * times
        times = 1
    return digits if in_words >= _MIN_IN_WORDS and _MIN_DIGITS <= len(digits) <= _MAX_DIGITS else run


def _from_chinese(run: str) -> str:
    in_words = sum(not character.isascii() for character in run)
    digits = re.sub(r"\D", "", run.translate(_CHINESE))
    return digits if in_words >= _MIN_IN_WORDS and _MIN_DIGITS <= len(digits) <= _MAX_DIGITS else run


def _joined(run: str) -> str:
    digits = re.sub(r"\D", "", run)
    if len(digits) > _MAX_DIGITS or _YEARS.fullmatch(run):
        return run
    if "\n" in run:
        # A hyphen at a line's end says that more follows; else short numbers in a column stay what they are.
        least = 9 if re.search(r"-\s*\n", run) else 11
    elif _SINGLE_DIGITS.fullmatch(run):
        # With commas it is more often a list.
        least = 11 if "," in run else _MIN_DIGITS
    elif re.search(r"[,.]", run) or not re.search(r"[^\d \-]", run):
        return run
    else:
        least = 9
    return digits if len(digits) >= least else run


def _rotated(text: str) -> str:
    return codecs.encode(text, "rot13")


ROT13_PROBES = (
    "(?i)" + "|".join(map(_rotated, ("passw", "passport", "secret", "api.?key", "social.security", "credit.card", "card.number",
                                     "medical.record", "account.number", "private.key"))),
    "|".join(map(_rotated, ("AKIA", "AIza", "ghp_", "github_pat_", "glpat-", "xox", "sk-proj", "sk-ant", "sk_live", "BEGIN "))),
    r"(?i)(?:^|[^a-z])(?:ffa|vona|zea|avab)(?:[^a-z]|$)",
)  # fmt: skip
"""What gives ROT13 away: the words and marks around what detectors find, rotated (``ffa`` is ``ssn``)."""


def read_rot13(parent: Reading, depth: int) -> Reading:
    """``parent``, rotated by thirteen letters."""
    return Reading(_rotated(parent.text), parent=parent, depth=depth, how="rot13")
