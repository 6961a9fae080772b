"""A gateway's signed word that its audit log durably holds a decision, for a clearance authority in another process.

    AuditLog.holds ─▶ ReceiptSigner ─▶ AttestedProof(event, receipt, register entry, signature) ─▶ ReceiptCheck

In one process the authority asks the log itself. In another it can only have the log's word: signed with the log's own
key, which the register's key vouches for, so that whoever stole a gateway's certificate alone gets no clearance, and
that a false word stays provable for ever: the authority enters the receipt in its own witnessed log before it gives a
clearance, where it is compared with the gateway's log.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.event import Receipt
from audit.register import RegisterEntry
from gateway.authority import DecisionProof
from runtime.errors import ClearanceError
from runtime.ids import now_us

MAX_AGE_S = 660.0
"""Of a decision: the longest deadline of a request, and a minute."""

CLOCK_SKEW_S = 2.0


class AttestedProof(DecisionProof, frozen=True):
    """A decision event and its receipt, signed.

    Attributes:
        entry: the log's, from the register.
        signature: by the log's key, over ``signed_text``; Ed25519, 64 bytes.
    """

    entry: RegisterEntry
    signature: bytes

    def signed_text(self) -> bytes:
        return _signed_text(self.entry, self.receipt)


class Held(Protocol):
    """The part of ``audit.log.AuditLog`` that a signer needs."""

    def holds(self, receipt: Receipt) -> bool: ...


class ReceiptSigner:
    """Signs what the log holds, and nothing else. ``key``: the log's, whose public half ``entry`` names."""

    def __init__(self, log: Held, entry: RegisterEntry, key: Ed25519PrivateKey) -> None:
        if key.public_key().public_bytes_raw() != entry.public_key:
            raise ValueError("the key is not that of the log's entry")
        self._log = log
        self._entry = entry
        self._key = key

    def attest(self, proof: DecisionProof) -> AttestedProof:
        """Raises ClearanceError where the log does not hold the receipt."""
        if not self._log.holds(proof.receipt):
            raise ClearanceError("the decision is not in the audit log", code="receipt_not_held")
        signature = self._key.sign(_signed_text(self._entry, proof.receipt))
        return AttestedProof(proof.event, proof.receipt, self._entry, signature)


class ReceiptCheck:
    """What the authority takes as a held receipt: signed by a log of the register, for a decision not too long ago."""

    def __init__(self, register_key: Ed25519PublicKey, *, clock_us: Callable[[], int] = now_us) -> None:
        self._register_key = register_key
        self._clock_us = clock_us

    def __call__(self, proof: AttestedProof) -> bool:
        """For ``ClearanceAuthority``'s ``receipt_holds``; that the receipt is the event's is for ``Recheck`` to see."""
        age_s = (self._clock_us() - proof.event.at_us) / 1e6
        if not -CLOCK_SKEW_S <= age_s <= MAX_AGE_S or proof.receipt.log_id != proof.entry.log_id:
            return False
        return proof.entry.is_signed_by(self._register_key) and _is_signed(proof)


def _is_signed(proof: AttestedProof) -> bool:
    try:
        proof.entry.log_key().verify(proof.signature, proof.signed_text())
    except (InvalidSignature, ValueError):
        return False
    return True


def _signed_text(entry: RegisterEntry, receipt: Receipt) -> bytes:
    """Unlike any text that the log's key signs elsewhere (``audit.checkpoint``)."""
    leaf = base64.b64encode(receipt.leaf_hash).decode()
    return f"watershed.receipt/{receipt.log_id}\n{receipt.index}\n{leaf}\nsuite {entry.suite}\n".encode()
