"""The composition root of the embedded path: one process, SQLite, in-process bridge and clearance authority.

    listeners ─ InferenceApp ─ Pipeline ┬─ OnPremTarget ─ node (built-in model or --onprem-url)
                                        └─ CloudTarget ─ Bridge ═ sealed ═ Worker ─ provider (--cloud-url or stand-in)

The stack puts processes, certificates and brokers in the place of calls; the pipeline stays as it is.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from audit.log import AuditLog
from audit.witness import LocalWitness
from classifiers.cascade import Budget, Classifier
from cloud_bridge.clearance import ClearanceAuthority, ClearanceVerifier
from cloud_bridge.client import Bridge
from cloud_bridge.providers.base import Provider, open_provider
from cloud_bridge.providers.standin import STAND_IN_URL
from cloud_bridge.transport import REQUESTS, InProcessTransport
from cloud_bridge.worker import Worker
from gateway.api.app import admin_app, public_app
from gateway.api.inference import InferenceApp, Limits
from gateway.authority import DecisionProof, Recheck
from gateway.commitments import Commitments
from gateway.hold import Capacity
from gateway.lineage import Lineage
from gateway.pipeline import Pipeline
from gateway.record import Recorder
from gateway.tenants import KeyDirectory, RateLimit
from gateway.wire import ChatCompletions
from gateway.zones import AUTO, CloudTarget, OnPremTarget, Zones, with_priority
from local_inference.engines.transformers import TransformersEngine
from local_inference.node import Node
from local_inference.remote import RemoteNode
from policies.bundle import PolicyStore
from policies.model import Recipient
from runtime.database import migrate, open_async_engine, sqlite_url
from runtime.http import HttpClient, HttpRequest, HttpResponse, Sender, parse_base_url
from runtime.keys import FileKeyRing
from runtime.settings import Settings, read_secret

RECIPIENT = "cloud"
SWEEP_S = 3600.0
KEY_EPOCH = 1

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway: its two ASGI apps, and what `serve` says of it when it starts."""

    app: InferenceApp
    admin: FastAPI
    summary: tuple[tuple[str, str], ...]


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Everything of one embedded gateway, started; ended in reverse order.

    Raises:
        ConfigurationError: something that must hold before the first request does not.
    """
    async with AsyncExitStack() as stack:
        keys = FileKeyRing(settings.keys_dir)
        database_url = settings.database_url or sqlite_url(settings.state_dir)
        budget = Budget(settings.classify_base_ms, settings.classify_per_kb_ms)
        _, classifier = await asyncio.gather(
            asyncio.to_thread(migrate, database_url), asyncio.to_thread(Classifier, budget=budget)
        )
        engine = open_async_engine(database_url)
        stack.push_async_callback(engine.dispose)
        policies = PolicyStore(
            settings.policy, lease_s=settings.policy_lease_s, extra_recipients=[_demo_recipient(settings)]
        )
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
            instance="embedded",
        )
        stack.push_async_callback(audit.aclose)
        lineage = Lineage(engine, keys.secret("lineage"), ttl_s=settings.lineage_ttl_s)
        wires = [ChatCompletions(max_messages=settings.max_messages)]

        def receipt_holds(proof: DecisionProof) -> bool:
            return audit.holds(proof.receipt)

        authority = ClearanceAuthority(
            key=keys.signing("clearance"),
            recheck=Recheck(classifier, policies.current, wires),
            receipt_holds=receipt_holds,
            rate_per_s=settings.clearances_per_s,
        )
        onprem, node = await _open_onprem(settings, stack)
        cloud = await _open_cloud(settings, stack, keys, authority, node)
        zones = Zones([cloud, onprem])
        pipeline = Pipeline(
            classifier=classifier,
            policies=policies,
            lineage=lineage,
            recorder=Recorder(audit, lineage, Commitments(keys)),
            authority=authority,
            zones=zones,
        )
        stack.callback(pipeline.close)
        tasks = [
            asyncio.create_task(policies.watch(), name="policy watch"),
            asyncio.create_task(_sweep(lineage), name="lineage sweep"),
        ]
        stack.push_async_callback(_end, tasks)

        def policy_version() -> str:
            return policies.current().version

        def readiness() -> list[str]:
            missing = [] if audit.healthy else [f"audit: {audit.reason}"]
            if policies.lease_lost():
                missing.append("policy: its source cannot be read")
            missing += [f"{task.get_name()} has ended" for task in tasks if task.done()]
            return missing

        async def list_models() -> list[dict[str, object]]:
            names = [AUTO, *await zones.models()]
            if settings.cloud_model:
                names.append(settings.cloud_model)
            return [
                {"id": name, "object": "model", "created": 0, "owned_by": "watershed"} for name in dict.fromkeys(names)
            ]

        directory = KeyDirectory(engine)
        limits = Limits(
            max_body_bytes=settings.max_body_bytes,
            max_concurrent=settings.max_concurrent_requests,
            default_deadline_ms=settings.default_deadline_ms,
            max_deadline_ms=settings.max_deadline_ms,
        )
        app = InferenceApp(
            wires,
            pipeline,
            directory,
            RateLimit(settings.requests_per_minute),
            limits,
            policy_version,
            public_app(directory, list_models, readiness, policy_version),
        )
        yield Gateway(app, admin_app(readiness), _summary(settings, policy_version()))


async def _open_onprem(settings: Settings, stack: AsyncExitStack) -> tuple[OnPremTarget, Node | None]:
    capacity = Capacity(settings.onprem_concurrency, settings.onprem_cloud_share)
    if settings.onprem_url is not None:
        http = await stack.enter_async_context(HttpClient(ca_file=settings.onprem_ca_file))
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
    node = _built_in_node(settings, stack)

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
    if settings.cloud_url is not None:
        side = await _provider_side(settings, settings.cloud_url, stack)
    else:
        side = _stand_in_side(node or _built_in_node(settings, stack))
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
    return CloudTarget(
        side.name, RECIPIENT, bridge, base_url=side.provider.base_url, model_for=side.model_for, topic=REQUESTS
    )


@dataclass(frozen=True, slots=True)
class _CloudSide:
    """What answers in the cloud zone."""

    name: str
    provider: Provider
    sender: Sender
    model_for: Callable[[str], str]


async def _provider_side(settings: Settings, cloud_url: str, stack: AsyncExitStack) -> _CloudSide:
    base_url = _with_version(cloud_url)
    provider = open_provider("openai", base_url=base_url, key_file=settings.cloud_key_file)
    http = await stack.enter_async_context(HttpClient())

    def model_for(model: str) -> str:
        return settings.cloud_model or model if model == AUTO else model

    return _CloudSide(f"cloud/{urlsplit(base_url).netloc}", provider, http.send, model_for)


def _stand_in_side(node: Node) -> _CloudSide:
    async def sender(request: HttpRequest, deadline: float) -> HttpResponse:
        return await node.handle(with_priority(request, general=True), deadline)

    provider = open_provider("stand-in", base_url=STAND_IN_URL)
    return _CloudSide("cloud/stand-in", provider, sender, lambda _: node.model_id)


def _built_in_node(settings: Settings, stack: AsyncExitStack) -> Node:
    # Half the cores: OpenMP's threads wait for each other by spinning, and stall where something else takes a core.
    threads = max((os.cpu_count() or 2) // 2, 1)
    node = Node(lambda: TransformersEngine(settings.models_dir, threads))
    stack.push_async_callback(node.aclose)
    return node


def _with_version(url: str) -> str:
    """A base URL without a path gets ``/v1``, as every OpenAI-compatible server has it."""
    parts = parse_base_url(url, "the zone's URL")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") or "/v1"))


def _demo_recipient(settings: Settings) -> Recipient:
    """The recipient behind ``--cloud-url``, which the demo profile takes without a registration."""
    host = urlsplit(settings.cloud_url).hostname if settings.cloud_url else None
    return Recipient(
        id=RECIPIENT,
        legal_entity=f"unregistered: the operator of {host}" if host else "none: the built-in stand-in",
        country="ZZ",
        regions=("unregistered",),
        transfer_mechanism="demo profile only",
        retention_days=0,
        training_use=False,
        expires=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=30),
    )


async def _sweep(lineage: Lineage) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await lineage.sweep()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("lineage sweep failed", cause=type(error).__name__)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _summary(settings: Settings, policy_version: str) -> tuple[tuple[str, str], ...]:
    model = "the built-in SmolLM2-135M, standing in for your model (loaded on first need)"
    return (
        ("onprem", settings.onprem_url or model),
        ("cloud", settings.cloud_url or "the same model as a stand-in; nothing leaves this machine"),
        (
            "policy",
            policy_version + (" (sends whatever is not found sensitive to the cloud)" if not settings.policy else ""),
        ),
    )
