"""The stand-in: a local model in the provider's place, so that a first look needs no account. It says so by its name."""

from __future__ import annotations

from cloud_bridge.providers.base import require_address
from runtime.errors import ConfigurationError
from runtime.http import HttpRequest

STAND_IN_URL = (
    "http://stand-in.invalid/v1"  # `.invalid` never resolves (RFC 2606): only an in-process sender answers it
)


class StandIn:
    """Takes no credentials and answers at no real address; its worker is given an in-process model as sender.

    Raises:
        ConfigurationError: another address than ``STAND_IN_URL``, or a key.
    """

    def __init__(self, base_url: str = STAND_IN_URL, key: str | None = None) -> None:
        if base_url != STAND_IN_URL or key is not None:
            raise ConfigurationError("the stand-in has one address and takes no key")
        self.base_url = base_url

    def prepare(self, request: HttpRequest) -> HttpRequest:
        require_address(self.base_url, request)
        return request
