"""One settings tree: defaults, then ``watershed.toml``, then ``WATERSHED_…`` variables, then command-line flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import structlog
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from runtime.errors import ConfigurationError


def default_state_dir() -> Path:
    """``$XDG_DATA_HOME/watershed``, by default ``~/.local/share/watershed`` (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "watershed"


class Settings(BaseSettings):
    """Every setting of every process; units are in the names.

    Raises:
        pydantic.ValidationError: for values that do not fit (``load`` turns it into ConfigurationError).
    """

    model_config = SettingsConfigDict(
        env_prefix="WATERSHED_", extra="forbid", hide_input_in_errors=True, frozen=True, toml_file=None
    )

    state_dir: Path = Field(
        default_factory=default_state_dir, description="Where keys, database, audit log and models live."
    )

    # Listeners
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    admin_host: str = "127.0.0.1"
    admin_port: int | None = Field(default=None, ge=0, le=65535, description="Default: the port after `port`.")
    tls_cert: Path | None = None
    tls_key: Path | None = None

    # Zones
    cloud_url: str | None = Field(default=None, description="OpenAI-compatible base URL of the cloud zone.")
    cloud_key_file: Path | None = None
    cloud_model: str | None = Field(default=None, description="Model that `auto` means in the cloud zone.")
    onprem_url: str | None = Field(default=None, description="OpenAI-compatible base URL of the on-prem zone.")
    onprem_key_file: Path | None = None
    onprem_model: str | None = Field(
        default=None, description="Model used on-prem where the caller's is not served there."
    )
    onprem_ca_file: Path | None = Field(
        default=None, description="CA that an on-prem server on a private address must show."
    )
    onprem_concurrency: int = Field(default=16, ge=1, description="Requests in flight on-prem; more wait.")
    onprem_cloud_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Part of on-prem capacity that general traffic may take when the cloud is down.",
    )
    model_cache_dir: Path | None = Field(default=None, description="Converted local model; default: state_dir/models.")

    # Policy
    policy: Path | None = Field(default=None, description="Policy file or folder; default: the shipped start-up set.")
    policy_lease_s: float = Field(
        default=900, gt=0, description="How long a policy that cannot be read again stays in force."
    )

    # Limits of one request
    max_body_bytes: int = Field(default=16 * 1024 * 1024, gt=0)
    max_messages: int = Field(default=4096, gt=0)
    max_concurrent_requests: int = Field(default=2048, gt=0)
    requests_per_minute: int | None = Field(default=None, gt=0, description="Per tenant; none: no limit.")
    default_deadline_ms: int = Field(default=60_000, gt=0)
    max_deadline_ms: int = Field(default=600_000, gt=0)
    hold_s: float = Field(default=5.0, ge=0, description="How long a request waits for on-prem capacity before 503.")
    classify_base_ms: float = Field(default=100, gt=0, description="Thread CPU time a classification may take …")
    classify_per_kb_ms: float = Field(default=10, ge=0, description="… and how much more for each KB of text.")

    # State
    database_url: str | None = Field(default=None, description="SQLAlchemy URL; default: SQLite in state_dir.")
    lineage_ttl_s: float = Field(default=30 * 86_400, gt=0)
    clearances_per_s: float = Field(
        default=5_000, gt=0, description="Rate above which the clearance authority refuses."
    )

    # The stack: set by `watershed up`, one file a process
    instance: str = Field(default="embedded", description="Name of this process: its certificate's, and its log's.")
    identity_dir: Path | None = Field(
        default=None, description="Certificate, key, CA and CRL of this process, its keys and those it trusts."
    )
    kafka_servers: str | None = Field(default=None, description="Brokers of the crossing: host:port, by commas.")
    authority_url: str | None = Field(default=None, description="The clearance authority.")
    witness_url: str | None = Field(default=None, description="The witness of audit logs.")
    node_urls: str | None = Field(default=None, description="On-prem nodes, by commas; the first that answers is used.")
    audit_root: Path | None = Field(
        default=None, description="Audit logs and their register; default: state_dir/audit."
    )
    witness_root: Path | None = Field(default=None, description="A witness's record; default: state_dir/witness.")

    # Telemetry
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "console", "json"] = "auto"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        config = os.environ.get("WATERSHED_CONFIG")
        toml = TomlConfigSettingsSource(settings_cls, Path(config)) if config else None
        return (init_settings, env_settings, toml) if toml else (init_settings, env_settings)

    @property
    def resolved_admin_port(self) -> int:
        if self.admin_port is not None:
            return self.admin_port
        return self.port + 1 if self.port else 0

    @property
    def models_dir(self) -> Path:
        return self.model_cache_dir or self.state_dir / "models"

    @property
    def audit_dir(self) -> Path:
        return self.audit_root or self.state_dir / "audit"

    @property
    def witness_dir(self) -> Path:
        return self.witness_root or self.state_dir / "witness"

    @property
    def keys_dir(self) -> Path:
        return self.identity_dir / "keys" if self.identity_dir else self.state_dir / "keys"

    @property
    def trust_dir(self) -> Path:
        """Public keys of others, as ``runtime.keys.trusted_signing`` reads them."""
        return self.identity_dir / "trust" if self.identity_dir else self.state_dir / "trust"


def load(**overrides: Any) -> Settings:
    """Settings from file and environment, with ``overrides`` (those that are not None) on top.

    Raises:
        ConfigurationError: names each setting at fault, without its value.
    """
    config = os.environ.get("WATERSHED_CONFIG")
    if config and not Path(config).is_file():
        raise ConfigurationError(f"WATERSHED_CONFIG names no file: {config}")
    try:
        return Settings(**{k: v for k, v in overrides.items() if v is not None})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise ConfigurationError(f"settings: {faults}") from None


def read_secret(path: Path | None) -> str | None:
    """The first line of a secret's file, stripped; None for no file.

    Raises:
        ConfigurationError: the file is missing or empty.
    """
    if path is None:
        return None
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"cannot read the key file {path}: {error.strerror}") from None
    if mode & 0o077:
        structlog.get_logger().warning("key file is readable by others", path=str(path), cure=f"chmod 600 {path}")
    if not text:
        raise ConfigurationError(f"the key file {path} is empty")
    return text.splitlines()[0].strip()
