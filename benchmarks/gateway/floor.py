"""The floor's process: reads a body, posts it over a kept connection, gives the answer back. ``PORT UPSTREAM_URL``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
import uvloop
from pyreqwest.client import Client, ClientBuilder

Message = MutableMapping[str, Any]
_MAX_IDLE = 1024


class Floor:
    """A raw ASGI application over one client."""

    def __init__(self, client: Client, upstream_url: str) -> None:
        self._client = client
        self._url = f"{upstream_url}/chat/completions"

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        request = self._client.post(self._url).header("content-type", "application/json").body_bytes(body)
        async with request.streamed_read_buffer_limit(0).build_streamed() as response:
            kind = response.headers.get("content-type", "").encode()
            headers = [(b"content-type", kind)]
            if kind.startswith(b"text/event-stream"):
                await send({"type": "http.response.start", "status": response.status, "headers": headers})
                while chunk := await response.body_reader.read_chunk():
                    await send({"type": "http.response.body", "body": bytes(chunk), "more_body": True})
                await send({"type": "http.response.body", "body": b""})
                return
            data = bytes(await response.bytes())
            headers.append((b"content-length", str(len(data)).encode()))
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            await send({"type": "http.response.body", "body": data})


async def serve(port: int, upstream_url: str) -> None:
    builder = ClientBuilder().no_proxy().http1_only().tcp_nodelay(True).pool_max_idle_per_host(_MAX_IDLE)
    async with builder.build() as client:
        config = uvicorn.Config(
            Floor(client, upstream_url),
            port=port,
            loop="none",
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            backlog=4096,
        )
        gc.freeze()
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
