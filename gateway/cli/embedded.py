"""The composition root of the embedded path: one process, SQLite, in-process bridge and clearance authority.

    listeners ─ InferenceApp ─ Pipeline ┬─ OnPremTarget ─ node (built-in model or --onprem-url)
                                        └─ CloudTarget ─ Bridge ═ sealed ═ Worker ─ provider (--cloud-url or stand-in)

The stack (``gateway.cli.stack``) puts processes, certificates and brokers in the place of calls; the pipeline stays as it is.
"""

from __future__ import annotations

import asyncio
import datetime
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from audit.log import AuditLog
from audit.witness import LocalWitness
from cloud_bridge.clearance import ClearanceAuthority, ClearanceVerifier
from cloud_bridge.client import Bridge
from cloud_bridge.transport import REQUESTS, InProcessTransport
from cloud_bridge.worker import Worker
from gateway.authority import DecisionProof, Recheck
from gateway.cli.assembly import Gateway, assemble, open_core
from gateway.cli.cloud_side import KEY_EPOCH, RECIPIENT, built_in_node, cloud_address, open_cloud_side
from gateway.hold import Capacity
from gateway.tenants import KeyDirectory
from gateway.zones import CloudTarget, OnPremTarget, Zones
from local_inference.node import Node
from local_inference.remote import RemoteNode, open_client
from runtime.keys import FileKeyRing
from runtime.settings import Settings, read_secret

REGISTERED_FOR = datetime.timedelta(days=30)


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Everything of one embedded gateway, started; ended in reverse order.

    Raises:
        ConfigurationError: something that must hold before the first request does not.
    """
    async with AsyncExitStack() as stack:
        keys = FileKeyRing(settings.keys_dir)
        core = await open_core(settings, stack, datetime.datetime.now(datetime.UTC) + REGISTERED_FOR)
        witness = LocalWitness(
            settings.witness_dir,
            key=keys.signing("witness"),
            register_key=keys.signing("audit").public_key(),
        )
        audit = await asyncio.to_thread(
            AuditLog.open,
            settings.audit_dir,
            key=keys.signing("audit"),
            register_key=keys.signing("audit"),
            witness=witness,
            instance=settings.instance,
        )
        stack.push_async_callback(audit.aclose)

        def receipt_holds(proof: DecisionProof) -> bool:
            return audit.holds(proof.receipt)

        authority = ClearanceAuthority(
            key=keys.signing("clearance"),
            recheck=Recheck(core.classifier, core.policies.current, core.wires),
            receipt_holds=receipt_holds,
            rate_per_s=settings.clearances_per_s,
        )
        onprem, node = await _open_onprem(settings, stack)
        cloud = await _open_cloud(settings, stack, keys, authority, node)
        yield assemble(
            settings,
            stack,
            core,
            audit=audit,
            keys=keys,
            authority=authority,
            zones=Zones([cloud, onprem]),
            directory=KeyDirectory(core.engine),
        )


async def _open_onprem(settings: Settings, stack: AsyncExitStack) -> tuple[OnPremTarget, Node | None]:
    capacity = Capacity(settings.onprem_concurrency, settings.onprem_cloud_share)
    if settings.onprem_url is not None:
        http = await stack.enter_async_context(open_client(settings.onprem_ca_file))
        key = read_secret(settings.onprem_key_file)
        remote = RemoteNode(settings.onprem_url, key=key, ca_file=settings.onprem_ca_file, http=http)
        await remote.start()
        target = OnPremTarget(
            f"onprem/{urlsplit(settings.onprem_url).netloc}",
            remote.send,
            remote.models,
            default_model=settings.onprem_model,
            capacity=capacity,
            hold_s=settings.hold_s,
        )
        return target, None
    node = built_in_node(settings, stack)

    async def models() -> list[str]:
        return [node.model_id]

    target = OnPremTarget(
        "onprem/embedded",
        node.handle,
        models,
        default_model=node.model_id,
        capacity=capacity,
        hold_s=settings.hold_s,
    )
    return target, node


async def _open_cloud(
    settings: Settings, stack: AsyncExitStack, keys: FileKeyRing, authority: ClearanceAuthority, node: Node | None
) -> CloudTarget:
    """The bridge with its worker in the same process; what passes between them is sealed as on Kafka."""
    transport = InProcessTransport()
    pool_key = keys.sealing(f"pool-{RECIPIENT}")
    side = await open_cloud_side(settings, stack, node)
    await stack.enter_async_context(
        Worker(
            transport=transport,
            partitions=[0],
            keys={KEY_EPOCH: pool_key},
            verifier=ClearanceVerifier(authority.public_key, recipient=RECIPIENT),
            provider=side.provider,
            sender=side.sender,
            # One worker stands for a whole pool here: a call that waits for it gives no sign of life.
            calls_in_flight=settings.max_concurrent_requests,
        )
    )
    bridge = await stack.enter_async_context(
        Bridge(
            transport=transport,
            verifier=ClearanceVerifier(authority.public_key, recipient=RECIPIENT),
            recipient_key=pool_key.public_key(),
            recipient_epoch=KEY_EPOCH,
            reply_key=keys.sealing("instance"),
            reply_partition=0,
            reply_epoch=secrets.randbits(31),
        )
    )
    address = cloud_address(settings)
    return CloudTarget(
        address.name, RECIPIENT, bridge, base_url=address.base_url, model_for=address.model_for, topic=REQUESTS
    )
