"""Street-level addresses: what counts, what only looks like one, and what institutions publish about themselves."""

from __future__ import annotations

import json

import pytest

from classifiers.cascade import Classifier


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def addresses(classifier: Classifier, text: str) -> list[str]:
    return [text[f.start : f.end] for f in classifier.classify_text(text).findings if f.entity_type == "POSTAL_ADDRESS"]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Meet Tom, 27 Harbour View Road, Bristol BS1 5TY.", "27 Harbour View Road, Bristol BS1 5TY"),
        (
            "addr 4821 W Sunset Blvd Unit 210, Los Angeles, CA 90027",
            "4821 W Sunset Blvd Unit 210, Los Angeles, CA 90027",
        ),
        ("Ship to: Jane Roe, 55 Fruit St, Boston MA 02114", "55 Fruit St, Boston MA 02114"),
        ("She moved to 8 Kings Court last week", "8 Kings Court"),
        ("客户住在成都市武侯区人民南路四段19号,请上门", "成都市武侯区人民南路四段19号"),
        ("寄往江苏省南京市鼓楼区中山路18号A座1502室,收件人李雷", "江苏省南京市鼓楼区中山路18号A座1502室"),
        ("他家在和平里东街12号院3号楼", "和平里东街12号院3号楼"),
        ("我的地址是广州市天河区体育东路 122 号", "广州市天河区体育东路 122 号"),
        ("浦东新区张杨路500号,电话", "浦东新区张杨路500号"),
    ],
)
def test_address_is_found_with_exact_bounds(text: str, address: str, classifier: Classifier) -> None:
    assert addresses(classifier, text) == [address]


@pytest.mark.parametrize(
    "text",
    [
        "Street Photography: 5 Ways Street Light Changes a Picture",
        "3 Quick Ways to walk The Hill, Ohio",
        "10 Best Street Food Places in Bangkok",
        "He lives on 5th Street",
        "Chapter 3 The Long Road",
        "12 Angry Men Way of thinking",
        "Whisk 2 Eggs, 3 Cups Flour and 1 Tsp Salt; rest for 20 Min in a warm Place",
        "The 7 Habits Drive success",
        "HTTP 404 Not Found Close the connection",
        "第3道题和第5街区的2号线",
        "长安街的历史可以追溯到明朝",
        "文件 A 路由 3 号",
        "这条街3号店很好吃",
        "从人民路站坐地铁2号线到中山公园",
        "高速公路 120 号出口在哪里",
        "他在学习的道路上迈出了第1步",
    ],
)
def test_what_only_looks_like_an_address_is_none(text: str, classifier: Classifier) -> None:
    assert addresses(classifier, text) == []


@pytest.mark.parametrize(
    ("published", "private"),
    [
        ("Visit us at 1200 Market Street, Denver, CO 80202", "I live at 1200 Market Street, Denver, CO 80202"),
        ("Our head office: 9 Mill Lane, Leeds LS6 2AB", "Ship it to 9 Mill Lane, Leeds LS6 2AB"),
        ("公司地址:上海市浦东新区世纪大道100号", "家庭地址:上海市浦东新区世纪大道100号"),
        ("本店位于杭州市西湖区文三路88号", "我住在杭州市西湖区文三路88号"),
    ],
)
def test_published_address_of_an_institution_counts_lower(published: str, private: str, classifier: Classifier) -> None:
    assert addresses(classifier, published) == []
    assert len(addresses(classifier, private)) == 1


def test_nearer_words_decide(classifier: Classifier) -> None:
    text = "Our head office is downtown, but I live at 9 Mill Lane, Leeds LS6 2AB"
    assert addresses(classifier, text) == ["9 Mill Lane, Leeds LS6 2AB"]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"shipping": {"address": "14 Maple Road"}}),
        "name,address\nRoe,14 Maple Road\n",
        "<person><homeAddress>14 Maple Road</homeAddress></person>",
        "homeAddress: 14 Maple Road",
        json.dumps({"收货地址": "中山路18号"}),
        "姓名,收货地址\n李雷,中山路18号\n",
    ],
)
def test_field_named_address_is_context(text: str, classifier: Classifier) -> None:
    assert len(addresses(classifier, text)) == 1
