"""``watershed keys``: API keys of tenants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Create, list, rotate and revoke API keys of tenants."
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def _database() -> Iterator[Engine]:
    from runtime.database import migrate, open_engine, sqlite_url
    from runtime.settings import load

    settings = load()
    url = settings.database_url or sqlite_url(settings.state_dir)
    migrate(url)
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="The tenant: 1 to 128 letters, digits, '_', '.' or '-'.")],
    days: Annotated[float | None, typer.Option(help="Lifetime in days. [default: no end]", min=0)] = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    from gateway.cli.output import print_json
    from gateway.tenants import create_key

    with _database() as engine:
        text, key = create_key(engine, tenant, lifetime_s=days * 86_400 if days else None)
    if as_json:
        print_json({"key": text, "tenant": key.tenant, "id": key.id})
    else:
        typer.echo(text)
        typer.echo("Keep it now: it cannot be shown again. From now on every caller needs a key.", err=True)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Show the keys there are, without their secrets."""
    from gateway.cli.output import print_json, print_table, time_of
    from gateway.tenants import list_keys
    from runtime.ids import now_us

    with _database() as engine:
        found = list_keys(engine)
    rows = [
        {
            "id": key.id,
            "tenant": key.tenant,
            "created": time_of(key.created_us),
            "expires": time_of(key.expires_us) if key.expires_us else None,
            "revoked": time_of(key.revoked_us) if key.revoked_us else None,
            "valid": key.is_valid(now_us()),
        }
        for key in found
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("id", "tenant", "created", "expires", "revoked", "valid"),
            [[str(value) if value is not None else "–" for value in row.values()] for row in rows],
        )


@app.command()
def rotate(
    key_id: Annotated[str, typer.Argument(help="Id of the key to replace, from `watershed keys list`.")],
    overlap_hours: Annotated[float, typer.Option(help="How long the old key stays valid.", min=0)] = 24,
    as_json: Json = False,
) -> None:
    """Make a new key for the same tenant; the old one ends after the overlap."""
    from gateway.cli.output import print_json
    from gateway.tenants import create_key, revoke_key

    with _database() as engine:
        old = revoke_key(engine, key_id, after_s=overlap_hours * 3600)
        text, key = create_key(engine, old.tenant)
    if as_json:
        print_json({"key": text, "tenant": key.tenant, "id": key.id, "replaces": key_id})
    else:
        typer.echo(text)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key, from `watershed keys list`.")], as_json: Json = False
) -> None:
    """End a key at once."""
    from gateway.cli.output import print_json
    from gateway.tenants import revoke_key

    with _database() as engine:
        key = revoke_key(engine, key_id)
    if as_json:
        print_json({"id": key.id, "tenant": key.tenant, "revoked": True})
    else:
        typer.echo(f"key {key.id} of tenant {key.tenant} is revoked")
