"""What may cross at all: ids, destination and headers. The gateway renders by these rules, the worker refuses others.

TRUST.md, rule 3: headers cross by allow-list, query strings never cross, ``traceparent`` is made anew.
"""

from __future__ import annotations

import re
import secrets

import msgspec

from runtime.errors import ClearanceError
from runtime.http import Headers, HttpRequest
from runtime.ids import CLIENT_ID

# A header crosses only with a value of a known shape, so that none can carry anything else out.
REQUEST_HEADERS: dict[str, re.Pattern[str]] = {
    "accept": re.compile(r"application/json|text/event-stream|\*/\*"),
    "content-type": re.compile(r"application/json"),
    "traceparent": re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]"),
}

# What comes back. A provider's request ids, rate-limit counters and cookies describe its account, not the answer.
RESPONSE_HEADERS: dict[str, re.Pattern[str]] = {
    "content-type": re.compile(r"[a-z]+/[a-z0-9.+-]{1,64}(; ?charset=[A-Za-z0-9-]{1,16})?"),
    "retry-after": re.compile(r"[0-9A-Za-z ,:]{1,32}"),
    "retry-after-ms": re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?"),
}

_METHODS = frozenset({"GET", "POST"})
_POLICY_VERSION = re.compile(r"[\w.:@+-]{1,160}", re.ASCII)  # `unsigned:` stands before a version that nobody signed
_MAX_PARTITION = 2**31 - 1
# One spelling of a URL only: what an HTTP client would rewrite (upper case, default ports, dot segments) is refused.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::[1-9][0-9]{0,4})?)"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,1024})"
)
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE)


class Crossing(msgspec.Struct, frozen=True):
    """One attempt to send one request to one recipient.

    Attributes:
        recipient: who will see the data; also the name of the worker pool's key.
        attempt: 1 for the first; each retry is a crossing of its own.
        request: exactly what will be sent, without credentials; the URL is absolute.
        stream: whether the caller wants the answer streamed.
        topic, partition: the only place where the message may stand.
        deadline_us: wall clock, microseconds since the Unix epoch.
    """

    request_id: str
    decision_id: str
    policy_version: str
    tenant: str
    recipient: str
    attempt: int
    request: HttpRequest
    stream: bool
    topic: str
    partition: int
    deadline_us: int


class Destination(msgspec.Struct, frozen=True):
    """A URL in its parts; ``host`` has the port where one is given."""

    scheme: str
    host: str
    path: str


def parse_destination(url: str) -> Destination:
    """The parts of an absolute URL that has one reading only.

    Raises:
        ClearanceError: it has a query, a fragment, credentials, dot segments or a spelling that clients rewrite.
    """
    match = _URL.fullmatch(url)
    if match is None or _DOT_SEGMENT.search(match["path"]):
        code = "crossing_query" if "?" in url else "crossing_url"
        raise ClearanceError(
            "the URL of the crossing is not plain scheme, host and path", code=code, param="/request/url"
        )
    return Destination(match["scheme"], match["host"], match["path"])


def check_crossing(crossing: Crossing) -> Destination:
    """Check everything about a crossing that can be checked without its body's meaning; returns its destination.

    Raises:
        ClearanceError: an id, the destination or a header is not of the allowed shape; ``param`` points at it.
    """
    for name in ("request_id", "decision_id", "tenant", "recipient", "topic"):
        if not CLIENT_ID.fullmatch(getattr(crossing, name)):
            raise ClearanceError(
                "an id of the crossing has characters outside [A-Za-z0-9_.-]", code="crossing_id", param=f"/{name}"
            )
    if not _POLICY_VERSION.fullmatch(crossing.policy_version):
        raise ClearanceError("the policy version is malformed", code="crossing_id", param="/policy_version")
    if not 1 <= crossing.attempt <= 1000 or not 0 <= crossing.partition <= _MAX_PARTITION:
        raise ClearanceError("attempt or partition is out of range", code="crossing_id", param="/attempt")
    if crossing.request.method not in _METHODS:
        raise ClearanceError("this method does not cross", code="crossing_method", param="/request/method")
    _check_headers(crossing.request.headers)
    return parse_destination(crossing.request.url)


def _check_headers(headers: Headers) -> None:
    seen: set[str] = set()
    for index, (name, value) in enumerate(headers):
        pattern = REQUEST_HEADERS.get(name)
        if pattern is None or name in seen or not pattern.fullmatch(value):
            raise ClearanceError(
                "a header is not on the allow-list, is repeated or has an unknown value",
                code="crossing_header",
                param=f"/request/headers/{index}",
            )
        seen.add(name)


def returned_headers(headers: dict[str, str]) -> Headers:
    """Those headers of a provider's answer that come back, by allow-list; names in lower case."""
    return tuple(
        (name, value)
        for name, pattern in RESPONSE_HEADERS.items()
        if (value := headers.get(name)) is not None and pattern.fullmatch(value)
    )


def new_traceparent() -> str:
    """A W3C trace context that shares nothing with the caller's; sampled flag off."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
