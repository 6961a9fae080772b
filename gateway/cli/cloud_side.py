"""What answers in the cloud zone: the provider behind ``--cloud-url``, or a model of this machine in its place.

The gateway knows its address and sends nothing there; the worker, which does, alone reads the provider's key.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from cloud_bridge.providers.base import Provider, open_provider, plain_base_url
from cloud_bridge.providers.standin import STAND_IN_URL
from gateway.zones import AUTO, with_priority
from local_inference.engines.transformers import MODEL_ID, TransformersEngine
from local_inference.node import Node
from runtime.http import HttpClient, HttpRequest, HttpResponse, Sender, parse_base_url
from runtime.settings import Settings

RECIPIENT = "cloud"
KEY_EPOCH = 1


@dataclass(frozen=True, slots=True)
class CloudAddress:
    """The cloud zone as the gateway routes to it."""

    name: str
    base_url: str
    model_for: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class CloudSide:
    """The cloud zone as the worker reaches it."""

    provider: Provider
    sender: Sender


def cloud_address(settings: Settings) -> CloudAddress:
    """Raises ConfigurationError where the URL is not plain."""
    if settings.cloud_url is None:
        return CloudAddress("cloud/stand-in", STAND_IN_URL, lambda _: MODEL_ID)
    base_url = plain_base_url(_with_version(settings.cloud_url))

    def model_for(model: str) -> str:
        return settings.cloud_model or model if model == AUTO else model

    return CloudAddress(f"cloud/{urlsplit(base_url).netloc}", base_url, model_for)


async def open_cloud_side(settings: Settings, stack: AsyncExitStack, node: Node | None) -> CloudSide:
    """The provider, or ``node`` (by default one of its own) standing in.

    Raises:
        ConfigurationError: unusable URL or key file.
    """
    address = cloud_address(settings)
    if settings.cloud_url is None:
        return _stand_in(node or built_in_node(settings, stack))
    provider = open_provider("openai", base_url=address.base_url, key_file=settings.cloud_key_file)
    http = await stack.enter_async_context(HttpClient())
    return CloudSide(provider, http.send)


def built_in_node(settings: Settings, stack: AsyncExitStack) -> Node:
    """A node with the built-in model, which it loads on first need."""
    # Half the cores: OpenMP's threads wait for each other by spinning, and stall where something else takes a core.
    threads = max((os.cpu_count() or 2) // 2, 1)
    node = Node(lambda: TransformersEngine(settings.models_dir, threads), name=settings.instance)
    stack.push_async_callback(node.aclose)
    return node


def _stand_in(node: Node) -> CloudSide:
    async def sender(request: HttpRequest, deadline: float) -> HttpResponse:
        return await node.handle(with_priority(request, general=True), deadline)

    return CloudSide(open_provider("stand-in", base_url=STAND_IN_URL), sender)


def _with_version(url: str) -> str:
    """A base URL without a path gets ``/v1``, as every OpenAI-compatible server has it."""
    parts = parse_base_url(url, "the zone's URL")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") or "/v1"))
