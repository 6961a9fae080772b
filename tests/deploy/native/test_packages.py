"""What is missing is named with its size and the command that gets it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from deploy.native import packages
from deploy.native.packages import Debian, GoTool, Maven
from runtime.errors import ConfigurationError

ABSENT = Debian(("absent-package",), "no-such-program", 7)


class Local(msgspec.Struct, frozen=True):
    """A requirement that a shell command meets by making a file."""

    name: str
    target: Path
    size_mb: int = 1
    needs_root: bool = False
    exit_code: int = 0

    def found(self) -> bool:
        return self.target.exists()

    def command(self) -> tuple[str, ...]:
        return ("sh", "-c", f"echo trouble >&2; touch {self.target}; exit {self.exit_code}")


def test_what_is_found_is_not_missing(tmp_path: Path) -> None:
    present = Local("present", tmp_path)
    assert packages.missing([present, ABSENT, ABSENT]) == [ABSENT]


def test_system_packages_come_first(tmp_path: Path) -> None:
    local = Local("local", tmp_path / "later")
    assert [requirement.name for requirement in packages.missing([local, ABSENT])] == ["absent-package", "local"]


def test_without_root_the_package_its_size_and_the_command_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigurationError) as caught:
        packages.install([ABSENT], lambda line: None)
    assert "absent-package (7 MB): apt-get install -y --no-install-recommends absent-package" in caught.value.message


def test_what_is_installed_is_announced_before(tmp_path: Path) -> None:
    local, said = Local("tool", tmp_path / "made"), list[str]()
    packages.install([local], said.append)
    assert local.found()
    assert said[0].startswith("installing tool (1 MB): sh -c")
    packages.install([local], said.append)
    assert len(said) == 1, "what is there is not installed again"


def test_a_command_that_fails_is_shown_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="trouble"):
        packages.install([Local("tool", tmp_path / "made", exit_code=3)], lambda line: None)


def test_caches_lie_outside_the_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert packages.cache_dir() == tmp_path / "watershed"
    assert Maven("jars", Path("pom.xml"), "a.jar", 1).folder == tmp_path / "watershed" / "jars"


@pytest.mark.parametrize(("system", "uses"), [((1, 26), "go"), ((1, 19), "uvx"), (None, "uvx")])
def test_an_old_or_missing_go_is_replaced_by_one_from_pypi(
    monkeypatch: pytest.MonkeyPatch, system: tuple[int, int] | None, uses: str
) -> None:
    monkeypatch.setattr(packages, "go_version", lambda: system)
    command = GoTool("example.org/tool", "v1.0.0", "tool", (1, 25), 1).command()
    assert command[2] == uses
    assert command[-1] == "example.org/tool@v1.0.0"
