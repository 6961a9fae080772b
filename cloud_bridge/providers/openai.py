"""Any OpenAI-compatible API: ``Authorization: Bearer`` and nothing more (platform.openai.com/docs/api-reference)."""

from __future__ import annotations

import re

from cloud_bridge.providers.base import plain_base_url, require_address
from runtime.errors import ConfigurationError
from runtime.http import HttpRequest

_KEY = re.compile(r"[\x21-\x7e]{1,4096}")


class OpenAIProvider:
    """``base_url`` ends before ``/chat/completions``; without a key nothing is added (a server that asks for none).

    Raises:
        ConfigurationError: the URL is not plain, or the key is no visible ASCII.
    """

    def __init__(self, base_url: str, key: str | None) -> None:
        if key is not None and not _KEY.fullmatch(key):
            raise ConfigurationError("the provider's key must be visible ASCII on one line")
        self.base_url = plain_base_url(base_url)
        self._credentials = (("authorization", f"Bearer {key}"),) if key is not None else ()

    def prepare(self, request: HttpRequest) -> HttpRequest:
        require_address(self.base_url, request)
        return HttpRequest(request.method, request.url, (*request.headers, *self._credentials), request.body)
