"""Processes that outlive the command which starts them, found again by pid and start time.

A pid alone may by now be someone else's: the record keeps the kernel's start time beside it, and a process is ours only
while both agree.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import msgspec

from deploy.native.driver import Launch
from runtime.errors import ConfigurationError

TERM_GRACE_S = 8.0
_POLL_S = 0.05


class Record(msgspec.Struct, frozen=True):
    """What is remembered of a started process.

    Attributes:
        start_ticks: clock ticks since boot at which it started (field 22 of ``/proc/PID/stat``).
        boot_id: of the boot that the ticks count from.
    """

    pid: int
    start_ticks: int
    boot_id: str


class Process(msgspec.Struct, frozen=True):
    """The process whose record lies in ``path``, whether it runs or not."""

    path: Path

    def record(self) -> Record | None:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Record)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    @property
    def pid(self) -> int | None:
        """Its pid while it runs, else None."""
        record = self.record()
        if record is None or record.boot_id != _boot_id():
            return None
        _reap(record.pid)
        return record.pid if _start_ticks(record.pid) == record.start_ticks else None

    def start(self, launch: Launch, log: Path) -> int:
        """Start it in a session of its own, its output appended to ``log``. One that runs already is left alone.

        Raises:
            ConfigurationError: the program cannot be executed.
        """
        if (running := self.pid) is not None:
            return running
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        user = launch.user if os.geteuid() == 0 else None
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            started = subprocess.Popen(  # noqa: S603
                list(launch.argv),
                cwd=launch.cwd,
                env={**_inherited(), **launch.environment},
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=[] if user else None,
            )
        except OSError as error:
            raise ConfigurationError(f"cannot start {launch.argv[0]}: {error.strerror}") from None
        finally:
            os.close(descriptor)
        ticks = _start_ticks(started.pid)
        if ticks is None:
            raise ConfigurationError(f"{launch.argv[0]} ended at once; see {log}")
        self._remember(Record(started.pid, ticks, _boot_id()))
        started.returncode = 0  # it is not this object's to wait for: its record finds it
        return started.pid

    def signal(self, number: int) -> bool:
        """Send a signal to the process; False where it does not run."""
        pid = self.pid
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def stop(self, grace_s: float = TERM_GRACE_S) -> bool:
        """SIGTERM, then SIGKILL to its whole session after ``grace_s``; True where it ended by itself or did not run."""
        pid = self.pid
        graceful = True
        if pid is not None:
            self.signal(signal.SIGTERM)
            graceful = self._ended_within(grace_s)
            if not graceful:
                _kill_session(pid)
                self._ended_within(grace_s)
        self.path.unlink(missing_ok=True)
        return graceful

    def _ended_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def _remember(self, record: Record) -> None:
        draft = self.path.with_name(f".{self.path.name}")
        draft.write_bytes(msgspec.json.encode(record))
        draft.replace(self.path)


def _inherited() -> dict[str, str]:
    """This command's environment without its own settings, which would override the file of the process."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WATERSHED_")}


def resident_mb(pid: int) -> int:
    """Resident memory of one process in MiB; 0 for one that is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // (1024 * 1024)


def uptime_s(record: Record) -> float:
    """How long a running process has been running."""
    since_boot = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    return max(0.0, since_boot - record.start_ticks / os.sysconf("SC_CLK_TCK"))


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start_ticks(pid: int) -> int | None:
    """None for a process that is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _reap(pid: int) -> None:
    """A child of this very process that has ended would stay a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _kill_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
