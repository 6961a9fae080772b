"""``watershed``: every command. Imports stay inside the commands, so that ``watershed --help`` is instant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import audit, classify, keys, native, policy

app = typer.Typer(
    name="watershed",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: importing rich would double the start-up time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(policy.app, name="policy")
app.add_typer(audit.app, name="audit")
app.add_typer(keys.app, name="keys")
app.add_typer(native.certs, name="certs")
app.command("classify")(classify.classify)
app.command("up")(native.up)
app.command("down")(native.down)
app.command("status")(native.status)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"watershed {version('watershed-gateway')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A hybrid-cloud gateway for language models: every request is classified, decided, routed and proved.

    Start with `watershed serve`, then point an OpenAI SDK's base URL at http://127.0.0.1:8080/v1.
    """


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; other than loopback needs TLS.")] = None,
    port: Annotated[int | None, typer.Option(help="Port for applications; 0 takes a free one. [default: 8080]")] = None,
    admin_port: Annotated[
        int | None, typer.Option(help="Port for operators: /metrics, /healthz. [default: the next port]")
    ] = None,
    cloud_url: Annotated[
        str | None,
        typer.Option(
            help="OpenAI-compatible base URL of the cloud zone, in place of the built-in stand-in; "
            "its key comes from the file WATERSHED_CLOUD_KEY_FILE."
        ),
    ] = None,
    onprem_url: Annotated[
        str | None,
        typer.Option(
            help="OpenAI-compatible base URL of the on-prem zone, in place of the built-in model; "
            "its key comes from the file WATERSHED_ONPREM_KEY_FILE."
        ),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Policy file or folder. [default: the start-up set]")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key, PEM.")] = None,
) -> None:
    """Run the gateway.

    One process, SQLite, and a local model that is loaded on first need.

    State lives under $WATERSHED_STATE_DIR (default ~/.local/share/watershed). Every setting can also be given as a
    WATERSHED_… variable, or in the TOML file that WATERSHED_CONFIG names.

    Between an application, DeepSeek and a local vLLM:

    \b
        watershed serve --cloud-url https://api.deepseek.com/v1 \\
            --onprem-url http://127.0.0.1:8000/v1
    """
    from gateway.cli.serve import run
    from runtime.settings import load

    run(
        load(
            host=host,
            port=port,
            admin_port=admin_port,
            cloud_url=cloud_url,
            onprem_url=onprem_url,
            policy=policy,
            tls_cert=tls_cert,
            tls_key=tls_key,
        )
    )


@app.command()
def node() -> None:
    """Run an on-prem node.

    It answers gateways over mutual TLS, with the built-in model or from the server that WATERSHED_ONPREM_URL names.
    """
    _run_process("open_node")


@app.command()
def worker() -> None:
    """Run a cloud worker.

    It takes cleared requests from Kafka to the provider that WATERSHED_CLOUD_URL names.
    """
    _run_process("open_worker")


@app.command()
def clear() -> None:
    """Run the clearance authority, which alone can let a request cross."""
    _run_process("open_clear")


@app.command()
def witness() -> None:
    """Run the witness, which co-signs the checkpoints of every audit log."""
    _run_process("open_witness")


def _run_process(name: str) -> None:
    from gateway.cli import processes
    from runtime.settings import load

    processes.run(load(), getattr(processes, name))


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema.

    Safe to run from several processes at once.
    """
    from runtime.database import migrate as run_migrations
    from runtime.database import sqlite_url
    from runtime.settings import load

    settings = load()
    typer.echo(f"schema is at {run_migrations(settings.database_url or sqlite_url(settings.state_dir))}")


@app.command()
def demo(
    tokens: Annotated[int, typer.Option(help="Length of each answer, in tokens.")] = 24,
) -> None:
    """Show where a set of sample requests goes.

    Starts an embedded gateway, sends English and Chinese requests, prints a table and verifies the audit log.
    """
    from gateway.cli.demo import run

    raise typer.Exit(run(tokens))


def main() -> None:
    """Console entry: errors of ours are one line and exit code 2."""
    from runtime.errors import WatershedError

    try:
        app()
    except WatershedError as error:
        sys.stderr.write(f"watershed: {error.message}\n")
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output has enough
        sys.exit(0)
