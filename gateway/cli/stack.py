"""The composition root of one gateway of the stack: the same pipeline, with other processes behind its targets.

listeners ─ InferenceApp ─ Pipeline ┬─ OnPremTarget ─ NodePool ══ mutual TLS ══ nodes
   │                                ├─ RemoteAuthority ═════════ mutual TLS ══ clearance authority
 HAProxy                            ├─ AuditLog ─ RemoteWitness ═ mutual TLS ══ witness
                                    └─ CloudTarget ─ LeasedBridge ═ sealed ══ Kafka ══ workers
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sqlalchemy.exc import SQLAlchemyError

from cloud_bridge.clearance import ClearanceVerifier
from cloud_bridge.client import Bridge
from cloud_bridge.leases import ReplyLease
from cloud_bridge.transport import REQUEST_PARTITIONS, REQUESTS
from gateway.attestation import ReceiptSigner
from gateway.authority_service import RemoteAuthority
from gateway.cli.assembly import Core, Gateway, assemble, open_core
from gateway.cli.cloud_side import KEY_EPOCH, RECIPIENT, cloud_address
from gateway.cli.peers import open_kafka, open_log, registered_until, required, tls_files
from gateway.hold import Capacity
from gateway.leased_bridge import LeasedBridge
from gateway.nodes import NodePool
from gateway.tenants import Caller, KeyDirectory
from gateway.zones import CloudTarget, OnPremTarget, Zones
from local_inference.client import NodeClient
from runtime.errors import UnavailableError
from runtime.keys import FileKeyRing, trusted_sealing, trusted_signing
from runtime.peer_client import PeerClient
from runtime.service import ServiceClient
from runtime.settings import Settings
from runtime.tls import TlsFiles


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Everything of one gateway of the stack, started; ended in reverse order.

    Raises:
        ConfigurationError: something that must hold before the first request does not.
        TargetError: no broker lets us in.
    """
    async with AsyncExitStack() as stack:
        files = tls_files(settings)
        keys = FileKeyRing(settings.keys_dir)
        peers = await stack.enter_async_context(PeerClient(files))
        core = await open_core(settings, stack, registered_until(files))
        log = await open_log(settings, keys, peers, stack)
        authority = RemoteAuthority(
            ServiceClient(peers.send, required(settings.authority_url, "authority_url")),
            ReceiptSigner(log.audit, log.entry, keys.signing("audit")),
            public_key=trusted_signing(settings.trust_dir, "clearance"),
        )
        bridge = await _open_bridge(settings, files, keys, core, stack)
        address = cloud_address(settings)
        cloud = CloudTarget(
            address.name,
            RECIPIENT,
            bridge,
            base_url=address.base_url,
            model_for=address.model_for,
            topic=REQUESTS,
            partitions=REQUEST_PARTITIONS,
        )
        leasing = asyncio.create_task(bridge.run(), name="reply partition")
        yield assemble(
            settings,
            stack,
            core,
            audit=log.audit,
            keys=keys,
            authority=authority,
            zones=Zones([cloud, _open_onprem(settings, peers)]),
            directory=_KeysOnly(core.engine),
            tasks=[leasing],
        )


def _open_onprem(settings: Settings, peers: PeerClient) -> OnPremTarget:
    urls = required(settings.node_urls, "node_urls").split(",")
    pool = NodePool([NodeClient(url, peers.send).send for url in urls])
    return OnPremTarget(
        "onprem/nodes",
        pool.send,
        pool.models,
        default_model=settings.onprem_model,
        capacity=Capacity(settings.onprem_concurrency, settings.onprem_cloud_share),
        hold_s=settings.hold_s,
    )


async def _open_bridge(
    settings: Settings, files: TlsFiles, keys: FileKeyRing, core: Core, stack: AsyncExitStack
) -> LeasedBridge:
    transport = await open_kafka(settings, files, stack)
    clearance_key = trusted_signing(settings.trust_dir, "clearance")
    recipient_key = trusted_sealing(settings.trust_dir, f"pool-{RECIPIENT}")
    reply_key = keys.sealing("instance")

    def make(lease: ReplyLease) -> Bridge:
        return Bridge(
            transport=transport,
            verifier=ClearanceVerifier(clearance_key, recipient=RECIPIENT),
            recipient_key=recipient_key,
            recipient_epoch=KEY_EPOCH,
            reply_key=reply_key,
            reply_partition=lease.partition,
            reply_epoch=lease.epoch,
        )

    return LeasedBridge(core.engine, make)


class _KeysOnly(KeyDirectory):
    """Behind HAProxy every caller comes from loopback, so nobody is let in for that."""

    async def authenticate(self, authorization: str | None, *, loopback: bool) -> Caller:
        """As ``KeyDirectory``. Raises UnavailableError while the database cannot be read."""
        try:
            return await super().authenticate(authorization, loopback=False)
        except (SQLAlchemyError, OSError, TimeoutError):
            raise UnavailableError(
                "callers' keys cannot be looked up", code="keys_unavailable", retry_after_s=1
            ) from None
