"""How to reach a person or a machine: e-mail, phone, network addresses. No name is ever looked up."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterator
from types import ModuleType

from classifiers.base import Entity, Match, PatternDetector, Verdict, register
from classifiers.label import Sensitivity

_PHONE_WORDS = (
    "phone",
    "telephone",
    "tel",
    "mobile",
    "cell",
    "cellphone",
    "call me",
    "call",
    "text me",
    "dial",
    "fax",
    "whatsapp",
    "wechat",
    "reach me",
    "contact",
    "hotline",
    "手机",
    "手機",
    "电话",
    "電話",
    "联系方式",
    "联系",
    "致电",
    "拨打",
    "座机",
    "传真",
    "微信",
)


def _entity(entity_type: str, title: str) -> Entity:
    return Entity(entity_type, "pii", Sensitivity.CONFIDENTIAL, title)


@register
class Email(PatternDetector):
    name = "email"
    source = "RFC 5321 and 5322, the common form; reserved domains of RFC 2606 and 6761 do not count"
    entities = (_entity("EMAIL", "E-mail address"),)
    prefilters = (r"[A-Za-z0-9_%+\-]@[A-Za-z0-9]",)
    reach = (66, 256)
    expression = (
        r"(?<![A-Za-z0-9._%+\-/@])(?P<v>[A-Za-z0-9_%+\-](?:[A-Za-z0-9._%+\-]{0,62}[A-Za-z0-9_%+\-])?"
        r"@(?P<domain>(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,8}(?P<tld>[A-Za-z]{2,24})))"
        r"(?![A-Za-z0-9@]|\.[A-Za-z0-9]|-[A-Za-z0-9])"
    )
    alone = 0.95
    examples = (
        "Write to ⟦jane.roe@acme-widgets.co.uk⟧, please.",
        "邮箱⟦zhang_san@qq.com⟧收到了吗",
        "<⟦a+tag@mail.acme.io⟧>",
        "mail me at ⟦bob@acme.com⟧.",
    )
    near_misses = (
        "user@example.com",
        "someone@example.org",
        "name@host.invalid",
        "icon@2x.png",
        "git clone git@github.com:acme/tool.git",
        "@decorator def f(): ...",
        "lodash@4.17.21",
        "yourname@domain.com",
        "test@test.com",
    )

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        local, domain = value.lower().rsplit("@", 1)
        if _RESERVED_DOMAIN.search(domain) or found["tld"].lower() in _FILE_SUFFIXES or domain in _SAMPLE_DOMAINS:
            return Verdict.PLACEHOLDER
        return Verdict.PLACEHOLDER if local in _SAMPLE_LOCALS else Verdict.UNCHECKED


_RESERVED_DOMAIN = re.compile(r"(?:^|\.)(?:example\.(?:com|net|org|edu)|(?:test|invalid|example|localhost|local))$")
_FILE_SUFFIXES = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "ts", "json", "html", "py"})
_SAMPLE_DOMAINS = frozenset({"domain.com", "test.com", "yourdomain.com", "yourcompany.com", "email.com", "sample.com"})
_SAMPLE_LOCALS = frozenset({"git", "yourname", "your.name", "your-email", "youremail", "your_email"})


@register
class CnMobile(PatternDetector):
    name = "cn_mobile"
    source = "Chinese Ministry of Industry and Information Technology numbering plan: eleven digits from 13 to 19"
    entities = (_entity("CN_MOBILE", "Mainland Chinese mobile number"),)
    prefilters = (
        r"(?:^|[^0-9A-Za-z])(?:(?:\+|00)?86[ \-]?)?1[3-9][0-9][ \-]?[0-9]{4}[ \-]?[0-9]{4}(?:[^0-9A-Za-z]|$)",
        r"(?:^|[^0-9A-Za-z])1[ .\-][3-9](?:[ .\-][0-9]){9}(?:[^0-9A-Za-z]|$)",
    )
    reach = (28, 2)
    expression = r"(?<![0-9A-Za-z])(?:(?:(?:\+|00)?86[ \-]?)?1[3-9]\d[ \-]?\d{4}[ \-]?\d{4}|1[ .\-][3-9](?:[ .\-]\d){9})(?![0-9A-Za-z])"
    words = _PHONE_WORDS
    alone = 0.8
    heeds_decoys = True
    examples = (
        "手机号:⟦13912345678⟧",
        "打我电话⟦139-1234-5678⟧",
        "⟦+86 139 1234 5678⟧",
        "手机 ⟦1 3 9 1 2 3 4 5 6 7 8⟧",
        "请联系⟦18612349876⟧。",
    )
    near_misses = (
        "订单号 13912345678",
        "13900000000",
        "timestamp 1391234567890",
        "tracking number: 13912345678",
        "12345678901",
    )

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        return Verdict.PLACEHOLDER if len(set(value[-8:])) == 1 else Verdict.UNCHECKED

    def score_alone(self, value: str) -> float:
        return 0.4 if re.match(r"1[ .\-]", value) else self.alone


@register
class Phone(PatternDetector):
    name = "phone"
    source = "ITU-T E.164 and national numbering plans, as kept by libphonenumber"
    entities = (_entity("PHONE", "Telephone number"),)
    prefilters = (
        r"(?:\+|(?:^|[^0-9A-Za-z])00)[1-9][0-9 ().\-]{6,20}(?:[^0-9]|$)",
        r"(?:^|[^0-9A-Za-z])\(?0?[1-9][0-9]{1,3}\)?[ .\-]{0,2}[0-9]{3,4}[ .\-]?[0-9]{3,4}(?:[^0-9A-Za-z]|$)",
        r"(?:^|[^0-9A-Za-z])0[0-9]{2,3}[ \-]?[0-9]{7,8}(?:[^0-9A-Za-z]|$)",
    )
    reach = (26, 2)
    expression = (
        r"(?<![0-9A-Za-z.\-/=_#])(?P<v>(?:\+|00)[1-9](?:[ ().\-]{0,2}\d){6,14}|\(0?\d{2,4}\) ?\d{3,4}[ .\-]?\d{3,4}"
        r"|\d{3,4}[ .\-]\d{3,4}[ .\-]\d{3,4}|0\d{2,3}-?\d{7,8}|0\d{2,4} \d{3,4} ?\d{3,4}|[1-9]\d{7,10})(?![0-9A-Za-z]|[.\-/]\d)"
    )
    words = _PHONE_WORDS
    in_context = 0.95
    heeds_decoys = True
    examples = (
        "Call me at ⟦(415) 555-2671⟧ tonight",
        "⟦+44 20 7183 8750⟧ is my line",
        "phone: ⟦4155552671⟧",
        "座机⟦010-62345678⟧",
        "电话 ⟦021-62345678⟧",
        "⟦+1-212-456-7890⟧",
    )
    near_misses = (
        "call 555-0123",
        "(415) 555-0199",
        "order 415-555-2671",
        "The years 2023-2024-2025",
        "4155552671",
        "+1 and -1 are units",
        "1700000000 seconds",
        "12345678",
    )

    def prepare(self) -> None:
        super().prepare()
        _ = self._library

    @functools.cached_property
    def _library(self) -> ModuleType:
        # Its metadata take a tenth of a second to load: not at import.
        import phonenumbers

        return phonenumbers

    def find(self, text: str, start: int, end: int) -> Iterator[Match]:
        threshold = self.entities[0].threshold
        # A plan is looked up only where its answer matters: most runs of digits are no phone number's.
        for match in super().find(text, start, end):
            if match.score < threshold or self._is_valid(text[match.start : match.end]):
                yield match

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        digits = re.sub(r"\D", "", value)
        fictional = _FICTIONAL_NANP.search(digits) or len(set(digits[-7:])) == 1
        return Verdict.PLACEHOLDER if fictional else Verdict.VALID

    def _is_valid(self, value: str) -> bool:
        number = "+" + value[2:] if value.startswith("00") else value
        regions = (None,) if number.startswith("+") else _regions(re.sub(r"\D", "", value))
        return any(self._valid_in(number, region) for region in regions)

    def _valid_in(self, number: str, region: str | None) -> bool:
        try:
            parsed = self._library.parse(number, region)
        except self._library.NumberParseException:
            return False
        return bool(self._library.is_valid_number(parsed))

    def score_alone(self, value: str) -> float:
        if value.startswith(("+", "(", "00")):
            return 0.85
        if re.fullmatch(r"[2-9]\d\d([.\-])[2-9]\d\d\1\d{4}|0\d{2,3}-\d{7,8}", value):
            return 0.7
        return 0.3


def _regions(digits: str) -> tuple[str, ...]:
    """Numbering plans in which a number without a country code can be dialled like this."""
    if digits.startswith("0"):
        return ("CN", "GB", "DE", "FR", "AU", "IN", "JP", "TW")
    return {8: ("HK", "SG"), 10: ("US", "IN", "CN"), 11: ("US", "BR")}.get(len(digits), ())


_FICTIONAL_NANP = re.compile(r"(?:^|^1|^[2-9]\d\d|^1[2-9]\d\d)55501\d\d$")


@register
class IpAddress(PatternDetector):
    name = "ip_address"
    source = "RFC 791 and 4291; only globally routed addresses (IANA special-purpose registries), no public resolvers"
    entities = (_entity("IP_ADDRESS", "Public IP address"),)
    prefilters = (
        r"(?:^|[^0-9A-Za-z.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?:[^0-9A-Za-z]|$)",
        r"(?:^|[^0-9A-Za-z:])[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34}(?:[^0-9A-Za-z]|$)",
    )
    reach = (44, 4)
    expression = r"(?<![\w.\-])(?:(?:\d{1,3}\.){3}\d{1,3}|[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{1,4})(?![\w:]|\.\d|-\d)"
    words = (
        "ip",
        "ip address",
        "client ip",
        "source ip",
        "remote addr",
        "x-forwarded-for",
        "login from",
        "地址",
        "访问",
        "登录",
    )
    alone = 0.6
    in_context = 0.95
    examples = ("login from ⟦81.2.69.142⟧ failed", "客户端IP:⟦81.2.69.142⟧", "ip ⟦2a00:1450:4001:82f::200e⟧")
    near_misses = (
        "127.0.0.1",
        "10.1.2.3 and 192.168.0.1 and 172.16.5.4",
        "192.0.2.17, 198.51.100.4 and 203.0.113.9",
        "dns 8.8.8.8",
        "version 81.2.69.142",
        "section 1.2.3.4",
        "2001:db8::1",
        "fe80::1",
        "999.1.1.1",
    )

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            return Verdict.PLACEHOLDER
        if not address.is_global or address.is_multicast or value in _PUBLIC_RESOLVERS:
            return Verdict.PLACEHOLDER
        before = found.string[max(0, found.start() - 16) : found.start()]
        return Verdict.PLACEHOLDER if _VERSION.search(before) else Verdict.VALID

    def score_alone(self, value: str) -> float:
        # 1.2.3.4 is as often a section or a version.
        return 0.3 if all(len(octet) == 1 for octet in value.split(".")) else self.alone


_PUBLIC_RESOLVERS = frozenset(
    {"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "114.114.114.114", "223.5.5.5", "223.6.6.6", "119.29.29.29"}
)
_VERSION = re.compile(r"(?:version|ver\.?|release|build|版本号?|\bv)[ :=]{0,3}$", re.IGNORECASE)


@register
class MacAddress(PatternDetector):
    name = "mac_address"
    source = "IEEE 802, EUI-48; the documentation range of RFC 7042 does not count"
    entities = (_entity("MAC_ADDRESS", "Hardware address"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])(?:[0-9A-Fa-f]{2}[:\-]){5}[0-9A-Fa-f]{2}(?:[^0-9A-Za-z]|$)",)
    reach = (20, 2)
    expression = (
        r"(?<![0-9A-Za-z:\-])[0-9A-Fa-f]{2}([:\-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![0-9A-Za-z]|[:\-][0-9A-Fa-f])"
    )
    words = ("mac", "mac address", "hwaddr", "ether", "bssid", "物理地址", "网卡")
    alone = 0.7
    examples = ("MAC ⟦d0:50:99:84:a2:a0⟧", "⟦D0-50-99-84-A2-A0⟧ joined")
    near_misses = ("ff:ff:ff:ff:ff:ff", "00:00:5e:00:53:01", "00:00:00:00:00:00", "aa:bb:cc:dd:ee:ff:00:11")

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        octets = re.split(r"[:\-]", value.lower())
        documented = octets[:5] == ["00", "00", "5e", "00", "53"] or octets == ["aa", "bb", "cc", "dd", "ee", "ff"]
        return Verdict.PLACEHOLDER if documented or len(set(octets)) == 1 else Verdict.UNCHECKED
