"""The thread that checkpoints a log: signs its tip, has it co-signed, keeps it; at most 0.5 s after an append."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import CHECKPOINTS, append_checkpoint, last_checkpoint, sign
from audit.merkle import consistency_proof, root_of_peaks
from audit.nodes import NodeFile
from audit.register import RegisterEntry
from audit.witness import REFUSED, Witness
from audit.writer import Tip, Writer
from runtime.errors import AuditError

PACE_S = 0.5
"""Between two checkpoints, and before another try after a failure."""

log = structlog.get_logger()


class Checkpointer:
    """Covers what the writer has made durable.

    Attributes:
        refused: the witness has seen another history; final.
        failed: checkpoints cannot be kept on disk; final.
    """

    def __init__(
        self,
        folder: Path,
        entry: RegisterEntry,
        *,
        key: Ed25519PrivateKey,
        witness: Witness,
        writer: Writer,
        nodes: NodeFile,
        clock_us: Callable[[], int],
    ) -> None:
        """Raises AuditError where the last checkpoint cannot be read."""
        self._path = folder / CHECKPOINTS
        self._entry = entry
        self._key = key
        self._witness = witness
        self._writer = writer
        self._nodes = nodes
        self._clock_us = clock_us
        last = last_checkpoint(self._path)
        self._kept = last.size if last else 0
        self._seen: int | None = None  # by the witness; None: to be asked
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-checkpoint", daemon=True)
        self._uncovered_since: float | None = None
        self.refused = False
        self.failed = False

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Take a last checkpoint and end; blocks for at most ``timeout_s`` should the witness not answer."""
        self._stopping.set()
        self._writer.grown.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def lag_s(self) -> float:
        """How long events have been waiting for a checkpoint; 0 when all are covered."""
        since = self._uncovered_since
        return time.monotonic() - since if since is not None else 0.0

    def _run(self) -> None:
        while not (self.refused or self.failed):
            self._writer.grown.wait()
            stopping = self._stopping.is_set()
            if not stopping:
                self._writer.grown.clear()
            covered = self._cover()
            if stopping:
                return
            if not covered:
                self._writer.grown.set()
            self._stopping.wait(PACE_S)

    def _cover(self) -> bool:
        """Checkpoint the tip; False where it has to be tried again. Never raises: this thread must not die unseen."""
        tip = self._writer.tip
        if tip.size == self._kept:
            self._uncovered_since = None
            return True
        if self._uncovered_since is None:
            self._uncovered_since = time.monotonic()
        try:
            self._checkpoint(tip)
        except Exception as error:
            self._seen = None
            code = error.code if isinstance(error, AuditError) else type(error).__name__
            self.refused = self.refused or code == REFUSED
            log.error(
                "audit checkpoint failed", log_id=self._entry.log_id, size=tip.size, cause=code, lag_s=round(self.lag_s)
            )
            return False
        self._uncovered_since = None
        return True

    def _checkpoint(self, tip: Tip) -> None:
        if self._seen is None:
            self._seen = self._witness.enrol(self._entry)
        if self._seen > tip.size:
            raise AuditError("the witness has seen more of this log than there is", code=REFUSED)
        checkpoint = sign(self._key, self._entry.log_id, tip.size, root_of_peaks(tip.peaks), self._clock_us())
        self._nodes.flush()  # so that other processes can prove events against this checkpoint
        proof = consistency_proof(self._nodes.node, self._seen, tip.size)
        cosignature = self._witness.cosign(checkpoint, proof)
        self._seen = tip.size
        try:
            append_checkpoint(self._path, msgspec.structs.replace(checkpoint, cosignature=cosignature))
        except OSError:
            self.failed = True
            raise
        self._kept = tip.size
