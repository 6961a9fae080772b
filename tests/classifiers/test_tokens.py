"""Encoded tokens: what they say is read; what nobody can read is not passed over in silence."""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import random
import zlib

import pytest

from classifiers import Sensitivity, Unscanned
from classifiers.cascade import Classifier

SSN = "my SSN is 536-90-4399, thanks"
CN = "我的身份证号是360426199101010071"
CHANCE = random.Random(12)
NOISE = CHANCE.randbytes(400)
UNDECODED = (Unscanned("", "undecoded"),)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def times(count: int, text: str) -> str:
    for _ in range(count):
        text = b64(text.encode())
    return text


@pytest.mark.parametrize(
    "token",
    [
        SSN.encode().hex(),
        SSN.encode().hex().upper(),
        "0x" + SSN.encode().hex(),
        SSN.encode().hex(" "),
        SSN.encode().hex(":"),
        "".join(f"\\x{ord(character):02x}" for character in SSN),
        b64(gzip.compress(SSN.encode())),
        b64(zlib.compress(SSN.encode())),
        gzip.compress(SSN.encode()).hex(),
        times(4, SSN),
        binascii.hexlify(b64(SSN.encode()).encode()).decode(),
    ],
    ids=["hex", "HEX", "0x", "spaced", "colons", "\\x", "gzip", "zlib", "gzip-in-hex", "base64-four-times", "mixed"],
)
def test_encoded_number_is_found_inside_its_token(token: str, classifier: Classifier) -> None:
    text = f"decode this: {token} please"
    label = classifier.classify_text(text)
    found = [f for f in label.findings if f.entity_type == "US_SSN"]
    assert found
    assert all(text.index(token) <= f.start < f.end <= text.index(token) + len(token) for f in found)
    assert label.unscanned == ()


def test_wrapped_base64_is_read_as_one(classifier: Classifier) -> None:
    text = base64.encodebytes(("x" * 50 + CN + " " * 60).encode()).decode()
    assert {f.entity_type for f in classifier.classify_text(text).findings} == {"CN_RESIDENT_ID"}


def test_what_is_encoded_more_than_four_times_is_undecoded(classifier: Classifier) -> None:
    label = classifier.classify_text(times(5, SSN))
    assert label.unscanned == UNDECODED
    assert label.sensitivity is Sensitivity.RESTRICTED


@pytest.mark.parametrize("size", [200_000, 3_000_000], ids=["ratio", "size"])
def test_compression_bomb_is_undecoded(size: int, classifier: Classifier) -> None:
    assert classifier.classify_text(b64(gzip.compress(b"0" * size))).unscanned == UNDECODED


@pytest.mark.parametrize(
    "token",
    [
        b64(NOISE),
        base64.urlsafe_b64encode(NOISE).decode(),
        NOISE.hex(),
        base64.encodebytes(NOISE).decode(),
        b64(gzip.compress(NOISE)),
    ],
    ids=["base64", "base64url", "hex", "wrapped", "gzip"],
)
def test_long_cipher_text_is_undecoded(token: str, classifier: Classifier) -> None:
    label = classifier.classify_text(f"say what this is: {token}")
    assert label.unscanned == UNDECODED
    assert label.sensitivity is Sensitivity.RESTRICTED


@pytest.mark.parametrize(
    "text",
    [
        "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
        hashlib.sha512(b"a").hexdigest(),
        "\n".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(30)),
        "550e8400-e29b-41d4-a716-446655440000," * 20,
        'integrity="sha512-' + b64(hashlib.sha512(b"b").digest()) + '"',
        "![logo](data:image/png;base64," + b64(NOISE) + ")",
        "-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(NOISE).decode() + "-----END CERTIFICATE-----",
        "ssh-rsa " + b64(NOISE) + " me@host",
        "3." + "".join(CHANCE.choice("0123456789") for _ in range(1000)),
        "".join(CHANCE.choice("ACGT") for _ in range(1000)),
        "src/" + "/".join(["internationalisation", "Components", "shared", "index2"] * 12),
        "https://acme.io/" + "-".join(["a", "very", "long", "Title", "of", "2024"] * 12),
        "MVLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHFDLSHGSAQVKGHGKKVADALTNAVAHVDDMPNALSALSDLHAHKLRVDPVNFKLL" * 3,
        "!function(e,t){for(var n=0;n<9;n++)a[n]=t(e,n)}" * 20,
        "a" * 5000,
        "camelCaseIdentifiers" * 20,
    ],
)
def test_long_but_readable_or_known_is_no_alarm(text: str, classifier: Classifier) -> None:
    assert classifier.classify_text(text).unscanned == ()
