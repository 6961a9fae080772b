"""What a provider is. One file a provider; ``PROVIDERS`` names them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cloud_bridge.crossing import parse_destination
from runtime.errors import ClearanceError, ConfigurationError
from runtime.http import HttpRequest, parse_base_url
from runtime.settings import read_secret


class Provider(Protocol):
    """Adds to a cleared request what only the cloud side may know, and nothing else."""

    base_url: str

    def prepare(self, request: HttpRequest) -> HttpRequest:
        """The request with its credentials; method, URL, body and the cleared headers stay as they are.

        Raises:
            ClearanceError: the request is not for this provider's address.
        """
        ...


def plain_base_url(url: str) -> str:
    """A base URL in the one spelling that crossings use, without a slash at its end.

    Raises:
        ConfigurationError: it is no plain http(s) URL.
    """
    parts = parse_base_url(url, "a provider's URL")
    try:
        destination = parse_destination(f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/') or '/'}")
    except ClearanceError:
        raise ConfigurationError("a provider's URL must be plain: no default port, no dot segments") from None
    return f"{destination.scheme}://{destination.host}{destination.path.rstrip('/')}"


def require_address(base_url: str, request: HttpRequest) -> None:
    """Refuse a request whose URL is not below ``base_url``: credentials go nowhere else.

    Raises:
        ClearanceError: ``provider_address``.
    """
    parse_destination(request.url)
    if not request.url.startswith(f"{base_url}/"):
        raise ClearanceError("the request is for another address than its provider's", code="provider_address")


def open_provider(kind: str, *, base_url: str, key_file: Path | None = None) -> Provider:
    """A provider by its kind.

    Raises:
        ConfigurationError: unknown kind, unusable URL or key file.
    """
    from cloud_bridge.providers.openai import OpenAIProvider
    from cloud_bridge.providers.standin import StandIn

    kinds: dict[str, Callable[[str, str | None], Provider]] = {"openai": OpenAIProvider, "stand-in": StandIn}
    if kind not in kinds:
        raise ConfigurationError(f"a provider is one of {', '.join(sorted(kinds))}")
    return kinds[kind](base_url, read_secret(key_file))
