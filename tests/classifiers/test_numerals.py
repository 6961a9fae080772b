"""Numbers in words, over lines and between unusual marks; look-alike letters; ROT13."""

from __future__ import annotations

import codecs

import pytest

from classifiers import Sensitivity
from classifiers.cascade import Classifier
from classifiers.confusables import LOOK_ALIKES
from classifiers.numerals import read_broken, read_chinese, read_english
from classifiers.text import Reading

CN_ID = "360426199101010071"
ENGLISH = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
CHINESE = "零一二三四五六七八九"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def in_english(digits: str, between: str = " ") -> str:
    return between.join(ENGLISH[int(digit)] for digit in digits)


def in_chinese(digits: str) -> str:
    return "".join(CHINESE[int(digit)] for digit in digits)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("one two three four five six seven", "1234567"),
        ("Four-one-one-one double five triple nine", "411155999"),
        ("five, 3, six, 9 oh four three", "5369043"),
        ("one two three four five six", "one two three four five six"),
        ("one of two or three in four", "one of two or three in four"),
        ("one two 3 4 5 6 7 8", "one two 3 4 5 6 7 8"),
    ],
)
def test_digits_in_english_words(written: str, read: str) -> None:
    assert read_english(Reading(written), 1).text == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("一三九一二三四五六七八", "13912345678"),
        ("幺三九 壹贰叁肆", "1391234"),
        ("二〇二四年", "二〇二四年"),
        ("1三9一2三4五", "13912345"),
        ("一二三", "一二三"),
    ],
)
def test_digits_in_chinese_numerals(written: str, read: str) -> None:
    assert read_chinese(Reading(written), 1).text == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("360426\n19910101\n0071", CN_ID),
        ("536-90-\n4399", "536904399"),
        ("5_3_6_9_0_4_3_9_9", "536904399"),
        ("139·1234·5678", "13912345678"),
        ("1,3,9,1,2,3,4,5,6,7,8", "13912345678"),
        ("5 3 6 9 0 4 3 9 9", "536904399"),
        ("5.3.6.9.0.4.3.9.9", "536904399"),
        ("12 34 56 78 90", "12 34 56 78 90"),
        ("10.15.7.1", "10.15.7.1"),
        ("1,234,567,890", "1,234,567,890"),
        ("2019\n2020\n2021", "2019\n2020\n2021"),
        ("12\n34", "12\n34"),
        ("1234567890\n" * 4, "1234567890\n" * 4),
        ("1. one\n2. two", "1. one\n2. two"),
    ],
)
def test_broken_numbers_are_joined(written: str, read: str) -> None:
    assert read_broken(Reading(written), 1).text == read


@pytest.mark.parametrize(
    ("text", "value", "entity_type"),
    [
        (f"my card number is {in_english('4111111111111111')}", in_english("4111111111111111"), "BANK_CARD"),
        (in_english("4111111111111111", "-"), in_english("4111111111111111", "-"), "BANK_CARD"),
        (f"call me: {in_english('4155552671', ', ')}!", in_english("4155552671", ", "), "PHONE"),
        (f"SSN {in_english('536904399')}", in_english("536904399"), "US_SSN"),
        (f"身份证{in_chinese(CN_ID)}。", in_chinese(CN_ID), "CN_RESIDENT_ID"),
        (in_chinese(CN_ID), in_chinese(CN_ID), "CN_RESIDENT_ID"),
        ("手机幺三九一二三四五六七八", "幺三九一二三四五六七八", "CN_MOBILE"),
        ("号码 360426\n19910101\n0071 就是", "360426\n19910101\n0071", "CN_RESIDENT_ID"),
        ("手机: 139\n1234\n5678", "139\n1234\n5678", "CN_MOBILE"),
        ("SSN 536-90-\n4399", "536-90-\n4399", "US_SSN"),
        ("ssn: 5 3 6 9 0 4 3 9 9", "5 3 6 9 0 4 3 9 9", "US_SSN"),
        ("SSN 5_3_6_9_0_4_3_9_9", "5_3_6_9_0_4_3_9_9", "US_SSN"),
    ],
)
def test_respelt_number_is_found_with_exact_bounds(
    text: str, value: str, entity_type: str, classifier: Classifier
) -> None:
    found = [f for f in classifier.classify_text(text).findings if f.entity_type == entity_type]
    assert [text[f.start : f.end] for f in found] == [value]


@pytest.mark.parametrize(
    "text",
    [
        "count with me: one two three four five six seven eight nine ten",
        "一二三四五六七八九十",
        "一九九一年一月一日",
        "4821\n5930\n1934\n6637",
        "Report card by year:\n2019\n2020\n2021\n2022",
        "139\n1234\n5678",
        "[1, 3, 9, 1, 2, 3, 4, 5, 6, 7, 8]",
        "multiply 139*1234*5678",
        "order number " + in_english("4111111111111111"),
    ],
)
def test_everyday_numbers_are_public(text: str, classifier: Classifier) -> None:
    assert classifier.classify_text(text).findings == ()


@pytest.mark.parametrize(
    ("text", "entity_type"),
    [
        ("my password is hunter2", "PASSWORD"),
        ("key " + "AKIA" + "Y34FZKBOKMUTVV7A", "AWS_ACCESS_KEY"),
        ("pay to IBAN BE31435411161155 today", "IBAN"),
    ],
)
def test_rotated_text_is_read_where_something_proves_it(text: str, entity_type: str, classifier: Classifier) -> None:
    label = classifier.classify_text(codecs.encode(text, "rot13"))
    assert entity_type in {f.entity_type for f in label.findings}
    assert label.sensitivity >= Sensitivity.CONFIDENTIAL


def test_rotated_everyday_text_is_public(classifier: Classifier) -> None:
    assert classifier.classify_text(codecs.encode("what is a password or a secret?", "rot13")).findings == ()


@pytest.mark.parametrize(
    ("text", "entity_type"),
    [
        ("my pаsswоrd is hunter2", "PASSWORD"),
        ("my РASSWΟRD is hunter2", "PASSWORD"),
        ("api_kеy = Zk3vQ8sLw2xR7bT9cN4m", "SECRET_ASSIGNMENT"),
        ("pаssport number is L898902C3", "PASSPORT"),
        ("bоb@acme.io", "EMAIL"),
    ],
)
def test_look_alike_letters_are_read_as_what_they_look_like(
    text: str, entity_type: str, classifier: Classifier
) -> None:
    assert not text.isascii()
    assert entity_type in {f.entity_type for f in classifier.classify_text(text).findings}


def test_look_alikes_are_no_ascii_and_stand_for_one_ascii_character() -> None:
    assert all(code > 127 and len(plain) == 1 and plain.isascii() for code, plain in LOOK_ALIKES.items())
    assert len(LOOK_ALIKES) > 80
