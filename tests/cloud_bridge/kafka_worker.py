"""A cloud worker as a process of its own, to be killed: it answers with chunks that never end.

Reads one line of JSON: servers, certificates (a folder), pool_key, clearance_key (hex); prints a line when it has begun.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cloud_bridge.clearance import ClearanceVerifier
from cloud_bridge.kafka import KafkaTransport
from cloud_bridge.providers.openai import OpenAIProvider
from cloud_bridge.transport import REQUEST_PARTITIONS
from cloud_bridge.worker import Worker
from runtime.http import HttpRequest
from runtime.tls import TlsFiles
from tests.cloud_bridge.scene import BASE_URL, POOL_EPOCH, RECIPIENT, RecordingProvider


async def drip(_request: HttpRequest) -> AsyncIterator[bytes]:
    while True:
        yield b"drop"
        await asyncio.sleep(0.05)


async def serve(given: dict[str, Any]) -> None:
    folder = Path(given["certificates"])
    files = TlsFiles(folder / "identity.pem", folder / "identity.pem", folder / "ca.pem", folder / "crl.pem")
    clearance_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(given["clearance_key"]))
    async with (
        KafkaTransport(given["servers"], files) as transport,
        Worker(
            transport=transport,
            partitions=range(REQUEST_PARTITIONS),
            keys={POOL_EPOCH: X25519PrivateKey.from_private_bytes(bytes.fromhex(given["pool_key"]))},
            verifier=ClearanceVerifier(clearance_key, recipient=RECIPIENT),
            provider=OpenAIProvider(BASE_URL, "sk-provider-key"),
            sender=RecordingProvider(answer=drip).send,
        ),
    ):
        print("begun", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.stdin.readline())))
