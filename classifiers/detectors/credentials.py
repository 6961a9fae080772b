"""Keys and tokens that carry their issuer's mark, private keys, signed tokens, and passwords in URLs."""

from __future__ import annotations

import base64
import binascii
import re

import msgspec

from classifiers.base import Entity, PatternDetector, Verdict, register
from classifiers.label import Sensitivity

_MIN_DISTINCT = 6
_PLACEHOLDER = re.compile(
    r"example|sample|placeholder|your|xxxx|\*{3}|\.{3}|change_?me|dummy|redacted|[<>{}$]",
    re.IGNORECASE,
)


def is_placeholder(value: str) -> bool:
    """Whether a secret's place is taken by a template, a mask or a documented example."""
    return _PLACEHOLDER.search(value) is not None or len(set(value)) < min(_MIN_DISTINCT, len(value) // 2)


def credential(entity_type: str, title: str) -> Entity:
    """An entity of category ``credential``: whoever reads it can act with it."""
    return Entity(entity_type, "credential", Sensitivity.RESTRICTED, title)


class TokenDetector(PatternDetector):
    """A token with a fixed prefix. Examples are written in two parts so that no secret scanner takes them for live ones."""

    alone = 0.95

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        return Verdict.PLACEHOLDER if is_placeholder(value) else Verdict.UNCHECKED


@register
class AwsAccessKey(TokenDetector):
    name = "aws_access_key"
    source = (
        "AWS IAM unique identifiers: four-letter prefix and sixteen characters (base32 as issued; mistyped ones count)"
    )
    entities = (credential("AWS_ACCESS_KEY", "AWS access key id"),)
    prefilters = (r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}",)
    reach = (22, 4)
    expression = r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"
    examples = ("aws_access_key_id = ⟦AKIA" + "Y34FZKBOKMUTVV7A⟧", "aws key ⟦AKIA" + "2E0A8F3B244C9986⟧")
    near_misses = ("AKIAIOSFODNN7EXAMPLE", "AKIAXXXXXXXXXXXXXXXX")


@register
class AwsSecretKey(TokenDetector):
    name = "aws_secret_key"
    source = "AWS IAM secret access key: forty base64 characters, told by the words before it"
    entities = (credential("AWS_SECRET_KEY", "AWS secret access key"),)
    prefilters = (r"(?i)secret.{0,3}(?:access)?.{0,3}key|aws.{0,3}secret",)
    reach = (40, 80)
    expression = r"(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
    words = ("aws secret", "secret access key", "secret key", "aws_secret_access_key", "secretaccesskey")
    alone = 0.3
    examples = ("aws_secret_access_key=⟦k9Zt4QwL+" + "8vYxR2nBf7HcJ5mPqD1sG6uTeWaVi0/⟧",)
    near_misses = ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",)


@register
class GcpApiKey(TokenDetector):
    name = "gcp_api_key"
    source = "Google Cloud API keys: AIza and 35 characters; OAuth client secrets GOCSPX-"
    entities = (credential("GCP_API_KEY", "Google Cloud API key"),)
    prefilters = (r"AIza[0-9A-Za-z_\-]{35}", r"GOCSPX-[0-9A-Za-z_\-]{28}")
    reach = (42, 4)
    expression = r"(?<![A-Za-z0-9_\-])(?:AIza[0-9A-Za-z_\-]{35}|GOCSPX-[0-9A-Za-z_\-]{28})(?![A-Za-z0-9_\-])"
    examples = ("key=⟦AIza" + "SyD4k8Qp2Lw7ZxV9bT1cR5nM3hJ6gFyEuW0⟧",)
    near_misses = ("AIzaXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX", "AIzaShort")


@register
class AzureKey(TokenDetector):
    name = "azure_key"
    source = "Azure storage account keys (64 bytes), shared access keys (32 bytes), Entra client secrets (…8Q~…)"
    entities = (credential("AZURE_KEY", "Azure key"),)
    prefilters = (r"AccountKey=[A-Za-z0-9+/]{86}", r"SharedAccessKey=[A-Za-z0-9+/]{43}", r"[0-9]Q~[A-Za-z0-9_~.\-]{31}")
    reach = (100, 8)
    expression = (
        r"(?<=AccountKey=)[A-Za-z0-9+/]{86}==|(?<=SharedAccessKey=)[A-Za-z0-9+/]{43}="
        r"|(?<![A-Za-z0-9_~.\-])[A-Za-z0-9_~.\-]{3}\dQ~[A-Za-z0-9_~.\-]{31,34}(?![A-Za-z0-9_~\-])"
    )
    examples = (
        "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=⟦"
        + "Qk7vLw2Zx9bR1cM5hJ6gFyEuW0pDaSi4tXoT3nK9vQ2" * 2
        + "==⟧;",
        "SharedAccessKey=⟦" + "Qk7vLw2Zx9bR1cM5hJ6gFyEuW0pDaSi4tXoT3nK9vQ2=⟧",
        "client secret ⟦Qk7" + "8Q~vLw2Zx9bR1cM5hJ6gFyEuW0pDaSi4tX⟧",
    )
    near_misses = ("AccountKey=...", "SharedAccessKey=<your-key>")


@register
class GithubToken(TokenDetector):
    name = "github_token"
    source = "GitHub token formats: ghp_, gho_, ghu_, ghs_, ghr_ and github_pat_"
    entities = (credential("GITHUB_TOKEN", "GitHub token"),)
    prefilters = (r"gh[opsur]_[A-Za-z0-9]{36}", r"github_pat_[A-Za-z0-9_]{22}")
    reach = (42, 96)
    expression = r"(?<![A-Za-z0-9])(?:gh[opsur]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})(?![A-Za-z0-9_])"
    examples = ("token ⟦ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a⟧",)
    near_misses = ("ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "ghp_short")


@register
class GitlabToken(TokenDetector):
    name = "gitlab_token"
    source = "GitLab token prefixes: glpat-, gldt-, glrt-, glptt-, GR1348941"
    entities = (credential("GITLAB_TOKEN", "GitLab token"),)
    prefilters = (r"gl(?:pat|dt|rt|ptt|oas|ft)-[A-Za-z0-9_\-]{20}", r"GR1348941[A-Za-z0-9_\-]{20}")
    reach = (34, 48)
    expression = r"(?<![A-Za-z0-9])(?:gl(?:pat|dt|rt|ptt|oas|ft)-|GR1348941)[A-Za-z0-9_\-.]{20,64}(?![A-Za-z0-9_\-])"
    examples = ("⟦glpat-" + "Zk3vQ8sLw2xR7bT9cN4m⟧",)
    near_misses = ("glpat-xxxxxxxxxxxxxxxxxxxx", "glpat-<token>")


@register
class SlackToken(TokenDetector):
    name = "slack_token"
    source = "Slack tokens xoxb-, xoxp-, xapp- … and incoming webhook URLs"
    entities = (credential("SLACK_TOKEN", "Slack token or webhook"),)
    prefilters = (
        r"xox[abeoprs]-[0-9A-Za-z\-]{10}",
        r"xapp-[0-9]-[A-Z0-9]{8}",
        r"hooks\.slack\.com/(?:services|workflows)/",
    )
    reach = (64, 260)
    expression = (
        r"(?<![A-Za-z0-9])(?:xox[abeoprs]-[0-9A-Za-z\-]{10,250}|xapp-\d-[A-Z0-9]{8,20}-\d{8,20}-[a-f0-9]{32,128}"
        r"|https://hooks\.slack\.com/(?:services|workflows)/T[A-Z0-9]{6,12}/[A-Z]?[A-Z0-9]{6,12}/[A-Za-z0-9]{16,48})(?![A-Za-z0-9])"
    )
    examples = ("⟦xoxb-" + "263594206564-2343594206574-FGqddMF8t08v8N7Oq4i57vs1⟧",)
    near_misses = (
        "xoxb-your-token-here",
        "https://hooks.slack.com/services/TXXXXXXXX/BXXXXXXXX/xxxxxxxxxxxxxxxxxxxxxxxx",
    )


@register
class StripeKey(TokenDetector):
    name = "stripe_key"
    source = "Stripe secret and restricted keys, live and test, and webhook signing secrets"
    entities = (credential("STRIPE_KEY", "Stripe key"),)
    prefilters = (r"[sr]k_(?:live|test)_[A-Za-z0-9]{16}", r"whsec_[A-Za-z0-9+/=]{24}")
    reach = (34, 110)
    expression = (
        r"(?<![A-Za-z0-9])(?:[sr]k_(?:live|test)_[A-Za-z0-9]{16,128}|whsec_[A-Za-z0-9+/=]{24,64})(?![A-Za-z0-9])"
    )
    examples = ("⟦sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc⟧",)
    near_misses = ("sk_live_xxxxxxxxxxxxxxxxxxxx", "pk_live_4eC39HqLyjWDarjtT1zdp7dc")


@register
class OpenAiKey(TokenDetector):
    name = "openai_key"
    source = "OpenAI API keys: sk-, sk-proj-, sk-svcacct-; the same form is used by DeepSeek and others"
    entities = (credential("OPENAI_KEY", "OpenAI-style API key"),)
    prefilters = (r"sk-(?:proj-|svcacct-|admin-|or-v1-)?[A-Za-z0-9_\-]{20}",)
    reach = (44, 220)
    expression = (
        r"(?<![A-Za-z0-9_\-])(?:sk-(?:proj|svcacct|admin)-[A-Za-z0-9_\-]{20,200}|sk-or-v1-[a-f0-9]{64}|sk-[A-Za-z0-9]{20,64})"
        r"(?![A-Za-z0-9_\-])"
    )
    examples = (
        "OPENAI_API_KEY=⟦sk-" + "T3nK9vQ2Lw7ZxV8bR1cM5hJ6gFyEuW0pDaSi4tXo⟧",
        "⟦sk-proj-" + "a8Kd_92LmQx-77TzPwVb4nRfGh3YcJ5s⟧",
    )
    near_misses = (
        "sk-your-api-key-goes-here-please",
        "sk-xxxxxxxxxxxxxxxxxxxxxxxx",
        "task-management-and-planning-board",
        "sk-ant-api03",
    )


@register
class AnthropicKey(TokenDetector):
    name = "anthropic_key"
    source = "Anthropic API and administration keys: sk-ant-api03-, sk-ant-admin01-"
    entities = (credential("ANTHROPIC_KEY", "Anthropic API key"),)
    prefilters = (r"sk-ant-[a-z]{3,8}[0-9]{2}-[A-Za-z0-9_\-]{20}",)
    reach = (52, 110)
    expression = r"(?<![A-Za-z0-9_\-])sk-ant-[a-z]{3,8}\d\d-[A-Za-z0-9_\-]{20,128}(?![A-Za-z0-9_\-])"
    examples = ("key: ⟦sk-ant-api03-" + "Qk7vLw2Zx9bR1cM5hJ6gFyEuW0pDaSi4tXoT3nK9vQ2Lw⟧",)
    near_misses = ("sk-ant-api03-xxxxxxxxxxxxxxxxxxxxxxxx", "sk-ant-api03-...")


@register
class ServiceToken(TokenDetector):
    name = "service_token"
    source = (
        "Prefixes published by Hugging Face, npm, PyPI, SendGrid, DigitalOcean, Shopify, Databricks, Linear, Vault, "
        "Telegram, Alibaba Cloud, Tencent Cloud, Groq, Replicate"
    )
    entities = (credential("API_TOKEN", "API token of a known service"),)
    prefilters = (
        r"hf_[A-Za-z]{34}",
        r"npm_[A-Za-z0-9]{36}",
        r"pypi-[A-Za-z0-9_\-]{50}",
        r"SG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{16}",
        r"do[opr]_v1_[a-f0-9]{64}",
        r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}",
        r"dapi[a-f0-9]{32}",
        r"lin_api_[A-Za-z0-9]{32}",
        r"hvs\.[A-Za-z0-9_\-]{24}",
        r"[0-9]{8,10}:AA[A-Za-z0-9_\-]{33}",
        r"LTAI[A-Za-z0-9]{16}",
        r"AKID[A-Za-z0-9]{32}",
        r"gsk_[A-Za-z0-9]{40}",
        r"r8_[A-Za-z0-9]{37}",
    )
    reach = (90, 220)
    expression = (
        r"(?<![A-Za-z0-9_])(?:hf_[A-Za-z]{34}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_\-]{50,220}"
        r"|SG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{16,64}|do[opr]_v1_[a-f0-9]{64}|shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}"
        r"|dapi[a-f0-9]{32}|lin_api_[A-Za-z0-9]{32,48}|hvs\.[A-Za-z0-9_\-]{24,160}|\d{8,10}:AA[A-Za-z0-9_\-]{33}"
        r"|LTAI[A-Za-z0-9]{16,20}|AKID[A-Za-z0-9]{32}|gsk_[A-Za-z0-9]{40,60}|r8_[A-Za-z0-9]{37})(?![A-Za-z0-9_\-])"
    )
    examples = (
        "HF ⟦hf_" + "QkVLwZxbRcMhJgFyEuWpDaSitXoTnKvYqL⟧",
        "阿里云 AccessKey ⟦LTAI" + "5tQk7vLw2Zx9bR1cM5hJ⟧",
        "⟦npm_" + "Qk7vLw2Zx9bR1cM5hJ6gFyEuW0pDaSi4tXoT⟧",
    )
    near_misses = ("hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "hf_hub_download(repo_id)", "npm_config_registry=local")


@register
class PrivateKey(PatternDetector):
    name = "private_key"
    source = "RFC 7468 textual encodings; OpenSSH and OpenPGP private key blocks"
    entities = (credential("PRIVATE_KEY", "Private key"),)
    prefilters = (r"-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY",)
    reach = (64, 8192)
    # The body stops at the next dashes, so that many openings without an end stay linear.
    expression = (
        r"-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----(?P<body>(?:[^-]|-(?!----)){0,16384}+)"
        r"(?:-----END [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----)?"
    )
    alone = 0.99
    examples = (
        "⟦-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQk7vLw2Zx9bR1cM5\n-----END PRIVATE KEY-----⟧",
        "⟦-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----⟧",
    )
    near_misses = (
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "What does -----BEGIN RSA PRIVATE KEY----- mean?",
        "-----BEGIN PUBLIC KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PUBLIC KEY-----",
    )

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        return Verdict.UNCHECKED if _KEY_MATERIAL.search(found["body"]) else Verdict.PLACEHOLDER


_KEY_MATERIAL = re.compile(r"[A-Za-z0-9+/=]{16}")  # the beginning of a key is too much already


@register
class JsonWebToken(PatternDetector):
    name = "jwt"
    source = "RFC 7519 and 7515: three base64url parts, the first a JSON header that names an algorithm"
    entities = (credential("JWT", "JSON web token"),)
    prefilters = (r"eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{4}",)
    reach = (1024, 4096)
    expression = r"(?<![A-Za-z0-9_\-])(?P<header>eyJ[A-Za-z0-9_\-]{8,1000})\.eyJ[A-Za-z0-9_\-]{4,8000}\.[A-Za-z0-9_\-]{16,1024}(?![A-Za-z0-9_\-])"
    alone = 0.97
    examples = (
        "Bearer ⟦eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsInNjb3BlIjoiYWxsIn0.q7vLw2Zx9bR1cM5hJ6gFyEuW0pDaSi4tXoT3nK9vQ2L⟧",
    )
    near_misses = (
        "eyJhbGciOiJIUzI1NiJ9 is a header",
        "eyJxxxxxxxxxxxx.eyJxxxxxxxx.xxxxxxxxxxxxxxxxxxxx",
    )

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        header = found["header"]
        try:
            decoded = msgspec.json.decode(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
        except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError):
            return Verdict.PLACEHOLDER
        return Verdict.VALID if isinstance(decoded, dict) and "alg" in decoded else Verdict.PLACEHOLDER


class _UrlPassword(PatternDetector):
    """A password before the ``@`` of a URL."""

    reach = (200, 600)
    alone = 0.9

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        secret = found["secret"]
        if _PLACEHOLDER.search(secret) or secret.lower() in _SAMPLE_PASSWORDS or secret == found["user"]:
            return Verdict.PLACEHOLDER
        return Verdict.UNCHECKED


_USER_INFO = r"://(?P<user>[^\s:/@\"'<>]{0,96}):(?P<secret>[^\s/@\"'<>]{1,160})@[^\s\"'<>,)\\]{1,400}"
_SAMPLE_PASSWORDS = frozenset(
    {"password", "pass", "passwd", "pwd", "secret", "token", "pw", "p", "test", "user", "port", "密码"}
)


@register
class ConnectionString(_UrlPassword):
    name = "connection_string"
    source = "Database and broker URLs (RFC 3986 user information)"
    entities = (credential("CONNECTION_STRING", "Connection string with a password"),)
    prefilters = (
        r"(?i)(?:postgres|postgresql|mysql|mariadb|mongodb|redis|rediss|amqps?|mssql|sqlserver|oracle|clickhouse|kafka|ldaps?|nats)"
        r"(?:\+[a-z0-9]+)?://[^\s/@]*@",
    )
    expression = (
        r"(?i)(?<![a-z0-9])(?:postgres|postgresql|mysql|mariadb|mongodb|redis|rediss|amqps?|mssql|sqlserver|oracle|clickhouse|kafka"
        r"|ldaps?|nats)(?:\+[a-z0-9]{1,16})?" + _USER_INFO
    )
    examples = (
        "DATABASE_URL=⟦postgresql://app:s3cr3tPw9@db.internal:5432/orders⟧",
        "⟦redis://:Zk3vQ8sLw2@10.0.0.5:6379/0⟧ 连不上",
        "⟦mysql+pymysql://root:Zk3vQ8sLw2@10.0.0.5/app⟧",
    )
    near_misses = (
        "postgres://user:password@localhost/db",
        "mysql://root:<password>@host/db",
        "redis://localhost:6379",
        "postgres://postgres:postgres@db/app",
        "mongodb://${USER}:${PASS}@host",
    )


@register
class UrlCredentials(_UrlPassword):
    name = "url_credentials"
    source = "RFC 3986, user information with a password in web, file-transfer and Git URLs"
    entities = (credential("URL_CREDENTIALS", "Password in a URL"),)
    prefilters = (r"(?i)(?:https?|ftps?|sftp|ssh|git|smtps?|imaps?|wss?|socks5)://[^\s/@]*@",)
    expression = r"(?i)(?<![a-z0-9])(?:https?|ftps?|sftp|ssh|git|smtps?|imaps?|wss?|socks5)" + _USER_INFO
    examples = ("clone ⟦https://deploy:gT9xQ2vLw7@git.acme.io/app.git⟧",)
    near_misses = ("https://user:pass@example.com", "https://acme.io/@user:tag", "http://host:8080/a@b")
