"""What may cross at all: ids, destination, headers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.crossing import check_crossing, new_traceparent, parse_destination, returned_headers
from runtime.errors import ClearanceError
from tests.cloud_bridge.scene import crossing


def test_a_plain_url_is_read_in_its_parts() -> None:
    destination = parse_destination("https://api.example:8443/v1/chat/completions")

    assert (destination.scheme, destination.host, destination.path) == (
        "https",
        "api.example:8443",
        "/v1/chat/completions",
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example/v1?secret=1",
        "https://api.example/v1?",
        "https://api.example/v1#secret",
        "https://user:secret@api.example/v1",
        "https://api.example",
        "https://API.example/v1",
        "https://api.example/v1/../admin",
        "https://api.example/v1/%2E%2e/admin",
        "https://api.example/v1/.",
        "https://api.example\\@other.example/v1",
        "https://api.example/v1\n",
        "https://api.example/v1/\tx",
        "https://api.example:080/v1",
        "https://käse.example/v1",
        "ftp://api.example/v1",
        "/v1/chat/completions",
        "",
    ],
)
def test_a_url_that_a_client_might_read_otherwise_is_refused(url: str) -> None:
    with pytest.raises(ClearanceError) as caught:
        parse_destination(url)

    assert caught.value.param == "/request/url"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        ("cookie", "a=b"),
        ("baggage", "user=1"),
        ("tracestate", "x=y"),
        ("x-forwarded-for", "10.0.0.1"),
        ("authorization", "Bearer caller"),
        ("Content-Type", "application/json"),
        ("content-type", "application/json; note=hello"),
        ("accept", "text/html"),
        ("traceparent", "00-not-hex"),
        ("content-type", "application/json\r\nx-more: 1"),
    ],
)
def test_a_header_off_the_allow_list_or_with_room_for_more_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(ClearanceError, match="allow-list") as caught:
        check_crossing(crossing(headers=(header,)))

    assert caught.value.code == "crossing_header"
    assert header[1] not in str(caught.value)


def test_a_repeated_header_is_refused() -> None:
    with pytest.raises(ClearanceError, match="repeated"):
        check_crossing(crossing(headers=(("accept", "application/json"), ("accept", "text/event-stream"))))


@pytest.mark.parametrize("name", ["request_id", "decision_id", "tenant", "recipient", "topic"])
@pytest.mark.parametrize("value", ["", "a b", "naïve", "x" * 129, "a/b", "a\n"])
def test_an_id_is_of_the_known_characters(name: str, value: str) -> None:
    changes: dict[str, Any] = {name: value}
    with pytest.raises(ClearanceError) as caught:
        check_crossing(crossing(**changes))

    assert (caught.value.code, caught.value.param) == ("crossing_id", f"/{name}")


@pytest.mark.parametrize("changes", [{"attempt": 0}, {"partition": -1}, {"policy_version": "a b"}, {"method": "PATCH"}])
def test_other_fields_are_in_range(changes: dict[str, Any]) -> None:
    with pytest.raises(ClearanceError):
        check_crossing(crossing(**changes))


def test_a_made_traceparent_may_cross_and_is_new_each_time() -> None:
    made = {new_traceparent() for _ in range(8)}

    assert len(made) == 8
    for value in made:
        check_crossing(crossing(headers=(("traceparent", value),)))


@given(st.dictionaries(st.text(max_size=16), st.text(max_size=32), max_size=6))
def test_only_known_headers_come_back(headers: dict[str, str]) -> None:
    came = returned_headers(
        headers | {"content-type": "text/event-stream; charset=utf-8", "x-request-id": "r", "set-cookie": "c"}
    )

    assert {name for name, _ in came} <= {"content-type", "retry-after", "retry-after-ms"}
    assert ("content-type", "text/event-stream; charset=utf-8") in came
