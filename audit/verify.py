"""Verification: whether every log under a root is still what a witness has seen of it.

    register ──▶ which logs there must be, and their keys     (signed chain, register key pinned outside)
    checkpoints ──▶ what their first events must hash to       (signed by log and witness, witness key pinned outside)
    segments ──▶ what they hash to                             (read once, compared at every checkpoint)

It only reads, in memory that does not grow with the log, and may run beside a gateway that writes.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.open_requests import OpenRequest
from audit.register import NO_ENTRY, REGISTER, RegisterEntry, read_register
from audit.report import Findings, LogSummary, Report
from audit.segment import segments
from audit.verify_log import LogCheck
from audit.witness import store_of
from runtime.errors import AuditError


def verify(
    root: Path,
    *,
    register_key: Ed25519PublicKey,
    witness_key: Ed25519PublicKey,
    witness_folder: Path | None = None,
) -> Report:
    """Check the register and every log under the audit root.

    Args:
        register_key, witness_key: pinned by the caller; keys found under ``root`` prove nothing by themselves.
        witness_folder: a local witness's store. Without it a log that was cut back together with its own checkpoints,
            or a last log removed together with its register entry, cannot be told from one that never went further,
            and the report says so in a warning.
    """
    findings = Findings()
    # The witness's register is read first: a log is entered before it is enrolled, so this never reports a new one.
    enrolled = _read(witness_folder, findings, "witness_register") if witness_folder is not None else []
    entries = _read(root, findings, "register")
    _check_chain(entries, register_key, findings)
    _check_presence(root, entries, enrolled, findings)
    if witness_folder is None:
        findings.warn(
            "", None, "witness_record_not_given", "what was cut off together with its checkpoints goes unseen"
        )
    logs: list[LogSummary] = []
    left: dict[str, tuple[str, OpenRequest]] = {}
    last_of = {entry.instance: entry.log_id for entry in entries}
    for entry in entries:
        if not (root / entry.log_id).is_dir():
            continue
        store = store_of(witness_folder, entry.log_id) if witness_folder is not None else None
        check = LogCheck(
            root / entry.log_id, entry, store, witness_key, findings, on_closed=lambda id_: left.pop(id_, None)
        )
        logs.append(check.run())
        if last_of[entry.instance] != entry.log_id:
            left.update({request.request_id: (entry.log_id, request) for request in check.open_requests.all()})
    for log_id, request in left.values():
        findings.warn(log_id, None, "request_not_closed", f"request {request.request_id} has no closing event")
    return findings.report(logs)


def _read(folder: Path, findings: Findings, name: str) -> list[RegisterEntry]:
    try:
        return read_register(folder / REGISTER)
    except AuditError:
        findings.fault("", None, f"{name}_unreadable", "an entry cannot be read")
        return []


def _check_chain(entries: list[RegisterEntry], register_key: Ed25519PublicKey, findings: Findings) -> None:
    previous = NO_ENTRY
    for place, entry in enumerate(entries):
        if not entry.is_signed_by(register_key):
            findings.fault(
                "", place, "register_signature", f"the entry of {entry.log_id} is not signed by the register's key"
            )
        if entry.number != place or entry.previous != previous:
            findings.fault("", place, "register_chain", f"an entry before that of {entry.log_id} is missing or changed")
        previous = entry.digest()


def _check_presence(
    root: Path, entries: list[RegisterEntry], enrolled: list[RegisterEntry], findings: Findings
) -> None:
    known = {entry.log_id for entry in entries}
    for entry in entries:
        if not (root / entry.log_id).is_dir():
            findings.fault(entry.log_id, None, "missing_log", "the register names it and its folder is not there")
    for entry in enrolled:
        if entry.log_id not in known:
            findings.fault(entry.log_id, None, "register_cut", "the witness knows it and the register does not")
    # A crash may come between entering a log and its first event, never between its first event and its entry.
    for folder in sorted(path for path in root.glob("*") if path.is_dir() and segments(path)):
        if folder.name not in known:
            findings.fault(folder.name, None, "unregistered_log", "the register does not name it")
