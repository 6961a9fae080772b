"""The classifier as a whole: labels, laws, evasions, look-alikes."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers import Segment, Sensitivity, Unscanned
from classifiers.base import Detector, Entity, Match
from classifiers.cascade import Budget, Classifier
from classifiers.registry import detectors
from classifiers.scan import Scanner

CN_ID = "360426199101010071"
SENSITIVE = (
    f"身份证 {CN_ID}",
    "my SSN is 536-90-4399",
    "card 4111 1111 1111 1111",
    "mail bob@acme.io",
    "手机 13912345678",
    "INTERNAL ONLY",
    "password is hunter2",
    "MRN: 00482913",
)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def types(classifier: Classifier, text: str) -> set[str]:
    return {finding.entity_type for finding in classifier.classify_text(text).findings}


class Marker(Detector):
    """Finds the word ``marker``."""

    name = "marker"
    source = "a test"
    entities = (Entity("MARKER", "corporate", Sensitivity.INTERNAL, "a marker"),)
    prefilters = ("marker",)

    def find(self, text: str, start: int, end: int) -> Iterator[Match]:
        at = text.find("marker", start, end)
        while at >= 0:
            yield Match("MARKER", at, at + 6, 0.9, 0.9, (), "unchecked")
            at = text.find("marker", at + 6, end)


class Broken(Marker):
    name = "broken"

    def find(self, text: str, start: int, end: int) -> Iterator[Match]:
        raise RuntimeError("on purpose")


class TestLabel:
    def test_everyday_text_is_public_and_all_detectors_were_gated_out(self, classifier: Classifier) -> None:
        label = classifier.classify_text("Write a poem about a lighthouse. 写一首关于灯塔的诗。")
        assert label.sensitivity is Sensitivity.PUBLIC
        assert label.findings == ()
        assert label.unscanned == ()
        assert label.ran == frozenset()
        assert label.gated == {detector.name for detector in detectors()}
        assert label.classifier == classifier.version

    def test_highest_finding_decides_and_categories_add_up(self, classifier: Classifier) -> None:
        label = classifier.classify(
            [Segment("/messages/0/content", "mail bob@acme.io"), Segment("/messages/1/content", "MRN: 00482913")]
        )
        assert label.sensitivity is Sensitivity.RESTRICTED
        assert label.categories == {"pii", "phi"}
        assert [(f.pointer, f.entity_type) for f in label.findings] == [
            ("/messages/0/content", "EMAIL"),
            ("/messages/1/content", "MEDICAL_RECORD"),
        ]

    def test_finding_under_its_threshold_does_not_count(self, classifier: Classifier) -> None:
        assert any(not e.counted for e in classifier.explain("reference 234123412346"))
        assert classifier.classify_text("reference 234123412346").sensitivity is Sensitivity.PUBLIC

    def test_unscannable_segment_is_restricted_and_its_text_is_scanned_all_the_same(
        self, classifier: Classifier
    ) -> None:
        label = classifier.classify([Segment("/messages/0/content/1", "bob@acme.io", unscannable="image")])
        assert label.unscanned == (Unscanned("/messages/0/content/1", "image"),)
        assert label.sensitivity is Sensitivity.RESTRICTED
        assert [f.entity_type for f in label.findings] == ["EMAIL"]

    def test_inner_finding_gives_way_to_the_outer_one(self, classifier: Classifier) -> None:
        assert types(classifier, "postgresql://app:s3cr3tPw9@db.acme.io/orders") == {"CONNECTION_STRING"}

    def test_inner_finding_gives_way_in_every_reading(self, classifier: Classifier) -> None:
        text = "Why does postgresql://app:Vt7mQz4wKx2p@db.internal:5432/orders refuse me?"
        assert {e.reading for e in classifier.explain(text) if e.entity_type == "EMAIL"} == {"", "fields"}
        assert types(classifier, text) == {"CONNECTION_STRING"}

    def test_explanation_names_source_context_and_validation(self, classifier: Classifier) -> None:
        [found] = [e for e in classifier.explain(f"身份证:{CN_ID}") if e.counted]
        assert found.detector == "cn_resident_id"
        assert found.source.startswith("GB 11643")
        assert found.context == ("身份证",)
        assert found.validation == "valid"
        assert found.raw_score < found.score

    def test_field_name_of_a_lone_value_is_context(self, classifier: Classifier) -> None:
        label = classifier.classify([Segment("/metadata/customer_ssn", "536904399", kind="metadata")])
        assert [(f.entity_type, f.start, f.end) for f in label.findings] == [("US_SSN", 0, 9)]
        assert classifier.classify_text("536904399").findings == ()


class TestVersion:
    def test_same_detectors_same_version(self, classifier: Classifier) -> None:
        assert classifier.version == Classifier().version
        assert classifier.version.startswith("sha256:")
        assert len(classifier.version) == len("sha256:") + 16

    def test_another_threshold_another_version(self) -> None:
        class Stricter(Marker):
            entities = (Entity("MARKER", "corporate", Sensitivity.INTERNAL, "a marker", threshold=0.1),)

        assert Classifier(detectors=[Marker()]).version != Classifier(detectors=[Stricter()]).version


class TestFailsClosed:
    def test_detector_that_raises_makes_the_label_restricted(self) -> None:
        label = Classifier(detectors=[Broken(), Marker()]).classify([Segment("/a", "a marker"), Segment("/b", "none")])
        assert label.unscanned == (Unscanned("/a", "detector_failed"),)
        assert label.sensitivity is Sensitivity.RESTRICTED
        assert [f.entity_type for f in label.findings] == ["MARKER"]
        assert label.ran == {"broken", "marker"}

    def test_scan_that_fails_makes_the_label_restricted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(scanner: Scanner, text: str) -> dict[int, list[tuple[int, int]]]:
            raise RuntimeError("on purpose")

        monkeypatch.setattr(Scanner, "scan", broken)
        label = Classifier(detectors=[Marker()]).classify_text("plain")
        assert label.unscanned == (Unscanned("", "detector_failed"),)
        assert label.sensitivity is Sensitivity.RESTRICTED

    def test_work_over_the_budget_makes_the_label_restricted(self) -> None:
        clock = itertools.count(step=60_000_000)
        classifier = Classifier(detectors=[Marker()], budget=Budget(100.0, 0.0), cpu_clock=lambda: next(clock))
        label = classifier.classify([Segment("/a", "plain"), Segment("/b", "marker")])
        assert label.unscanned == (Unscanned("/b", "over_budget"),)
        assert label.sensitivity is Sensitivity.RESTRICTED

    def test_budget_grows_with_the_text(self) -> None:
        assert Budget().allowance_ns(0) == 100_000_000
        assert Budget().allowance_ns(2048) == 120_000_000

    def test_budget_holds_inside_one_detector(self) -> None:
        clock = itertools.count(step=10_000_000)
        classifier = Classifier(detectors=[Marker()], budget=Budget(100.0, 0.0), cpu_clock=lambda: next(clock))
        label = classifier.classify_text("marker " * 100_000)
        assert label.unscanned == (Unscanned("", "over_budget"),)
        assert 0 < len(label.findings) < 100_000


class TestStrides:
    def test_long_windows_lose_and_double_nothing(self) -> None:
        label = Classifier(detectors=[Marker()]).classify_text("marker " * 10_000)
        assert [f.start for f in label.findings] == list(range(0, 70_000, 7))

    def test_labelled_values_across_strides(self, classifier: Classifier) -> None:
        text = "account number 000123456789; " * 3000
        found = [f for f in classifier.classify_text(text).findings if f.entity_type == "BANK_ACCOUNT"]
        assert len(found) == 3000


class TestLaws:
    @given(st.text(alphabet=st.characters(), max_size=300))
    @settings(max_examples=150, deadline=None)
    def test_no_text_raises_and_findings_point_into_it(self, classifier: Classifier, text: str) -> None:
        for finding in classifier.classify_text(text).findings:
            assert 0 <= finding.start < finding.end <= len(text)

    @given(st.text(alphabet='0123456789 -.@:=/\\"{}[]%&#;aAxXzZ_身份证密码\u200b１\ud800', max_size=200))
    @settings(max_examples=250, deadline=None)
    def test_no_text_of_telling_characters_raises(self, classifier: Classifier, text: str) -> None:
        label = classifier.classify_text(text)
        assert label.unscanned == ()
        assert all(0 <= f.start < f.end <= len(text) for f in label.findings)

    @given(
        st.sampled_from(SENSITIVE),
        st.text(alphabet=st.characters(codec="utf-8"), max_size=80),
        st.text(alphabet=st.characters(codec="utf-8"), max_size=80),
    )
    @settings(max_examples=150, deadline=None)
    def test_text_around_never_lowers_a_label(self, classifier: Classifier, core: str, before: str, after: str) -> None:
        alone = classifier.classify_text(core).sensitivity
        assert classifier.classify_text(f"{before}\n\n{core}\n\n{after}").sensitivity >= alone

    def test_threads_agree(self, classifier: Classifier) -> None:
        texts = [text for text in SENSITIVE for _ in range(25)]
        expected = [classifier.classify_text(text) for text in texts]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(classifier.classify_text, texts, timeout=60)) == expected


class TestEvasion:
    @pytest.mark.parametrize(
        "spelt",
        [
            "３６０４２６１９９１０１０１００７１",
            "\u200b".join(CN_ID),
            "\u00ad".join(CN_ID),
            "\u0332".join(CN_ID),
            " ".join(CN_ID),
            ".".join(CN_ID),
            "-".join(CN_ID),
            "360426–19910101–0071",
            "360426\u200919910101\u20090071",
        ],
    )
    def test_spelt_otherwise_it_is_found_with_exact_bounds(self, classifier: Classifier, spelt: str) -> None:
        text = f"号码 {spelt} 就是"
        found = [f for f in classifier.classify_text(text).findings if f.entity_type == "CN_RESIDENT_ID"]
        assert [text[f.start : f.end] for f in found] == [spelt]


class TestJson:
    @pytest.mark.parametrize(
        ("arguments", "entity_type"),
        [
            ({"身份证号": CN_ID}, "CN_RESIDENT_ID"),
            ({"ssn": 78051120}, "US_SSN"),
            ({"customer": {"customerSSN": "536904399"}}, "US_SSN"),
            ({"contacts": [{"mobile": "13912345678"}]}, "CN_MOBILE"),
            ({"payload": json.dumps({"ssn": "536904399"})}, "US_SSN"),
            ({"note": "电话\n13912345678"}, "CN_MOBILE"),
            ({"patient_id": "P-582910"}, "MEDICAL_RECORD"),
            ({"db": {"password": "Passw0rd!77"}}, "PASSWORD"),
        ],
    )
    @pytest.mark.parametrize("ascii_only", [True, False])
    def test_tool_arguments_are_read_with_their_keys(
        self, classifier: Classifier, arguments: dict[str, object], entity_type: str, ascii_only: bool
    ) -> None:
        text = json.dumps(arguments, ensure_ascii=ascii_only)
        label = classifier.classify(
            [Segment("/messages/1/tool_calls/0/function/arguments", text, kind="tool_arguments")]
        )
        assert entity_type in {f.entity_type for f in label.findings}


class TestLookAlikes:
    @pytest.mark.parametrize(
        "template",
        [
            "Order number {0}",
            "tracking no: {0} shipped",
            "订单号{0}已发货",
            "运单号:{0}",
            "timestamp {0}",
            "流水号 {0}",
            "invoice #{0}",
            '{{"order_id": "{0}"}}',
        ],
    )
    @pytest.mark.parametrize("number", [CN_ID, "4111111111111111", "536904399", "13912345678", "A123456789"])
    def test_number_that_says_it_is_something_else(self, classifier: Classifier, template: str, number: str) -> None:
        assert classifier.classify_text(template.format(number)).sensitivity is Sensitivity.PUBLIC

    @pytest.mark.parametrize(
        "text",
        [
            "I got a message: 4111 1111 1111 1111",
            "My order was paid with 4111111111111111",
            "order 7731, 4111111111111111",
            "订单已支付,卡号4111111111111111",
            "order number\n4111111111111111",
            "the card for order 4111111111111111 是我的银行卡",
        ],
    )
    def test_talk_of_orders_elsewhere_hides_nothing(self, classifier: Classifier, text: str) -> None:
        assert "BANK_CARD" in types(classifier, text)

    def test_random_numbers_without_context_hardly_count(self, classifier: Classifier) -> None:
        chance = random.Random(7)
        numbers = [str(chance.randrange(10 ** (size - 1), 10**size)) for size in range(8, 21) for _ in range(200)]
        counted = [number for number in numbers if "." not in number and classifier.classify_text(number).findings]
        # Mobile numbers have no checksum: eleven digits from 13 to 19 are one in fourteen.
        assert [number for number in counted if len(number) not in (11, 15, 16)] == []
        assert len(counted) < 0.02 * len(numbers)

    @pytest.mark.parametrize(
        "text",
        [
            "contact user@example.com or 192.0.2.1 or +1 (415) 555-0134",
            "AKIAIOSFODNN7EXAMPLE",
            "export API_KEY=your-api-key-1234",
            "server at 127.0.0.1:8080 and 10.0.0.5",
            "1700000000123",
            "550e8400-e29b-41d4-a716-446655440000",
            "2024-01-15T10:30:00Z and 2024-01-16",
            "π = 3.14159265358979323846",
            "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "版本 10.15.7.1,共 12345678 行",
            "ISBN 978-3-16-148410-0",
            "What is a social security number?",
            "身份证号码有多少位?",
        ],
    )
    def test_documented_samples_and_everyday_numbers_are_public(self, classifier: Classifier, text: str) -> None:
        assert classifier.classify_text(text).findings == ()


@pytest.mark.parametrize(
    "unit",
    [
        "1",
        "a",
        "@",
        "1 ",
        "1-",
        "a@a.",
        '"',
        '\\"',
        '{"a":',
        "%41",
        "password: a1 ",
        "-----BEGIN PRIVATE KEY-----",
        "１",
        "1\u200b",
        "one two ",
        "一二三",
        "1\n",
        "a,1\n",
        "k:\n  ",
        "<a b='1'>1</a>",
        "12 Ma St ",
        "路1号",
        "пaсс ",
        "der die das ",
    ],
)
def test_a_megabyte_of_one_thing_is_scanned(classifier: Classifier, unit: str) -> None:
    label = classifier.classify_text(unit * ((1 << 20) // len(unit)))
    assert all(reason.reason == "over_budget" for reason in label.unscanned)
