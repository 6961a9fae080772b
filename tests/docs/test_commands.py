"""Every ``watershed …`` line in a document is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from deploy import topology
from gateway.cli import app
from tests.docs.documents import DOCUMENTS, all_blocks, inline_code

ROOT_COMMAND: Any = typer.main.get_command(app)
PLANNED = {service.command[:1] for service in topology.full() if not service.ready}
"""What rows of the topology that cannot be started yet will run; docs/stack.md shows those rows, and says so."""
_CALL = re.compile(r"(uv run )?watershed [a-z-]")
_ASSIGNMENT = re.compile(r"[A-Z_]+=.*")


def shell_lines(text: str) -> list[str]:
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def watershed_arguments(line: str) -> list[str] | None:
    """The arguments of the ``watershed`` call in a shell line; None where there is none."""
    words = shlex.split(line, comments=True)
    calls = " ".join(map(shlex.quote, words)).split(" '|' ")
    for call in calls:
        words = [word for word in shlex.split(call) if not _ASSIGNMENT.fullmatch(word)]
        if words[:2] == ["uv", "run"]:
            words = words[2:]
        if words[:1] == ["watershed"]:
            return words[1:]
    return None


def shown() -> list[tuple[str, list[str]]]:
    lines = [(block.place, line) for block in all_blocks("sh") for line in shell_lines(block.text)]
    for block in all_blocks(""):  # a picture or a list, where a wide space ends a command
        starts = [re.split(r" {2,}", line)[0] for line in shell_lines(block.text)]
        lines += [(block.place, line) for line in starts if _CALL.match(line)]
    for path in DOCUMENTS:
        code = [code for code in inline_code(path) if _CALL.match(code)]
        lines += [(path.name, line) for line in code if path.name != "stack.md" or (line.split()[1],) not in PLANNED]
    found = [(place, watershed_arguments(line)) for place, line in lines]
    return [(place, arguments) for place, arguments in found if arguments]


SHOWN = shown()


def leaf(arguments: list[str]) -> tuple[Any, list[str]]:
    """The command that ``arguments`` lead to, and what is left of them."""
    command, rest = ROOT_COMMAND, list(arguments)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"there is no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    return command, rest


@pytest.mark.parametrize(("place", "arguments"), SHOWN, ids=[f"{place} {' '.join(args)}"[:70] for place, args in SHOWN])
def test_a_shown_command_is_taken(place: str, arguments: list[str]) -> None:
    command, rest = leaf(arguments)
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    options = {word.partition("=")[0] for word in rest if word.startswith("-")}
    assert options <= known


def paths(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    below = getattr(command, "commands", {})
    return [path, *(found for name, sub in below.items() for found in paths(sub, (*path, name)))]


@pytest.mark.parametrize("path", paths(ROOT_COMMAND), ids=lambda path: " ".join(path) or "watershed")
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_the_readme_shows_commands() -> None:
    """Without this, a parser that finds nothing would pass the tests above."""
    assert {"serve", "keys", "audit", "policy", "classify"} <= {arguments[0] for _, arguments in SHOWN}
