"""Secrets without an issuer's mark: told by the name they are assigned to, or by the sentence around them."""

from __future__ import annotations

import math
import re
from collections import Counter

from classifiers.base import PatternDetector, Verdict, register
from classifiers.detectors.credentials import credential, is_placeholder

_MIN_ENTROPY_BITS = 3.0
_NOT_A_SECRET_NAME = re.compile(
    r"(?:name|id|type|path|file|url|uri|count|length|len|limit|field|label|policy|hint|prompt|header|version|expiry|ttl|tokens)$",
    re.IGNORECASE,
)
# Values that are code, templates, types, or words for a secret that is not there.
_NOT_A_SECRET = re.compile(
    r"[()\[\]{}<>$]|^(?:os|process|env|self|this|config|settings|request|secrets|vault|var|data|module)\."
    r"|^(?:true|false|null|none|nil|undefined|string|str|int|bool|required|optional|hidden|text|password|passwd|secret|token)\b"
    r"|^[\W_]+$|^\d{1,2}-\d{1,3}$|^https?://",
    re.IGNORECASE,
)


def entropy_bits(value: str) -> float:
    """Shannon entropy of a value's characters, in bits a character."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())


def looks_random(value: str) -> bool:
    """Letters and digits mixed, as generated keys have; prose, identifiers and paths do not."""
    mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return mixed and entropy_bits(value) >= _MIN_ENTROPY_BITS


def looks_chosen(value: str) -> bool:
    """As passwords are: a digit, a symbol of a keyboard's upper row, or capitals inside."""
    return bool(re.search(r"\d|[!@#%^&*+=?~|]|[a-z][A-Z]", value))


@register
class SecretAssignment(PatternDetector):
    name = "secret_assignment"
    source = "The form name = value, as in gitleaks' generic-api-key and detect-secrets' keyword rules; entropy filter"
    entities = (credential("SECRET_ASSIGNMENT", "Secret assigned to a name"),)
    prefilters = (
        r"(?i)(?:api.?key|secret|token|access.?key|auth.?key|private.?key|encryption.?key|app.?key|license.?key|credential)[\w\-]{0,24}"
        r"[\"'`]?\s{0,4}(?:=|:)",
    )
    reach = (72, 220)
    expression = (
        r"(?i)(?<![a-z0-9])(?P<name>[\w.\-]{0,40}(?:api[ _\-]?key|secret|token|(?:access|auth|private|encryption|app|license)[ _\-]?key"
        r"|credential)[\w\-]{0,24})"
        r"[\"'`]?\s{0,4}(?:=>|:=|==?|:)\s{0,4}(?:Bearer |Basic )?[\"'`]?(?P<v>[\w+/=~.!@#%^&*\-]{12,200})"
    )
    alone = 0.85
    examples = (
        'api_key = "⟦Zk3vQ8sLw2xR7bT9cN4m⟧"',
        "CLIENT_SECRET=⟦q7vLw2Zx9bR1cM5hJ6gFyEuW0p⟧",
        '{"auth_token": "⟦9f8e7d6c5b4a3f2e1d0c⟧"}',
        "API Key: ⟦q7vLw2Zx9bR1cM5h⟧",
    )
    near_misses = (
        'api_key = "your-api-key"',
        "max_tokens: 4096",
        "token = os.environ['TOKEN_2024_ABC']",
        "secret_name: my-app-secret-number-1",
        "api_key: <API_KEY_1234567>",
        "secret = get_secret_value(1234)",
        "The secret: practise every day",
        "token_url=https://login.acme.io/oauth2/v2",
        "API_KEY=xxxxxxxxxxxxxxxx",
    )

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        if _NOT_A_SECRET_NAME.search(found["name"]) or _NOT_A_SECRET.search(value) or is_placeholder(value):
            return Verdict.PLACEHOLDER
        if found.string[found.end() : found.end() + 1] in ("(", "["):
            return Verdict.PLACEHOLDER
        return Verdict.UNCHECKED if looks_random(value) else Verdict.PLACEHOLDER


_CHOSEN_VALUE = r"(?P<v>[!#-&(-+\--:<-_a-~]{3,63}[!#-&*+\-/0-9<-_a-~])"


class _Password(PatternDetector):
    entities = (credential("PASSWORD", "Password"),)
    alone = 0.85

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        if _NOT_A_SECRET.search(value) or _PLACEHOLDER_PASSWORD.search(value) or not looks_chosen(value):
            return Verdict.PLACEHOLDER
        return Verdict.UNCHECKED


_PLACEHOLDER_PASSWORD = re.compile(r"example|your|xxxx|\*{3}|\.{3}|change.?me|placeholder|redacted", re.IGNORECASE)


@register
class PasswordInEnglish(_Password):
    name = "password_en"
    source = "Sentences and settings in English: the password (for …) is …, pwd=…, PIN: …"
    prefilters = (r"(?i)passwor[dt]|passwd|passcode|passphrase|(?:^|[^a-z])(?:pwd|pin)(?:[^a-z]|$)",)
    reach = (24, 160)
    expression = (
        r"(?i)(?<![a-z])(?:[\w.\-]{0,32}[_\-.])?(?:password|passwd|passcode|passphrase|pwd|pin(?:\s(?:code|number))?)[\w]{0,12}"
        r"(?:\s(?:for|of|to|on|at)\s[\w.@\-]{1,40}(?:\s[\w.@\-]{1,30}){0,3}?)?"
        r"[\"'`]?\s{0,4}(?:is|was|=>|:=|==?|:|changed\sto|set\sto|reset\sto)(?:\s(?:now|set\sto|still|currently)\b)?\s{0,4}[\"'`“]?"
        + _CHOSEN_VALUE
    )
    examples = (
        "my password is ⟦hunter2⟧",
        "The admin password for db01 is ⟦Tr0ub4dor&3⟧.",
        'DB_PASSWORD="⟦S3cure!Pass9⟧"',
        '{"password": "⟦Passw0rd!77⟧"}',
        "PIN: ⟦4921⟧",
        "Server=db;User Id=sa;Password=⟦k9ZtQwL8⟧;",
    )
    near_misses = (
        "password is required",
        "The password is incorrect.",
        "password: 8-16 characters",
        "password = getpass()",
        "my password is too weak, what makes a strong one?",
        'password="your_password_1"',
        "password: ********",
        "a pin is a small thing",
        "password = process.env.DB_PASS1",
        "reset my password to something",
    )


@register
class PasswordInChinese(_Password):
    name = "password_zh"
    source = "Sentences and settings in Chinese: 密码是…, 口令:…"
    prefilters = ("密码|密碼|口令|验证码|驗證碼",)
    reach = (12, 96)
    expression = (
        r"(?:密码|密碼|口令|验证码|驗證碼)[^\n,;。]{0,8}?"
        r"(?:(?:是|为|為|改为|改成|设为|設為|设置为|重置为|:|=|\s)\s{0,2})+[\"'“「]?" + _CHOSEN_VALUE
    )
    examples = (
        "服务器密码是⟦Abc@12345⟧,别外传",
        "登录口令:⟦zhang2024!⟧",
        "数据库密码改成 ⟦Qk7vLw2Z⟧",
        "WiFi密码:⟦88888888a⟧",
        "账号 zhangsan 密码 ⟦abc123456⟧",
    )
    near_misses = ("密码是什么?", "密码要求:8-16位", "忘记密码怎么办", "密码:********", "密码为空时报错")
