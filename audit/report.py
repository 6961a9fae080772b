"""What verification found, in words and as data."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class Fault(msgspec.Struct, frozen=True):
    """Something that is not as it was witnessed, or that cannot be vouched for.

    Attributes:
        log_id: empty for the register.
        index: the event, entry or checkpoint's size at which it shows; None where none can be named.
        cause: a stable code, such as ``event_edited``.
    """

    log_id: str
    index: int | None
    cause: str
    message: str

    def line(self) -> str:
        place = self.log_id or "register"
        return f"{place}{'' if self.index is None else f'[{self.index}]'}: {self.cause}: {self.message}"


class LogSummary(msgspec.Struct, frozen=True):
    """One log, as far as it could be read.

    Attributes:
        events: how many it holds.
        witnessed: how many of them a valid co-signed checkpoint covers; the rest is not promised.
        checkpoints: how many valid ones were compared.
        open_requests: decided and not closed there.
    """

    log_id: str
    instance: str
    events: int
    witnessed: int
    checkpoints: int
    open_requests: int


class Report(msgspec.Struct, frozen=True):
    """``ok`` where there is no fault; warnings are for a person to look at."""

    ok: bool
    logs: tuple[LogSummary, ...]
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]

    def lines(self) -> Iterator[str]:
        """For people: one line a log, a warning, a fault, and the verdict."""
        for log in self.logs:
            yield (
                f"{log.log_id} ({log.instance}): {log.events} events, {log.witnessed} witnessed by "
                f"{log.checkpoints} checkpoints, {log.open_requests} requests open"
            )
        for warning in self.warnings:
            yield f"warning: {warning.line()}"
        for fault in self.faults:
            yield f"FAULT: {fault.line()}"
        events = sum(log.events for log in self.logs)
        count = len(self.faults)
        verdict = "verified" if self.ok else f"{count} {'fault' if count == 1 else 'faults'}"
        yield f"{verdict}: {len(self.logs)} logs, {events} events"


class Findings:
    """Gathers faults and warnings; of each cause in each log only the first, since one change shows in all that follows."""

    def __init__(self) -> None:
        self._faults: dict[tuple[str, str], Fault] = {}
        self._warnings: list[Fault] = []

    def fault(self, log_id: str, index: int | None, cause: str, message: str) -> None:
        self._faults.setdefault((log_id, cause), Fault(log_id, index, cause, message))

    def warn(self, log_id: str, index: int | None, cause: str, message: str) -> None:
        self._warnings.append(Fault(log_id, index, cause, message))

    def report(self, logs: list[LogSummary]) -> Report:
        faults = tuple(self._faults.values())
        return Report(not faults, tuple(logs), faults, tuple(self._warnings))
