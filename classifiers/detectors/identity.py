"""Identity numbers of Greater China and the United States, and passports. Other countries: ``national_ids``."""

from __future__ import annotations

import datetime
import re

from classifiers.base import Entity, NumberDetector, PatternDetector, Verdict, register
from classifiers.label import Sensitivity

_CN_WORDS = (
    "身份证",
    "身份號",
    "身份号",
    "证件号",
    "公民身份",
    "id card",
    "id number",
    "id no",
    "identity card",
    "national id",
)


def _entity(entity_type: str, title: str, sensitivity: Sensitivity = Sensitivity.RESTRICTED) -> Entity:
    return Entity(entity_type, "pii", sensitivity, title)


_CN_RESIDENT_ID = _entity("CN_RESIDENT_ID", "Chinese resident identity number")


@register
class CnResidentId(PatternDetector):
    name = "cn_resident_id"
    source = "GB 11643-1999: region, date of birth, sequence, ISO 7064 MOD 11-2 check character"
    entities = (_CN_RESIDENT_ID,)
    prefilters = (r"(?:^|[^0-9A-Za-z])[1-9](?:[ .\-]?[0-9]){16}[ .\-]?[0-9Xx](?:[^0-9A-Za-z]|$)",)
    reach = (40, 2)
    expression = r"(?<![0-9A-Za-z])[1-9](?:[ .\-]?\d){16}[ .\-]?[\dXx](?![0-9A-Za-z])"
    words = _CN_WORDS
    alone = 0.95
    heeds_decoys = True
    examples = (
        "我的身份证号是⟦360426199101010071⟧,请帮我填表。",
        "身份证:⟦11010519491231002X⟧",
        "⟦11010519491231002x⟧",
        "⟦360426 19910101 0071⟧ 办理入住",
        "身份证号码 ⟦110105194912310021⟧ 打错了",
        "id card: ⟦3.6.0.4.2.6.1.9.9.1.0.1.0.1.0.0.7.1⟧",
    )
    near_misses = (
        "订单号:360426199101010071",
        "编码 110105194912310021 没有校验",
        "tracking number 110105194912310021",
        "3604261991010100712345",
        "SN360426199101010071",
        "990426199101010071",
    )

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        number = _SEPARATORS.sub("", value)
        issued = int(number[:2]) in _CN_PROVINCES and _is_date(int(number[6:10]), number[10:14])
        return Verdict.VALID if issued and _cn_check_character(number) == number[17].upper() else Verdict.FAILED


_SEPARATORS = re.compile(r"[ .\-]")
# GB/T 2260, first level; 83 for Taiwan residents, 91 for permanent residents.
_CN_PROVINCES = frozenset(
    {
        11,
        12,
        13,
        14,
        15,
        21,
        22,
        23,
        31,
        32,
        33,
        34,
        35,
        36,
        37,
        41,
        42,
        43,
        44,
        45,
        46,
        50,
        51,
        52,
        53,
        54,
        61,
        62,
        63,
        64,
        65,
        71,
        81,
        82,
        83,
        91,
    }
)


def _is_date(year: int, month_and_day: str) -> bool:
    try:
        datetime.date(year, int(month_and_day[:2]), int(month_and_day[2:]))
    except ValueError:
        return False
    return 1850 <= year < 2100


def _cn_check_character(number: str) -> str:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False)) % 11]


@register
class CnResidentIdOldForm(PatternDetector):
    name = "cn_resident_id_15"
    source = "GB 11643-1989: region, date of birth with two digits for the year, sequence; no check character"
    entities = (_CN_RESIDENT_ID,)
    prefilters = (r"(?:^|[^0-9A-Za-z])[1-9][0-9]{14}(?:[^0-9A-Za-z]|$)",)
    reach = (18, 2)
    expression = r"(?<![0-9A-Za-z])[1-9]\d{14}(?![0-9A-Za-z])"
    words = _CN_WORDS
    alone = 0.2
    in_context = 0.85
    heeds_decoys = True
    examples = ("老身份证号⟦110105491231002⟧仍在档案里",)
    near_misses = ("流水 110105491231002", "身份证办理时间 110105493231002345")

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        return Verdict.UNCHECKED if _is_date(1900 + int(value[6:8]), value[8:12]) else Verdict.PLACEHOLDER


@register
class CnSocialCredit(NumberDetector):
    name = "cn_social_credit"
    source = "GB 32100-2015, unified social credit code of an organisation"
    entities = (_entity("CN_SOCIAL_CREDIT", "Chinese unified social credit code", Sensitivity.INTERNAL),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[1-9A-Y][0-9][0-9]{6}[0-9A-Z]{10}(?:[^0-9A-Za-z]|$)",)
    reach = (20, 2)
    expression = r"(?<![0-9A-Za-z])[1-9A-Y]\d{7}[0-9A-Z]{10}(?![0-9A-Za-z])"
    words = ("统一社会信用代码", "社会信用代码", "信用代码", "纳税人识别号", "税号", "uscc", "social credit")
    alone = 0.7
    stdnum = "cn.uscc"
    examples = ("统一社会信用代码:⟦91110000600037341L⟧", "税号 ⟦91110000600037341L⟧")
    near_misses = ("代码 91110000600037341A 不对", "tracking 91110000600037341L", "511401286183214356")

    def score_alone(self, value: str) -> float:
        return 0.3 if value.isdigit() else self.alone


@register
class CnPassport(PatternDetector):
    name = "cn_passport"
    source = (
        "ICAO Doc 9303; ordinary Chinese passports E, EA … and G, and travel permits for Hong Kong, Macau and Taiwan"
    )
    entities = (_entity("PASSPORT", "Passport or travel permit number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])(?:E[A-Z]|[A-Z])[0-9]{7,8}(?:[^0-9A-Za-z]|$)",)
    reach = (12, 2)
    expression = r"(?<![0-9A-Za-z])(?:E[A-HJ-NP-Z]\d{7}|[EGDSPHMCWKLT]\d{8})(?![0-9A-Za-z])"
    words = ("护照", "護照", "通行证", "passport", "travel document")
    alone = 0.2
    in_context = 0.9
    heeds_decoys = True
    examples = ("护照号码:⟦E12345678⟧", "passport no. ⟦EA1234567⟧", "港澳通行证⟦C12345678⟧")
    near_misses = ("零件 E12345678", "护照怎么办理?型号E1234")


@register
class Passport(PatternDetector):
    name = "passport"
    source = "ICAO Doc 9303: up to nine letters and digits, told by the words before it"
    entities = (_entity("PASSPORT", "Passport or travel permit number"),)
    prefilters = (r"(?i)passport", "护照")
    reach = (12, 60)
    expression = (
        r"(?i:passport(?:\s+(?:number|num|no|id))?|护照(?:号码?|编号)?)"
        r"(?:\s?(?:is|was|为|是|no\.?|#|:|=|\"))*\s{0,4}\"?"
        r"(?P<v>(?=[A-Z0-9]{0,3}\d)[A-Z0-9]{6,9})(?![0-9A-Za-z])"
    )
    alone = 0.8
    examples = ("Her passport number is ⟦L898902C3⟧.", "passport: ⟦533401372⟧")
    near_misses = ("passport renewal takes 6 weeks", "Passport 2024 edition", "passport.authenticate(request)")


@register
class HongKongId(PatternDetector):
    name = "hk_id"
    source = "Hong Kong identity card: one or two letters, six digits, check character modulo 11"
    entities = (_entity("HK_ID", "Hong Kong identity card number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[A-Za-z]{1,2}[0-9]{6} ?\(?[0-9Aa]\)?(?:[^0-9A-Za-z]|$)",)
    reach = (14, 3)
    expression = r"(?<![0-9A-Za-z])[A-Z]{1,2}\d{6}(?: ?\([0-9A]\)|[0-9A])(?![0-9A-Za-z])"
    words = ("hkid", "hong kong id", "hong kong identity", "香港身份", "身份证", "身份證", "id card", "identity card")
    alone = 0.3
    in_context = 0.95
    heeds_decoys = True
    examples = (
        "HKID ⟦A123456(3)⟧",
        "香港身份证号码 ⟦G123456(A)⟧",
        "客户来电 ⟦A123456(3)⟧ 查询",
        "香港身份证 ⟦A123456(4)⟧",
    )
    near_misses = ("part A1234563", "model A123456(4)", "身份证是什么")

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        letters_and_digits = re.sub(r"[ ()]", "", value)
        body, check = letters_and_digits[:-1].rjust(8), letters_and_digits[-1]
        total = sum(_hk_value(character) * weight for character, weight in zip(body, range(9, 1, -1), strict=True))
        expected = "0123456789A"[-total % 11]
        return Verdict.VALID if check == expected else Verdict.FAILED

    def score_alone(self, value: str) -> float:
        return 0.8 if value.endswith(")") else self.alone


def _hk_value(character: str) -> int:
    if character == " ":
        return 36
    return int(character) if character.isdigit() else ord(character) - ord("A") + 10


@register
class TaiwanId(PatternDetector):
    name = "tw_id"
    source = "Taiwan national identification card: letter, sex digit, seven digits, check digit modulo 10"
    entities = (_entity("TW_ID", "Taiwan identification number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[A-Z][1289][0-9]{8}(?:[^0-9A-Za-z]|$)",)
    reach = (12, 2)
    expression = r"(?<![0-9A-Za-z])[A-Z][1289]\d{8}(?![0-9A-Za-z])"
    words = ("身分證", "身份證", "身份证", "身分证", "統一編號", "taiwan id", "national id", "id number", "id no")
    alone = 0.55
    heeds_decoys = True
    examples = ("身分證字號 ⟦A123456789⟧", "台湾客户身份证 ⟦A123456788⟧ 需核对", "客戶 ⟦A123456789⟧ 來電")
    near_misses = ("型号 A123456788", "order A123456789", "批号A123456789")

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        number = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(value[0]) + 10
        digits = [number // 10, number % 10, *map(int, value[1:])]
        total = sum(digit * weight for digit, weight in zip(digits, (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1), strict=True))
        return Verdict.VALID if total % 10 == 0 else Verdict.FAILED


@register
class UsSsn(NumberDetector):
    name = "us_ssn"
    source = "US Social Security Administration: area, group, serial; areas 000, 666 and 900-999 are not issued"
    entities = (_entity("US_SSN", "US social security number"),)
    prefilters = (
        r"(?:^|[^0-9A-Za-z])[0-9]{3}[ .\-]?[0-9]{2}[ .\-]?[0-9]{4}(?:[^0-9A-Za-z]|$)",
        r"(?i)ss[ns]|social.security",
    )
    reach = (14, 40)
    expression = r"(?<![0-9A-Za-z.\-])(?:\d{3}([ .\-]?)\d{2}\1\d{4}|\d{8})(?![0-9A-Za-z]|[.\-]\d)"
    words = ("ssn", "social security", "social security number", "soc sec", "社会安全号", "社安号")
    stdnum = "us.ssn"
    examples = (
        "My SSN is ⟦536-90-4399⟧.",
        "social security number ⟦536904399⟧",
        '{"ssn": "⟦536904399⟧"}',
        '{"ssn": ⟦78051120⟧}',
        "Applicant ⟦536-90-4399⟧ approved",
        "SSN: ⟦078-05-1120⟧",
    )
    near_misses = (
        "Order number 536904399",
        "call 536904399",
        "invoice 536-90-4399",
        "part 666-12-3456",
        "version 123.45.6789.1",
    )

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        digits = re.sub(r"[ .\-]", "", value).rjust(9, "0")
        return Verdict.VALID if self.is_valid(digits) else Verdict.FAILED

    def score_alone(self, value: str) -> float:
        return 0.75 if value[3] in "-" else 0.25


@register
class UsItin(NumberDetector):
    name = "us_itin"
    source = "US Internal Revenue Service: individual taxpayer identification number, 9xx-xx-xxxx"
    entities = (_entity("US_ITIN", "US individual taxpayer identification number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])9[0-9]{2}[ \-]?[0-9]{2}[ \-]?[0-9]{4}(?:[^0-9A-Za-z]|$)",)
    reach = (14, 2)
    expression = r"(?<![0-9A-Za-z\-])9\d{2}([ \-]?)\d{2}\1\d{4}(?![0-9A-Za-z]|-\d)"
    words = ("itin", "taxpayer", "tax id", "tin")
    alone = 0.25
    in_context = 0.9
    stdnum = "us.itin"
    examples = ("ITIN: ⟦912-90-3456⟧",)
    near_misses = ("ref 912-90-3456", "order 912903456")
