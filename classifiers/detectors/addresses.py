"""Street-level postal addresses in English and Chinese. A city, a postcode or a street without a number is none."""

from __future__ import annotations

import re
from collections.abc import Iterator

from classifiers.base import Entity, Match, PatternDetector, Verdict, context_pattern, register
from classifiers.label import Sensitivity

_POSTAL_ADDRESS = Entity("POSTAL_ADDRESS", "pii", Sensitivity.CONFIDENTIAL, "Street-level postal address")
_PUBLISHED_SCORE = 0.35
_CONTEXT_BEFORE, _CONTEXT_AFTER = 48, 24


class _Address(PatternDetector):
    """Told by its parts. What an institution publishes about itself does not count, unless words of a person stand nearer.

    Attributes:
        published: words with which institutions give their addresses.
    """

    entities = (_POSTAL_ADDRESS,)
    published: tuple[str, ...] = ()
    in_context = 0.92

    def prepare(self) -> None:
        super().prepare()
        self._published = context_pattern(self.published)

    def fingerprint(self) -> tuple[str, ...]:
        return (*super().fingerprint(), *self.published)

    def find(self, text: str, start: int, end: int) -> Iterator[Match]:
        for match in super().find(text, start, end):
            yield self._published_or_not(text, match)

    def _published_or_not(self, text: str, match: Match) -> Match:
        before = text[max(0, match.start - _CONTEXT_BEFORE) : match.start]
        after = text[match.end : match.end + _CONTEXT_AFTER].partition("\n")[0]
        published = max((found.end() for found in self._published.finditer(before)), default=-1)
        personal = max((found.end() for found in self.context.finditer(before)), default=-1) if self.context else -1
        if (published > -1 and published >= personal) or (personal < 0 and self._published.search(after)):
            return Match(match.entity_type, match.start, match.end, _PUBLISHED_SCORE, match.raw_score, (), "decoy")
        return match


# Street types of USPS Publication 28, appendix C1, and of Royal Mail's guide, the common ones.
_STREET_TYPE = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Drive|Dr|Lane|Ln|Court|Ct|Place|Pl|Terrace|Ter|Circle|Cir|Parkway|Pkwy"
    r"|Highway|Hwy|Way|Crescent|Cres|Close|Gardens|Gdns|Grove|Mews|Square|Sq|Trail|Trl|Row|Walk|Hill|Rise|Quay|Loop|Alley|Plaza)"
)
_UNIT = r"(?:(?:Apt|Apartment|Suite|Ste|Unit|Flat|Room|Rm|Floor|Fl)\.? ?#?[A-Za-z0-9\-]{1,6}|# ?[A-Za-z0-9\-]{1,6})"
_STATE = r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY])"
_US_ZIP = r"\d{5}(?:-\d{4})?"
_UK_POSTCODE = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
_CITY = r"[A-Z][A-Za-z'\-]{1,20}(?: [A-Z][A-Za-z'\-]{1,20}){0,2}"
_NAME = r"(?:(?:[A-Z][A-Za-z'.\-]{0,20}|of|the|\d{1,3}(?:st|nd|rd|th)) ){1,4}?"
_GAP = r"[, \n]{1,3}"


@register
class EnglishAddress(_Address):
    name = "postal_address_en"
    source = "USPS Publication 28 and Royal Mail PAF forms: number, street and street type, with unit, town or postcode"
    prefilters = (
        rf"[0-9][0-9A-Za-z]{{0,3}} [A-Z0-9][A-Za-z0-9'. \-]{{0,48}} {_STREET_TYPE}(?:[^A-Za-z]|$)",
        r"(?i)p\.? ?o\.? box [0-9]",
    )
    reach = (72, 96)
    expression = (
        rf"(?<![\w.$€£#/\-])(?P<v>(?:(?P<flat>{_UNIT}){_GAP})?(?:\d{{1,5}}[A-Z]?(?:-\d{{1,4}})?) (?:[NSEW]{{1,2}}\.? )?{_NAME}{_STREET_TYPE}"
        rf"\b\.?(?: [NSEW]{{1,2}}\b)?(?:{_GAP}(?P<unit>{_UNIT}))?"
        rf"(?:{_GAP}(?P<town>(?:{_CITY}{_GAP})?(?:{_STATE}(?:{_GAP}{_US_ZIP})?|{_US_ZIP}|{_UK_POSTCODE})\b))?"
        rf"|(?i:P\.? ?O\.? Box) \d{{1,6}}{_GAP}(?P<box>{_CITY}{_GAP}(?:{_STATE}{_GAP}{_US_ZIP}|{_UK_POSTCODE})\b))"
    )
    words = (
        "live at", "lives at", "living at", "lived at", "i live", "reside", "residing", "home", "home address", "my address",
        "her address", "his address", "their address", "our house", "moved to", "ship to", "ship it to", "deliver to", "delivery address",
        "shipping address", "billing address", "mailing address", "mail it to", "send it to", "address", "addr", "residence", "tenant",
        "patient", "apartment at", "pick me up", "my house", "my place",
    )  # fmt: skip
    published = (
        "visit us", "visit our", "headquarter", "headquartered", "head office", "our office", "our store", "store at", "museum",
        "restaurant", "hotel", "located at", "venue", "showroom", "gallery", "theatre", "theater", "library", "university", "embassy",
        "city hall", "town hall", "campus", "opening hours", "branch at", "church", "hospital at", "court house", "courthouse",
        "famous", "landmark", "fictional", "sherlock holmes", "white house", "prime minister", "company address", "office address",
        "business address",
    )  # fmt: skip
    examples = (
        "Please ship it to ⟦742 Maple Avenue, Apt 4B, Springfield, IL 62704⟧.",
        "I live at ⟦14 Willow Close⟧ and need a plumber",
        "⟦1600 N Elm St, Austin, TX 78701⟧",
        "Her address: ⟦Flat 3, 27 Queen's Road, Leeds LS6 2AB⟧",
        "Billing address ⟦88 Old Mill Lane\nPortland, OR 97205-1234⟧",
        "we met at ⟦22B Baxter Street, London NW1 6XE⟧",
        "forward mail to ⟦P.O. Box 1182, Boulder, CO 80301⟧",
        "My home is ⟦350 5th Avenue Apt 12⟧",
        "Tenant of ⟦19 St. John's Hill⟧ complains",
    )
    near_misses = (
        "5 Ways Street Photography Changed Art",
        "Bake for 25 minutes, then 10 Great Way to cool",
        "the history of Baker Street in London",
        "3 Main Street retailers closed in 2023",
        "Visit us at 1200 Market Street, San Francisco, CA 94102",
        "Our headquarters are at 500 Oracle Parkway, Redwood City, CA 94065",
        "The museum, 1071 Fifth Avenue, New York, NY 10128, opens at ten",
        "Springfield, IL 62704",
        "10 Downing Street is where the Prime Minister works",
        "Top 10 Best Hill Walks in Wales",
        "Add 2 Tbsp sugar and 1 Cup milk",
        "In 2024 Wall Street rallied",
        "He won 3 Grand Slam titles the hard Way",
        "version 2 Release Drive mount",
        "24 Hour Drive to Texas",
    )

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        located = found["unit"] or found["flat"] or found["town"] or found["box"]
        return Verdict.VALID if located else Verdict.UNCHECKED

    def score_alone(self, value: str) -> float:
        return 0.8 if self._located(value) else 0.3

    def _located(self, value: str) -> bool:
        found = self.pattern.fullmatch(value)
        return found is not None and any(found[part] for part in ("unit", "flat", "town", "box"))


# A character of a name; not the ones that lead up to a place: 在, 到, 寄, 我 …
_CN = r"(?:(?![在到是至往给去于的我你您他她它们了址寄送请从住])[\u4e00-\u9fff])"
_CN_NUMBER = r"[0-9A-Za-z零〇一二三四五六七八九十百甲乙丙丁]{1,6}"
_CN_REGION = (
    rf"(?:{_CN}{{2,7}}(?:省|自治区|特别行政区)\s?)?(?:{_CN}{{2,8}}(?:市|自治州|盟)\s?)?"
    rf"(?:{_CN}{{1,7}}(?:区|县|旗|镇|乡|街道)\s?){{0,3}}"
)
_CN_ROAD = (
    rf"(?:{_CN}|[0-9]){{1,10}}?(?:大道|大街|路|街|道|巷|弄|胡同|里弄)(?:[东南西北中]?(?:[一二三四五]?段|[一二三四五]))?"
)
_CN_ROOM = (
    rf"(?:\s?{_CN_NUMBER}\s?(?:号楼|栋|幢|座|单元|层|楼|室|户|门|房|号|弄)){{1,5}}"
    r"|\s?\d{1,3}-\d{1,3}(?:-\d{1,5}){0,2}(?:室|号)?"
)
_CN_ESTATE = r"(?:小区|花园|公寓|家园|苑|村|里|庭|城|湾|府|邸)"


@register
class ChineseAddress(_Address):
    name = "postal_address_zh"
    source = "GB/T 23705-2009, address coding: region, road, door number, building, unit, room"
    prefilters = (
        "(?:路|街|道|巷|弄|胡同|段)[ ]?[0-9A-Za-z一二三四五六七八九十]{1,6}[ ]?(?:号|弄)",
        "(?:小区|花园|公寓|家园|苑|村|里|庭|城|湾|府|邸)[ ]?[0-9A-Za-z一二三四五六七八九十]{1,6}[ ]?(?:号楼|栋|幢|座|单元|号)",
    )
    reach = (56, 40)
    expression = (
        rf"(?P<region>{_CN_REGION})(?:(?P<road>{_CN_ROAD}\s?{_CN_NUMBER}\s?(?:号楼|号|弄)(?:院|之[0-9一二三四五六七八九])?)"
        r"(?:[\u4e00-\u9fff]{2,10}(?:小区|花园|公寓|家园|苑|大厦|广场|村))?"
        rf"(?P<room>{_CN_ROOM})?"
        rf"|(?P<estate>{_CN}{{2,10}}?{_CN_ESTATE}(?:{_CN_ROOM})))"
    )
    words = (
        "住在", "家住", "住址", "家庭地址", "家庭住址", "现住", "居住", "收货地址", "收件地址", "收货", "收件", "寄到", "寄往", "寄给", "送到",
        "送货", "户籍", "通讯地址", "通信地址", "联系地址", "我家", "他家", "她家", "住户", "业主", "房东", "租客", "患者", "地址", "address",
    )  # fmt: skip
    published = (
        "公司地址", "总部", "办公地址", "注册地址", "门店", "本店", "店址", "分店", "营业", "欢迎光临", "展馆", "博物馆", "酒店", "餐厅", "医院",
        "学校", "大学", "景点", "故居", "旧址", "遗址", "会场", "会址", "使馆", "政府", "法院", "派出所", "位于", "坐落", "场馆", "剧院", "图书馆",
        "客服中心",
    )  # fmt: skip
    examples = (
        "我住在⟦北京市朝阳区建国路88号3号楼1201室⟧",
        "收货地址:⟦广东省深圳市南山区科技南路12号⟧",
        "请寄到⟦中山北路200弄15号602室⟧,谢谢",
        "⟦上海市静安区南京西路1266号2座⟧",
        "⟦杭州市西湖区文三路阳光花园5栋2单元501室⟧",
        "她家在⟦阳光小区3号楼2单元501室⟧",
    )
    near_misses = (
        "长安街的历史",
        "请介绍一下南京路步行街1号店的由来",
        "公司地址:上海市浦东新区世纪大道100号",
        "博物馆位于北京市东城区景山前街4号",
        "地铁2号线在人民路换乘",
        "一带一路5号文件",
        "学习之路3号笔记",
        "北京市朝阳区",
        "这条道路5号开始施工",
        "街道办事处",
    )

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        return Verdict.VALID if self._located(found) else Verdict.UNCHECKED

    def score_alone(self, value: str) -> float:
        found = self.pattern.fullmatch(value)
        return 0.8 if found is not None and self._located(found) else 0.3

    def _located(self, found: re.Match[str]) -> bool:
        return bool(found["room"] or found["region"] or (found["estate"] and "室" in found[0]))
