"""Compile ``upstream.c`` at first use, into the cache folder, under the digest of its source."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("upstream.c")
_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")


class MissingToolError(Exception):
    """A program that the benchmark needs is not on this machine; the message says what to install."""


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/watershed/bench``, by default ``~/.cache/watershed/bench``; made where it is not there."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "watershed" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def upstream_binary(folder: Path | None = None) -> Path:
    """The compiled upstream.

    Raises:
        MissingToolError: there is no C compiler.
        subprocess.CalledProcessError: the source does not compile.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    binary = (folder or cache_dir()) / f"upstream-{digest}"
    if binary.exists():
        return binary
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise MissingToolError("no C compiler: install gcc (Debian: apt-get install gcc libc6-dev)")
    made = binary.with_suffix(f".{os.getpid()}")
    subprocess.run([compiler, *_FLAGS, "-o", str(made), str(SOURCE)], check=True)
    made.replace(binary)
    return binary
