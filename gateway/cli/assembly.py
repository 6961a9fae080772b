"""What an embedded gateway and one of the stack have in common: everything that is not another process's work."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.log import AuditLog
from classifiers.cascade import Budget, Classifier
from gateway.api.app import admin_app, public_app
from gateway.api.inference import InferenceApp, Limits
from gateway.authority import Authority
from gateway.cli.cloud_side import RECIPIENT
from gateway.commitments import Commitments
from gateway.lineage import Lineage
from gateway.pipeline import Pipeline
from gateway.record import Recorder
from gateway.tenants import KeyDirectory, RateLimit
from gateway.wire import ChatCompletions, WireFormat
from gateway.zones import AUTO, Zones
from policies.bundle import PolicyStore
from policies.model import Recipient
from runtime.database import migrate, open_async_engine, sqlite_url
from runtime.keys import KeyRing
from runtime.settings import Settings

SWEEP_S = 3600.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway: its two ASGI apps, and what `serve` says of it when it starts."""

    app: InferenceApp
    admin: FastAPI
    summary: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Core:
    """What decides, before there is anyone to send to."""

    engine: AsyncEngine
    classifier: Classifier
    policies: PolicyStore
    wires: Sequence[WireFormat]


async def open_core(settings: Settings, stack: AsyncExitStack, registered_until: datetime.datetime) -> Core:
    """Database, classifier and policy. ``registered_until``: see ``open_policies``.

    Raises:
        ConfigurationError, PolicyError
    """
    database_url = settings.database_url or sqlite_url(settings.state_dir)
    _, classifier = await asyncio.gather(
        asyncio.to_thread(migrate, database_url), asyncio.to_thread(open_classifier, settings)
    )
    engine = open_async_engine(database_url)
    stack.push_async_callback(engine.dispose)
    return Core(engine, classifier, open_policies(settings, registered_until), open_wires(settings))


def open_classifier(settings: Settings) -> Classifier:
    return Classifier(budget=Budget(settings.classify_base_ms, settings.classify_per_kb_ms))


def open_policies(settings: Settings, registered_until: datetime.datetime) -> PolicyStore:
    """The policy, with the recipient behind ``--cloud-url``, which the demo profile takes without a registration.

    Args:
        registered_until: when that recipient expires. It is part of the policy's version: processes that must agree on
            the version need the same.

    Raises:
        PolicyError: there is no good policy to begin with.
    """
    host = urlsplit(settings.cloud_url).hostname if settings.cloud_url else None
    recipient = Recipient(
        id=RECIPIENT,
        legal_entity=f"unregistered: the operator of {host}" if host else "none: the built-in stand-in",
        country="ZZ",
        regions=("unregistered",),
        transfer_mechanism="demo profile only",
        retention_days=0,
        training_use=False,
        expires=registered_until,
    )
    return PolicyStore(settings.policy, lease_s=settings.policy_lease_s, extra_recipients=[recipient])


def open_wires(settings: Settings) -> list[WireFormat]:
    return [ChatCompletions(max_messages=settings.max_messages)]


def assemble(
    settings: Settings,
    stack: AsyncExitStack,
    core: Core,
    *,
    audit: AuditLog,
    keys: KeyRing,
    authority: Authority,
    zones: Zones,
    directory: KeyDirectory,
    tasks: Sequence[asyncio.Task[None]] = (),
) -> Gateway:
    """The pipeline and the two apps around it, running until ``stack`` ends.

    Args:
        tasks: that the gateway cannot do without: while one has ended it is not ready. They are cancelled at the end.
    """
    lineage = Lineage(core.engine, keys.secret("lineage"), ttl_s=settings.lineage_ttl_s)
    pipeline = Pipeline(
        classifier=core.classifier,
        policies=core.policies,
        lineage=lineage,
        recorder=Recorder(audit, lineage, Commitments(keys)),
        authority=authority,
        zones=zones,
    )
    stack.callback(pipeline.close)
    running = [
        *tasks,
        asyncio.create_task(core.policies.watch(), name="policy watch"),
        asyncio.create_task(_sweep(lineage), name="lineage sweep"),
    ]
    stack.push_async_callback(end, running)

    def policy_version() -> str:
        return core.policies.current().version

    def readiness() -> list[str]:
        missing = [] if audit.healthy else [f"audit: {audit.reason}"]
        if core.policies.lease_lost():
            missing.append("policy: its source cannot be read")
        missing += [f"{task.get_name()} has ended" for task in running if task.done()]
        return missing

    async def list_models() -> list[dict[str, object]]:
        names = [AUTO, *await zones.models()]
        if settings.cloud_model:
            names.append(settings.cloud_model)
        return [{"id": name, "object": "model", "created": 0, "owned_by": "watershed"} for name in dict.fromkeys(names)]

    limits = Limits(
        max_body_bytes=settings.max_body_bytes,
        max_concurrent=settings.max_concurrent_requests,
        default_deadline_ms=settings.default_deadline_ms,
        max_deadline_ms=settings.max_deadline_ms,
    )
    app = InferenceApp(
        core.wires,
        pipeline,
        directory,
        RateLimit(settings.requests_per_minute),
        limits,
        policy_version,
        public_app(directory, list_models, readiness, policy_version),
    )
    return Gateway(app, admin_app(readiness), _summary(settings, policy_version()))


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _sweep(lineage: Lineage) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await lineage.sweep()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("lineage sweep failed", cause=type(error).__name__)


def _summary(settings: Settings, policy_version: str) -> tuple[tuple[str, str], ...]:
    model = "the built-in SmolLM2-135M, standing in for your model (loaded on first need)"
    return (
        ("onprem", settings.node_urls or settings.onprem_url or model),
        ("cloud", settings.cloud_url or "the same model as a stand-in; nothing leaves this machine"),
        (
            "policy",
            policy_version + (" (sends whatever is not found sensitive to the cloud)" if not settings.policy else ""),
        ),
    )
