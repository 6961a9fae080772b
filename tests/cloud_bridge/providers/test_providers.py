"""A provider adds its credentials to what was cleared, and nothing else, for its own address alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_bridge.providers import open_provider
from cloud_bridge.providers.openai import OpenAIProvider
from cloud_bridge.providers.standin import STAND_IN_URL
from runtime.errors import ClearanceError, ConfigurationError
from runtime.http import HttpRequest

REQUEST = HttpRequest("POST", "https://api.example/v1/chat/completions", (("content-type", "application/json"),), b"{}")


def test_a_bearer_key_from_a_file_is_all_that_is_added(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("sk-example\n")
    key_file.chmod(0o600)

    prepared = open_provider("openai", base_url="https://api.example/v1/", key_file=key_file).prepare(REQUEST)

    assert prepared == HttpRequest(
        REQUEST.method, REQUEST.url, (*REQUEST.headers, ("authorization", "Bearer sk-example")), REQUEST.body
    )


def test_a_server_without_keys_gets_the_request_as_it_is() -> None:
    assert OpenAIProvider("https://api.example/v1", None).prepare(REQUEST) == REQUEST


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.evil.test/v1/chat/completions",
        "https://api.example/v1beta/chat/completions",
        "http://api.example/v1/chat/completions",
        "https://api.example/v1/../admin",
        "https://api.example:8443/v1/chat/completions",
        "https://api.example/v1",
    ],
)
def test_credentials_go_to_no_other_address(url: str) -> None:
    with pytest.raises(ClearanceError):
        OpenAIProvider("https://api.example/v1", "sk-example").prepare(HttpRequest("POST", url, (), b""))


@pytest.mark.parametrize("key", ["", "two\r\nx-more: lines", "ключ", "with space"])
def test_a_key_that_is_no_header_value_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        OpenAIProvider("https://api.example/v1", key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://api.example/v1", "https://u:p@api.example", "https://api.example/v1?k=1", "x"])
def test_a_base_url_is_plain(url: str) -> None:
    with pytest.raises(ConfigurationError):
        OpenAIProvider(url, None)


def test_an_unknown_kind_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="openai, stand-in"):
        open_provider("other", base_url="https://api.example")


def test_the_stand_in_answers_at_no_real_address_and_takes_no_key(tmp_path: Path) -> None:
    stand_in = open_provider("stand-in", base_url=STAND_IN_URL)
    request = HttpRequest("POST", f"{STAND_IN_URL}/chat/completions", (), b"{}")
    key_file = tmp_path / "key"
    key_file.write_text("sk")
    key_file.chmod(0o600)

    assert stand_in.prepare(request) == request
    with pytest.raises(ClearanceError):
        stand_in.prepare(REQUEST)
    for url, key in (("https://api.example/v1", None), (STAND_IN_URL, key_file)):
        with pytest.raises(ConfigurationError):
            open_provider("stand-in", base_url=url, key_file=key)
