"""``watershed up | down | status | certs``: the native stack and its certificates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deploy.certificates import Certificate
    from deploy.native.supervisor import Status, Supervisor
    from runtime.settings import Settings

certs = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Issue, rotate, revoke and show the certificates of the stack's processes.",
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="Name of a process, as `watershed status` shows it.")]


def up(
    only: Annotated[
        list[str] | None, typer.Argument(help="Services; with them comes what they need. [default: all]")
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="One of each, for a laptop: nothing is survived.")] = False,
    faults: Annotated[bool, typer.Option("--faults", help="With a Toxiproxy between clients and brokers.")] = False,
    cloud_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible base URL of the cloud zone. [default: a local stand-in]")
    ] = None,
    onprem_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible base URL behind the nodes. [default: the built-in model]")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy file or folder. [default: the start-up set]")] = None,
    as_json: Json = False,
) -> None:
    """Start the stack, or what is missing of it: Kafka, MariaDB, S3, HAProxy and Watershed's own processes.

    Natively, on this machine, without containers; everything lies under $WATERSHED_STATE_DIR/stack. What must be
    installed first is said with its size and command.

    Settings of the zones (WATERSHED_CLOUD_KEY_FILE, WATERSHED_CLOUD_MODEL …) are taken over into the processes' own, and
    remembered: where none is given, those of the last start hold.
    """
    from deploy.native.supervisor import open_stack
    from deploy.native.watershed import operator_settings_file
    from deploy.topology import named
    from runtime.settings import load

    settings = load(cloud_url=cloud_url, onprem_url=onprem_url, policy=policy)
    shape = named(("small" if small else "full") + ("-faults" if faults else ""))
    supervisor = open_stack(settings.state_dir, shape, _announce, _options(settings) or None)
    _print_status(supervisor.up(only), as_json)
    if not as_json:
        (entrance,) = (s for s in supervisor.site.topology if s.name == "haproxy")
        _announce(f"Applications: https://{supervisor.site.address(entrance, 'https')}/v1")
        _announce(f"  trust {supervisor.site.files(entrance.name).ca}")
        _announce(f"  WATERSHED_CONFIG={operator_settings_file(supervisor.site)} watershed keys create --tenant NAME")


def down(
    only: Annotated[list[str] | None, typer.Argument(help="Services to stop. [default: all]")] = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove all data, keys, certificates and logs as well.")] = False,
) -> None:
    """Stop the stack."""
    from runtime.settings import load

    _stack(load()).down(only or None, wipe=wipe)


def status(as_json: Json = False) -> None:
    """Show each service: where it runs, whether it is healthy, its ports, memory and log."""
    from runtime.settings import load

    _print_status(_stack(load()).status(), as_json)


@certs.command()
def issue(as_json: Json = False) -> None:
    """Issue what is missing or due: less than half of its 24 hours left.

    Backing services that hold a renewed certificate are restarted, one by one; our own processes read theirs again.
    """
    from deploy import certificates
    from runtime.settings import load

    supervisor = _stack(load())
    certificates.issue(supervisor.site.certificates_dir, supervisor.admissible())
    for name in supervisor.renew():
        _announce(f"{name} has a new certificate")
    _print_certificates(supervisor, as_json)


@certs.command()
def rotate(name: Name, as_json: Json = False) -> None:
    """Give a process a new key and certificate now; a revoked one is let in again."""
    from runtime.settings import load

    supervisor = _stack(load())
    supervisor.readmit(name)
    _print_certificates(supervisor, as_json)


@certs.command()
def revoke(name: Name, as_json: Json = False) -> None:
    """Shut a process out: its certificates are revoked, Kafka and the database refuse it, its connections end."""
    from runtime.settings import load

    supervisor = _stack(load())
    supervisor.revoke(name)
    _print_certificates(supervisor, as_json)


@certs.command()
def show(as_json: Json = False) -> None:
    """Show each process's newest certificate."""
    from runtime.settings import load

    _print_certificates(_stack(load()), as_json)


def _stack(settings: Settings) -> Supervisor:
    from deploy.native.supervisor import open_stack

    return open_stack(settings.state_dir, None, _announce)


def _announce(line: str) -> None:
    typer.echo(line, err=True)


def _options(settings: Settings) -> dict[str, str]:
    """What the operator chose, as ``deploy.site.Site.options``; files by absolute paths."""
    chosen: dict[str, str | Path | None] = {
        "cloud_url": settings.cloud_url,
        "cloud_model": settings.cloud_model,
        "onprem_url": settings.onprem_url,
        "onprem_model": settings.onprem_model,
        "policy": settings.policy,
        "cloud_key_file": settings.cloud_key_file,
        "onprem_key_file": settings.onprem_key_file,
        "onprem_ca_file": settings.onprem_ca_file,
        "model_cache_dir": settings.model_cache_dir,
    }
    return {
        name: str(value.absolute() if isinstance(value, Path) else value)
        for name, value in chosen.items()
        if value is not None
    }


def _print_status(found: list[Status], as_json: bool) -> None:
    from msgspec import to_builtins

    from gateway.cli.output import print_json, print_table

    if as_json:
        print_json(to_builtins(found))
        return
    print_table(
        ("service", "zone", "az", "state", "pid", "ports", "MB", "up"),
        [
            (
                row.name,
                row.zone,
                row.az,
                row.state,
                str(row.pid or "–"),
                " ".join(f"{name}:{port}" for name, port in row.ports.items()),
                str(row.memory_mb or "–"),
                f"{row.uptime_s:.0f} s" if row.pid else "–",
            )
            for row in found
        ],
    )


def _print_certificates(supervisor: Supervisor, as_json: bool) -> None:
    from msgspec import to_builtins

    from deploy import certificates
    from gateway.cli.output import print_json, print_table

    found: list[Certificate] = certificates.show(supervisor.site.certificates_dir)
    if as_json:
        print_json(to_builtins(found))
        return
    print_table(
        ("name", "role", "serial", "until", "revoked"),
        [
            (
                row.name,
                row.role,
                row.serial,
                f"{row.not_after:%Y-%m-%d %H:%M} UTC",
                f"{row.revoked_at:%Y-%m-%d %H:%M} UTC" if row.revoked_at else "–",
            )
            for row in found
        ],
    )
