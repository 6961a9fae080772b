"""The stack's other processes: ``watershed node | worker | clear | witness``, each one listener over mutual TLS.

Each command takes its settings from the file that ``watershed up`` writes for it (``WATERSHED_CONFIG``). A node may also
run by itself on loopback, without certificates.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import uvloop

from audit.witness import LocalWitness
from audit.witness_service import WitnessService
from cloud_bridge.clearance import ClearanceAuthority, ClearanceVerifier
from cloud_bridge.epochs import MinimumEpoch, publish_notices, sign_notice
from cloud_bridge.transport import REQUEST_PARTITIONS
from cloud_bridge.worker import Worker
from gateway.attestation import ReceiptCheck
from gateway.authority import Recheck
from gateway.authority_service import AuthorityService
from gateway.cli.assembly import end, open_classifier, open_policies, open_wires
from gateway.cli.cloud_side import KEY_EPOCH, RECIPIENT, built_in_node, open_cloud_side
from gateway.cli.peers import open_kafka, open_log, registered_until, tls_files
from gateway.cli.serve import Server, check_listeners, listen, until_stopped
from local_inference.journal import Journal
from local_inference.remote import RemoteNode, open_client
from local_inference.server import NodeServer
from runtime.database import open_async_engine
from runtime.http import Sender
from runtime.ids import now_us
from runtime.keys import FileKeyRing, trusted_signing
from runtime.listener import ASGIApp, Listener
from runtime.peer_client import PeerClient
from runtime.service import Service
from runtime.settings import Settings, read_secret
from runtime.telemetry import set_up_logging
from runtime.tls import ServerTls

Open = Callable[[Settings], AbstractAsyncContextManager[ASGIApp]]


def run(settings: Settings, open_app: Open) -> None:
    """Serve what ``open_app`` opens until SIGINT or SIGTERM, then let calls in flight end.

    Raises:
        ConfigurationError: something that must hold before the first call does not.
    """
    set_up_logging(settings.log_level, settings.log_format)
    check_listeners(settings)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold requests and keys
    uvloop.run(_serve(settings, open_app))


async def _serve(settings: Settings, open_app: Open) -> None:
    tls = ServerTls(tls_files(settings)) if settings.identity_dir is not None else None
    listener = Listener(tls)
    socket = listen(settings.host, settings.port)
    async with open_app(settings) as app:
        watching = asyncio.create_task(listener.watch(), name="TLS files")
        try:
            await until_stopped([Server(listener.config(app))], [socket])
        finally:
            await end([watching])


@asynccontextmanager
async def open_node(settings: Settings) -> AsyncIterator[ASGIApp]:
    """An on-prem node: the built-in model, or the server behind ``onprem_url``."""
    async with AsyncExitStack() as stack:
        journal = None
        if settings.database_url is not None:
            engine = open_async_engine(settings.database_url)
            stack.push_async_callback(engine.dispose)
            journal = Journal(engine, node=settings.instance)
        handle = await _open_model(settings, stack)
        yield NodeServer(handle, missing=list, journal=journal, max_body_bytes=settings.max_body_bytes)


async def _open_model(settings: Settings, stack: AsyncExitStack) -> Sender:
    if settings.onprem_url is None:
        return built_in_node(settings, stack).handle
    http = await stack.enter_async_context(open_client(settings.onprem_ca_file))
    key = read_secret(settings.onprem_key_file)
    remote = RemoteNode(settings.onprem_url, key=key, ca_file=settings.onprem_ca_file, http=http)
    await remote.start()
    return remote.send


@asynccontextmanager
async def open_worker(settings: Settings) -> AsyncIterator[ASGIApp]:
    """A cloud worker: cleared requests from Kafka to the provider behind ``cloud_url``, or to a model standing in."""
    async with AsyncExitStack() as stack:
        files = tls_files(settings)
        clearance_key = trusted_signing(settings.trust_dir, "clearance")
        transport = await open_kafka(settings, files, stack)
        side = await open_cloud_side(settings, stack, None)
        pool_key = FileKeyRing(settings.keys_dir).sealing(f"pool-{RECIPIENT}")
        epochs = MinimumEpoch(clearance_key, recipient=RECIPIENT)
        worker = await stack.enter_async_context(
            Worker(
                transport=transport,
                partitions=range(REQUEST_PARTITIONS),
                keys={KEY_EPOCH: pool_key},
                verifier=ClearanceVerifier(clearance_key, recipient=RECIPIENT),
                provider=side.provider,
                sender=side.sender,
                epochs=epochs,
            )
        )

        def missing() -> list[str]:
            found = [] if worker.alive else ["the worker has stopped"]
            return found if epochs.fresh_for_s() > 0 else [*found, "no minimum epoch is heard"]

        yield Service({}, roles=frozenset(), missing=missing, max_body_bytes=1)


@asynccontextmanager
async def open_clear(settings: Settings) -> AsyncIterator[ASGIApp]:
    """The clearance authority. It also tells workers the minimum epoch, in its own name."""
    async with AsyncExitStack() as stack:
        files = tls_files(settings)
        keys = FileKeyRing(settings.keys_dir)
        key = keys.signing("clearance")
        peers = await stack.enter_async_context(PeerClient(files))
        classifier = await asyncio.to_thread(open_classifier, settings)
        policies = open_policies(settings, registered_until(files))
        log = await open_log(settings, keys, peers, stack)
        transport = await open_kafka(settings, files, stack)
        authority = ClearanceAuthority(
            key=key,
            recheck=Recheck(classifier, policies.current, open_wires(settings)),
            receipt_holds=ReceiptCheck(trusted_signing(settings.trust_dir, "register")),
            rate_per_s=settings.clearances_per_s,
        )

        async def notice() -> bytes:
            return sign_notice(key, recipient=RECIPIENT, minimum=KEY_EPOCH, issued_us=now_us())

        tasks = [
            asyncio.create_task(policies.watch(), name="policy watch"),
            asyncio.create_task(publish_notices(transport, notice), name="minimum epochs"),
        ]
        stack.push_async_callback(end, tasks)

        def missing() -> list[str]:
            found = [] if log.audit.healthy else [f"audit: {log.audit.reason}"]
            if policies.lease_lost():
                found.append("policy: its source cannot be read")
            return found + [f"{task.get_name()} has ended" for task in tasks if task.done()]

        service = AuthorityService(authority, log.audit, missing=missing, max_body_bytes=settings.max_body_bytes)
        yield service.app


@asynccontextmanager
async def open_witness(settings: Settings) -> AsyncIterator[ASGIApp]:
    """The witness of every audit log of the stack."""
    witness = LocalWitness(
        settings.witness_dir,
        key=FileKeyRing(settings.keys_dir).signing("witness"),
        register_key=trusted_signing(settings.trust_dir, "register"),
    )
    yield WitnessService(witness).app
