"""Encodings: what they hide is read, and found where it stands encoded."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from classifiers.cascade import Classifier

SSN = "my SSN is 536-90-4399, thanks"
CN = "我的身份证号是360426199101010071"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        b64(SSN),
        base64.urlsafe_b64encode(SSN.encode()).decode().rstrip("="),
        b64(b64(SSN)),
        quote(SSN, safe=""),
        b64(quote(SSN)),
        "".join(f"&#{ord(character)};" for character in SSN),
        "".join(f"\\u{ord(character):04x}" for character in SSN),
    ],
    ids=["base64", "base64url", "base64-twice", "percent", "percent-in-base64", "entities", "escapes"],
)
def test_encoded_number_is_found_inside_its_token(token: str, classifier: Classifier) -> None:
    text = f"decode this: {token} please"
    found = [f for f in classifier.classify_text(text).findings if f.entity_type == "US_SSN"]
    assert found
    assert all(text.index(token) <= f.start < f.end <= text.index(token) + len(token) for f in found)


def test_escaped_characters_are_located_exactly(classifier: Classifier) -> None:
    text = "SSN \\u0035\\u0033\\u0036-90-4399."
    assert [(f.start, f.end) for f in classifier.classify_text(text).findings] == [(4, len(text) - 1)]


def test_chinese_text_in_base64_and_percent_encoding(classifier: Classifier) -> None:
    for token in (b64(CN), quote(CN)):
        assert {f.entity_type for f in classifier.classify_text(token).findings} == {"CN_RESIDENT_ID"}


@pytest.mark.parametrize(
    "text",
    [
        "internationalisation/localisation",
        "deadbeef" * 8,
        "QUFBQUFBQUFBQUFBQUFBQUFBQUFB",
        "100% of %2F paths &amp; more \\n",
    ],
)
def test_what_decodes_to_nothing_sensitive_stays_public(text: str, classifier: Classifier) -> None:
    assert classifier.classify_text(text).findings == ()


def test_explanation_says_how_it_was_read(classifier: Classifier) -> None:
    assert {e.reading for e in classifier.explain(b64(SSN)) if e.counted} == {"base64"}


def test_two_things_in_one_token_are_both_found(classifier: Classifier) -> None:
    label = classifier.classify_text(b64("my SSN is 536-90-4399, MRN: 00482913"))
    assert {f.entity_type for f in label.findings} == {"US_SSN", "MEDICAL_RECORD"}
    assert label.categories == {"pii", "phi"}
