"""Reading policies from disk, and keeping the last good one in force.

    file or folder ──▶ Source (bytes) ──▶ documents ──▶ draft ──▶ Policy ──▶ PolicyEngine
                                                 └──── any fault: refused whole ────▶ PolicyError(faults)

A store takes a new version up whole or not at all, and counts how long ago its source could last be read.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec
import structlog
from watchfiles import awatch

from policies.document import MAX_BYTES, Document, parse
from policies.engine import PolicyEngine
from policies.faults import Fault, PolicyError
from policies.model import Recipient
from policies.references import Draft, draft, policy_of, reference_faults
from policies.vocabulary import Vocabulary, of_classifiers
from runtime.telemetry import POLICY_RELOADS

SHIPPED: Final = Path(__file__).with_name("sets")
STARTUP: Final = SHIPPED / "startup.yaml"
MAX_FILES: Final = 256

POLL_S: Final = 1.0
SETTLE_S: Final = 0.2
_SUFFIXES: Final = (".yaml", ".yml")

_log = structlog.get_logger(__name__)

__all__ = ["MAX_FILES", "SHIPPED", "STARTUP", "Fault", "PolicyError", "PolicyStore", "Source", "load", "read_draft"]


class Source(msgspec.Struct, frozen=True):
    """The bytes of a policy's files, in order of their names.

    Attributes:
        path: the file or folder.
        files: each file's path, as text under ``path``, and its content.
    """

    path: Path
    files: tuple[tuple[str, bytes], ...]

    @classmethod
    def read(cls, path: Path) -> Source:
        """A file, or all ``.yaml`` and ``.yml`` files of a folder and its subfolders, hidden ones left out.

        Raises:
            PolicyError: it cannot be read, or is a folder with no policy file or with over ``MAX_FILES``.
        """
        try:
            names = sorted(_policy_files(path)) if path.is_dir() else [path]
            if not 1 <= len(names) <= MAX_FILES:
                raise PolicyError(
                    [Fault(str(path), 1, 1, f"{len(names)} .yaml files here; 1 to {MAX_FILES} make a policy")]
                )
            return cls(path, tuple((str(name), _content(name)) for name in names))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise PolicyError([Fault(str(path), 1, 1, f"cannot be read: {reason}")]) from None

    def documents(self) -> list[Document]:
        """Raises PolicyError with the faults of all files that cannot be parsed."""
        documents: list[Document] = []
        faults: list[Fault] = []
        for path, content in self.files:
            try:
                documents += parse(content, path)
            except PolicyError as error:
                faults += error.faults
        if faults:
            raise PolicyError(faults)
        return documents


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)  # one more shows that it is too long, without reading all of it


def _policy_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in _SUFFIXES and not hidden and path.is_file():
            yield path


def read_draft(source: Source, vocabulary: Vocabulary, extra_recipients: Sequence[Recipient] = ()) -> Draft:
    """The documents of ``source``, free of faults.

    Raises:
        PolicyError: any fault at all.
    """
    plan, faults = draft(source.documents(), str(source.path))
    if plan is not None:
        faults = reference_faults(plan, vocabulary, extra_recipients)
    if plan is None or faults:
        raise PolicyError(faults)
    return plan


def compile_draft(
    plan: Draft, path: Path, *, extra_recipients: Sequence[Recipient], vocabulary: Vocabulary
) -> PolicyEngine:
    """The engine of a draft without faults that was read from ``path``."""
    policy = policy_of(plan, extra_recipients)
    digest = hashlib.sha256(msgspec.json.encode(policy, order="deterministic")).hexdigest()
    signature = "" if path.resolve().is_relative_to(SHIPPED.resolve()) else "unsigned:"
    version = f"{signature}{policy.name}@{policy.version}+{digest[:12]}"
    return PolicyEngine(policy, version=version, vocabulary=vocabulary)


def load(
    path: Path | None = None, *, extra_recipients: Sequence[Recipient] = (), vocabulary: Vocabulary | None = None
) -> PolicyEngine:
    """Read and compile a policy.

    Args:
        path: a file or a folder; None is the shipped start-up set.
        extra_recipients: recipients registered elsewhere; one of the same id in the document stands before them.
        vocabulary: entity types and categories; None is the shipped classifiers'.

    Raises:
        PolicyError: it cannot be read or has any fault; nothing of it is used.
    """
    vocabulary = vocabulary or of_classifiers()
    source = Source.read(path or STARTUP)
    plan = read_draft(source, vocabulary, extra_recipients)
    return compile_draft(plan, source.path, extra_recipients=extra_recipients, vocabulary=vocabulary)


class PolicyStore:
    """The policy in force, replaced as a whole when its source changes to another good one.

    Thread-safe: ``reload`` may run in any thread, ``current`` and ``lease_lost`` cost nothing.

    Attributes:
        faults: why the newest state of the source is not in force; empty while it is.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        lease_s: float,
        extra_recipients: Sequence[Recipient] = (),
        clock: Callable[[], float] = time.monotonic,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """Load the first version.

        Args:
            path: a file or a folder; None is the shipped start-up set.
            lease_s: how long a policy whose source cannot be read stays in force.
            extra_recipients, vocabulary: as for ``load``.
            clock: seconds, monotonic.

        Raises:
            PolicyError: there is no good version to begin with.
        """
        self._path = path or STARTUP
        self._lease_s = lease_s
        self._extra_recipients = tuple(extra_recipients)
        self._clock = clock
        self._vocabulary = vocabulary or of_classifiers()
        self._lock = Lock()
        self._seen = Source.read(self._path)
        self._seen_faults: list[Fault] = []
        self._engine = self._compile(self._seen)
        self._read_at = clock()
        self.faults: list[Fault] = []

    def current(self) -> PolicyEngine:
        """The last good version."""
        return self._engine

    def lease_lost(self) -> bool:
        """Whether the source was last readable longer than the lease ago (law 2: everything is ``restricted``)."""
        return self._clock() - self._read_at > self._lease_s

    def reload(self) -> bool:
        """Read the source again; True if a new version is in force. Blocks on the disk; never raises for a bad source."""
        source = self._read()
        return source is not None and self._adopt(source)

    async def watch(self) -> None:
        """Reload whenever the source changes, and look once a second in any case, until cancelled.

        A change is taken up once it has stood still for ``SETTLE_S``, so that a file being written is not read halfway;
        a writer that replaces the file by renaming is never read halfway at all.
        """
        while True:
            try:
                async for _ in awatch(
                    self._watched(), recursive=self._path.is_dir(), step=50, debounce=int(SETTLE_S * 1000),
                    rust_timeout=int(POLL_S * 1000), yield_on_timeout=True,
                ):  # fmt: skip
                    await self._reload_settled()
            except (OSError, RuntimeError):  # the folder is gone, or the system has no more watches: poll instead
                await self._reload_settled()
                await asyncio.sleep(POLL_S)

    def _watched(self) -> Path:
        # A file replaced by renaming takes its watch along; its folder stays.
        return self._path if self._path.is_dir() else self._path.parent

    async def _reload_settled(self) -> None:
        source = await asyncio.to_thread(self._read)
        while source is not None and source != self._seen:
            await asyncio.sleep(SETTLE_S)
            before, source = source, await asyncio.to_thread(self._read)
            if source == before:
                break
        if source is not None:
            await asyncio.to_thread(self._adopt, source)

    def _read(self) -> Source | None:
        try:
            source = Source.read(self._path)
        except PolicyError as error:
            self._report("unreadable", error.faults)
            return None
        self._read_at = self._clock()
        return source

    def _adopt(self, source: Source) -> bool:
        with self._lock:
            if source == self._seen:
                self.faults = self._seen_faults
                return False
            self._seen = source
            try:
                engine = self._compile(source)
            except PolicyError as error:
                self._seen_faults = error.faults
                self._report("refused", error.faults)
                return False
            self.faults = self._seen_faults = []
            if engine.version == self._engine.version:
                return False
            self._engine = engine
        POLICY_RELOADS.labels(outcome="loaded").inc()
        _log.info("policy in force", policy=engine.version)
        return True

    def _report(self, outcome: str, faults: list[Fault]) -> None:
        if faults != self.faults:
            POLICY_RELOADS.labels(outcome=outcome).inc()
            _log.error(
                "policy not taken up", outcome=outcome, in_force=self._engine.version, faults=[str(f) for f in faults]
            )
        self.faults = faults

    def _compile(self, source: Source) -> PolicyEngine:
        plan = read_draft(source, self._vocabulary, self._extra_recipients)
        return compile_draft(plan, source.path, extra_recipients=self._extra_recipients, vocabulary=self._vocabulary)
