"""Cards, accounts and wallets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from classifiers.base import Entity, Match, NumberDetector, PatternDetector, Verdict, matches, register
from classifiers.label import Sensitivity

_ACCOUNT_NAMES = (
    r"(?:bank\s+|checking\s+|savings\s+|current\s+)?(?:account|acct|a/c)\s*(?:number|num|no\.?|#)"
    r"|(?:银行|对公|收款|付款|储蓄)?(?:账号|帐号|账户|帐户|卡号)|存折号"
)


@register
class BankCard(NumberDetector):
    name = "bank_card"
    source = "ISO/IEC 7812-1: issuer ranges of the card schemes, Luhn check digit"
    entities = (Entity("BANK_CARD", "pci", Sensitivity.RESTRICTED, "Payment card number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[2-6](?:[ .\-]?[0-9]){11,18}(?:[^0-9A-Za-z]|$)",)
    reach = (42, 2)
    expression = (
        r"(?<![0-9A-Za-z])(?:[2-6]\d{11,18}|[2-6]\d{3}([ \-.])\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})?"
        r"|3\d{3}([ \-.])\d{6}\2\d{4,5}|62\d{4}([ \-.])\d{9,13}|[2-6](?:[ .\-]\d){12,18})(?![0-9A-Za-z]|[.\-]\d)"
    )
    words = (
        "card",
        "credit card",
        "debit card",
        "card number",
        "visa",
        "mastercard",
        "amex",
        "unionpay",
        "pan",
        "cvv",
        "cvc",
        "银行卡",
        "信用卡",
        "借记卡",
        "储蓄卡",
        "卡号",
        "银联",
        "开户行",
    )
    stdnum = "luhn"
    examples = (
        "My card is ⟦4111 1111 1111 1111⟧, exp 12/29",
        "⟦5555555555554444⟧",
        "amex ⟦3782 822463 10005⟧",
        "银行卡号⟦6222021234567890128⟧",
        "卡号:⟦4111-1111-1111-1112⟧",
        "银行卡 ⟦4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1⟧",
    )
    near_misses = (
        "order number 4111111111111111",
        "运单号:6222021234567890128",
        "tracking no: 5555555555554444",
        "4111111111111112",
        "1700000000000",
        "订单号 5555555555554444 已发货",
        "2 4 6 8 10 12 14 16 18 20",
    )

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        digits = re.sub(r"\D", "", value)
        if len(set(digits)) == 1:
            return Verdict.PLACEHOLDER
        return Verdict.VALID if self.is_valid(digits) else Verdict.FAILED

    def score_alone(self, value: str) -> float:
        digits = re.sub(r"\D", "", value)
        if not _ISSUED.fullmatch(digits):
            return 0.3
        # Twelve separate digits are more often a list of numbers.
        return 0.85 if len(digits) >= len(value) - 4 else 0.4


_ISSUED = re.compile(
    r"4\d{15}|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}|62\d{14,17}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}"
)


@register
class Iban(NumberDetector):
    name = "iban"
    source = "ISO 13616: country, check digits modulo 97, national account number of the country's length"
    entities = (Entity("IBAN", "financial", Sensitivity.CONFIDENTIAL, "International bank account number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[A-Za-z]{2}[0-9]{2}(?: ?[0-9A-Za-z]{4}){2}",)
    reach = (16, 40)
    expression = r"(?<![0-9A-Za-z])[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?(?![0-9A-Za-z])"
    words = ("iban", "bank", "account", "konto", "compte", "账号", "银行")
    alone = 0.95
    stdnum = "iban"
    examples = (
        "IBAN ⟦GR16 0110 1050 0000 1054 7023 795⟧",
        "pay to ⟦BE31435411161155⟧ today",
        "⟦BE31 4354 1116 1155⟧ THANKS",
    )
    near_misses = ("BE31435411161156", "order BE31435411161155", "AB12 3456 7890 1234")

    def find(self, text: str, start: int, end: int) -> Iterator[Match]:
        for found in matches(self.pattern, text, start, end):
            # Capitals behind an account number look like more of it: the longest valid reading stands.
            value = found[0]
            while value and not self.is_valid(value):
                value = value.rpartition(" ")[0]
            verdict = Verdict.VALID if value else Verdict.FAILED
            yield self.weigh(text, found.start(), found.start() + len(value or found[0]), verdict)


@register
class Swift(NumberDetector):
    name = "swift"
    source = "ISO 9362: bank, country, location, branch"
    entities = (Entity("SWIFT_BIC", "financial", Sensitivity.INTERNAL, "Bank identifier code"),)
    prefilters = (r"(?i)(?:^|[^A-Za-z])(?:swift|bic)(?:[^A-Za-z]|$)",)
    reach = (20, 40)
    expression = (
        r"(?i:(?<![A-Za-z])(?:swift|bic)(?:\s?/\s?(?:bic|swift))?(?:\s(?:code|number))?)(?:\s?(?:is|:|=|#|\"))*\s{0,4}\"?"
        r"(?P<v>[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?)(?![0-9A-Za-z])"
    )
    alone = 0.8
    stdnum = "bic"
    examples = ("SWIFT: ⟦AGRIFRPP882⟧", "BIC ⟦ABNABE2A⟧")
    near_misses = ("Swift is a LANGUAGE", "BIC pens")


@register
class BankAccount(PatternDetector):
    name = "bank_account"
    source = "National account numbers have no common form: told by the words before them"
    entities = (Entity("BANK_ACCOUNT", "financial", Sensitivity.CONFIDENTIAL, "Bank account number"),)
    prefilters = (r"(?i)account|acct|a/c", "账号|帐号|账户|帐户|卡号|存折号")
    reach = (24, 72)
    expression = (
        rf"(?i:{_ACCOUNT_NAMES})"
        r"(?:\s?(?:is|was|为|是|no\.?|#|:|=|\"))*\s{0,4}\"?(?P<v>\d(?:[ \-]?\d){7,24})(?![0-9A-Za-z])"
    )
    alone = 0.8
    examples = (
        "account number ⟦000123456789⟧",
        "收款账号:⟦6225 8801 2345 6789⟧",
        "acct no. ⟦12345678⟧",
        "账户 ⟦110908765432101⟧",
    )
    near_misses = ("account number 42", "my account was created 20240101", "账号怎么注册", "账号:zhangsan")


@register
class UsRouting(NumberDetector):
    name = "us_routing"
    source = "American Bankers Association routing transit number, weighted modulo 10"
    entities = (Entity("US_ROUTING", "financial", Sensitivity.INTERNAL, "US bank routing number"),)
    prefilters = (r"(?i)routing|aba|rtn",)
    reach = (14, 40)
    expression = r"(?<![0-9A-Za-z\-])\d{9}(?![0-9A-Za-z]|-\d)"
    words = ("routing", "routing number", "aba", "rtn", "ach")
    alone = 0.2
    in_context = 0.9
    failed_in_context = 0.4
    stdnum = "us.rtn"
    examples = ("routing number ⟦111000025⟧",)
    near_misses = ("routing table 111000026", "routing 12 packets")


@register
class CryptoWallet(PatternDetector):
    name = "crypto_wallet"
    source = "Bitcoin Base58Check and BIP 173 addresses (checked); Ethereum EIP-55 addresses (shape)"
    entities = (Entity("CRYPTO_WALLET", "financial", Sensitivity.CONFIDENTIAL, "Cryptocurrency address"),)
    prefilters = (
        r"(?:^|[^0-9A-Za-z])[13][1-9A-HJ-NP-Za-km-z]{25,34}(?:[^0-9A-Za-z]|$)",
        r"(?i)(?:^|[^0-9a-z])bc1[02-9ac-hj-np-z]{20}",
        r"(?:^|[^0-9A-Za-z])0x[0-9A-Fa-f]{40}(?:[^0-9A-Za-z]|$)",
    )
    reach = (46, 90)
    expression = r"(?<![0-9A-Za-z])(?:[13][1-9A-HJ-NP-Za-km-z]{25,34}|(?i:bc1)[02-9A-Za-z]{20,87}|0x[0-9A-Fa-f]{40})(?![0-9A-Za-z])"
    words = ("wallet", "btc", "bitcoin", "eth", "ethereum", "usdt", "钱包", "比特币", "以太坊", "地址")
    alone = 0.9
    failed_in_context = 0.3
    examples = (
        "send to ⟦1NEDqZPvTWRaoho48qXuLLsrYomMXPABfD⟧",
        "BTC ⟦bc1qardv855yjngspvxuttq897aqca3lxju2y69jce⟧",
        "钱包地址 ⟦0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed⟧",
    )
    near_misses = (
        "1NEDqZPvTWRaoho48qXuLLsrYomMXPABfX",
        "0x0000000000000000000000000000000000000000",
        "commit 5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
    )

    def prepare(self) -> None:
        super().prepare()
        from stdnum import bitcoin

        self._is_bitcoin = bitcoin.is_valid

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        if value.startswith("0x"):
            return Verdict.PLACEHOLDER if len(set(value[2:])) < 6 else Verdict.UNCHECKED
        return Verdict.VALID if self._is_bitcoin(value) else Verdict.FAILED

    def score_alone(self, value: str) -> float:
        return 0.7 if value.startswith("0x") else self.alone
