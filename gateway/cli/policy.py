"""``watershed policy``: lint and test policies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Lint and test routing policies.")
PathArgument = Annotated[Path, typer.Argument(help="A policy file, or a folder of them.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def lint(path: PathArgument, as_json: Json = False) -> None:
    """Check policies; prints `file:line:column: message` for each fault and exits with 1 if there is any."""
    import msgspec

    from gateway.cli.output import print_json
    from policies.lint import lint as find_faults

    faults = find_faults(path)
    if as_json:
        print_json([msgspec.to_builtins(fault) for fault in faults])
    else:
        for fault in faults:
            typer.echo(str(fault))
        if not faults:
            typer.echo(f"{path}: no faults", err=True)
    raise typer.Exit(1 if faults else 0)


@app.command("test")
def run_policy_tests(path: PathArgument, as_json: Json = False) -> None:
    """Run the `tests` of policies through the real classifier and engine; exits with 1 if any fails."""
    from classifiers.cascade import Classifier
    from gateway.cli.output import print_json
    from policies.faults import PolicyError
    from policies.testing import run_tests

    try:
        report = run_tests(path, Classifier().classify)
    except PolicyError as error:
        for fault in error.faults:
            typer.echo(str(fault))
        raise typer.Exit(1) from None
    if as_json:
        print_json(
            {
                "policy": report.policy_version,
                "ok": report.ok,
                "cases": [
                    {
                        "name": case.name,
                        "ok": case.ok,
                        "rules": list(case.rules),
                        "faults": [str(f) for f in case.faults],
                    }
                    for case in report.cases
                ],
                "uncovered": sorted(set(report.rules) - report.covered),
            }
        )
    else:
        for fault in report.faults:
            typer.echo(str(fault))
        for rule in sorted(set(report.rules) - report.covered):
            typer.echo(f"note: no test fires rule '{rule}'", err=True)
        passed = sum(case.ok for case in report.cases)
        typer.echo(f"{passed} passed, {len(report.cases) - passed} failed")
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def schema() -> None:
    """Print the JSON Schema (2020-12) of policies, for editors."""
    from policies.schema import render

    typer.echo(render(), nl=False)
