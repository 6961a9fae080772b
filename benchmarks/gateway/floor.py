"""The floor's process: reads a body, posts it over a kept connection, gives the answer back. ``PORT UPSTREAM_URL``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import uvicorn
import uvloop

Message = MutableMapping[str, Any]


class Floor:
    """A raw ASGI application over one client."""

    def __init__(self, client: aiohttp.ClientSession, upstream_url: str) -> None:
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
        async with self._client.post(self._url, data=body, headers={"content-type": "application/json"}) as response:
            kind = response.headers.get("content-type", "").encode()
            headers = [(b"content-type", kind)]
            if kind.startswith(b"text/event-stream"):
                await send({"type": "http.response.start", "status": response.status, "headers": headers})
                async for chunk in response.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
                return
            data = await response.read()
            headers.append((b"content-length", str(len(data)).encode()))
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            await send({"type": "http.response.body", "body": data})


async def serve(port: int, upstream_url: str) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as client:
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
