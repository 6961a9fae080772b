"""A process of the stack among its peers: its certificate, the keys it trusts, and its way to the witness."""

from __future__ import annotations

import asyncio
import datetime
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from audit.log import AuditLog
from audit.register import REGISTER, RegisterEntry, read_register
from audit.remote_witness import RemoteWitness
from cloud_bridge.kafka import KafkaTransport
from runtime.errors import ConfigurationError
from runtime.keys import FileKeyRing, trusted_signing
from runtime.peer_client import PeerClient
from runtime.service import ServiceClient
from runtime.settings import Settings
from runtime.tls import TlsFiles

Setting = TypeVar("Setting", str, Path)


@dataclass(frozen=True, slots=True)
class Log:
    """An open audit log and its entry in the register."""

    audit: AuditLog
    entry: RegisterEntry


def tls_files(settings: Settings) -> TlsFiles:
    """The process's PEM files; key and certificate come from the one that a renewal replaces whole.

    Raises:
        ConfigurationError: ``identity_dir`` is not set.
    """
    folder = required(settings.identity_dir, "identity_dir")
    identity = folder / "identity.pem"
    return TlsFiles(identity, identity, folder / "ca.pem", folder / "crl.pem")


def registered_until(files: TlsFiles) -> datetime.datetime:
    """For ``open_policies``: an unregistered provider lasts as long as the demo CA, which all processes know alike.

    Raises:
        ConfigurationError: the CA's file cannot be read.
    """
    try:
        return x509.load_pem_x509_certificate(files.ca.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        raise ConfigurationError(f"the CA's certificate {files.ca} cannot be read") from None


async def open_kafka(settings: Settings, files: TlsFiles, stack: AsyncExitStack) -> KafkaTransport:
    """Raises ConfigurationError, and TargetError where no broker lets us in."""
    servers = required(settings.kafka_servers, "kafka_servers")
    return await stack.enter_async_context(KafkaTransport(servers, files))


async def open_log(settings: Settings, keys: FileKeyRing, peers: PeerClient, stack: AsyncExitStack) -> Log:
    """The process's audit log, its checkpoints co-signed by the stack's witness.

    Raises:
        ConfigurationError, AuditError: as ``AuditLog.open``.
    """
    witness = RemoteWitness(
        ServiceClient(peers.send, required(settings.witness_url, "witness_url")),
        asyncio.get_running_loop(),
        witness_key=trusted_signing(settings.trust_dir, "witness"),
    )
    audit = await asyncio.to_thread(
        AuditLog.open,
        settings.audit_dir,
        key=keys.signing("audit"),
        register_key=keys.signing("register"),
        witness=witness,
        instance=settings.instance,
    )
    stack.push_async_callback(audit.aclose)
    entries = await asyncio.to_thread(read_register, settings.audit_dir / REGISTER)
    return Log(audit, next(entry for entry in entries if entry.log_id == audit.log_id))


def required(value: Setting | None, name: str) -> Setting:
    """Raises ConfigurationError for a setting of the stack that is missing."""
    if value is None:
        raise ConfigurationError(f"settings: {name} is needed in the stack; `watershed up` writes it")
    return value
