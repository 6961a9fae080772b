"""The gateway's way to a node of ours: its URL, and what is left of the deadline, told to the node."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from local_inference.server import DEADLINE_HEADER, MAX_DEADLINE_MS, REQUEST_ID_HEADER
from runtime.errors import DeadlineExceededError, UpstreamError
from runtime.http import HttpRequest, HttpResponse, Sender, require_onprem_address


class NodeClient:
    """One node (``local_inference.server``) as a ``runtime.http.Sender``; ``send`` is ``PeerClient.send``."""

    def __init__(self, base_url: str, send: Sender) -> None:
        """Raises ConfigurationError where the address is not on-prem; our own CA is pinned, so a private one is."""
        require_onprem_address(base_url, pinned_ca=True)
        self._base_url = base_url.rstrip("/")
        self._send = send

    async def send(self, request: HttpRequest, deadline: float) -> HttpResponse:
        """Send ``request``, whose URL is a path such as ``/v1/chat/completions``.

        Raises:
            TargetError: the node cannot be reached.
            UpstreamError: it answers with a redirect, as no node of ours does.
            DeadlineExceededError
        """
        left_ms = int((deadline - time.monotonic()) * 1000)
        if left_ms <= 0:
            raise DeadlineExceededError("the request's deadline has passed")
        headers = (*request.headers, (DEADLINE_HEADER, str(min(left_ms, MAX_DEADLINE_MS))))
        url = self._base_url + urlsplit(request.url).path
        response = await self._send(HttpRequest(request.method, url, headers, request.body), deadline)
        if 300 <= response.status < 400:
            await response.aclose()
            raise UpstreamError("the node redirects, which is not followed", code="redirect_refused")
        return response


def with_request_id(request: HttpRequest, request_id: str) -> HttpRequest:
    """The request under the id by which nodes see to it that only one of them answers."""
    return HttpRequest(request.method, request.url, (*request.headers, (REQUEST_ID_HEADER, request_id)), request.body)
