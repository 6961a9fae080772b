"""``watershed audit``: read and verify the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from runtime.settings import Settings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Read and verify the audit log.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def tail(
    count: Annotated[int, typer.Option("--count", "-n", help="How many events, from the end.", min=0)] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as events come.")] = False,
    request: Annotated[str | None, typer.Option(help="Only the events of this request id.")] = None,
    as_json: Json = False,
) -> None:
    """Show the last events: decisions, clearances and how each request ended. They hold no content."""
    from audit.query import events
    from audit.query import tail as last_events
    from gateway.cli.output import print_json
    from runtime.settings import load

    root = load().audit_dir
    found = events(root, request_id=request) if request else last_events(root, count, follow=follow)
    for log_id, index, event in found:
        row = {"log": log_id, "index": index, **_builtins(event)}
        if as_json:
            print_json(row)
        else:
            typer.echo(_line(row))


@app.command()
def verify(as_json: Json = False) -> None:
    """Check every log: each event's hash, order, checkpoints, signatures and the witness; exits with 1 on any fault."""
    from audit.verify import verify as verify_logs
    from gateway.cli.output import print_json
    from runtime.settings import load

    settings = load()
    if not settings.audit_dir.exists():
        typer.echo(f"there is no audit log under {settings.state_dir} yet", err=True)
        raise typer.Exit(1)
    register_key, witness_key = _pinned(settings)
    report = verify_logs(
        settings.audit_dir, register_key=register_key, witness_key=witness_key, witness_folder=settings.witness_dir
    )
    if as_json:
        print_json(_builtins(report))
    else:
        for line in report.lines():
            typer.echo(line)
    raise typer.Exit(0 if report.ok else 1)


def _pinned(settings: Settings) -> tuple[Ed25519PublicKey, Ed25519PublicKey]:
    """The keys of the register and of the witness: in the stack they are trusted, in one process its own."""
    from runtime.keys import FileKeyRing, trusted_signing

    if settings.identity_dir is not None:
        return trusted_signing(settings.trust_dir, "register"), trusted_signing(settings.trust_dir, "witness")
    keys = FileKeyRing(settings.keys_dir)
    return keys.signing("audit").public_key(), keys.signing("witness").public_key()


def _builtins(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)


def _line(row: dict[str, Any]) -> str:
    from gateway.cli.output import time_of

    what = {
        "decision": "{route} {sensitivity} rules={rules} policy={policy_version}",
        "clearance": "{outcome} for {recipient} attempt={attempt} {clearance_id}",
        "closing": "{outcome} {status} {code} target={target} duration={duration_us}us",
        "admin": "{action} {subject} by {actor}",
    }[row["type"]]
    detail = what.format(**{k: ",".join(map(str, v)) if isinstance(v, list | tuple) else v for k, v in row.items()})
    return f"{time_of(row['at_us'])} {row['type']:<9} {row.get('request_id', '-')} {detail}"
