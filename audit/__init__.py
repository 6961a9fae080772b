"""The append-only log (ARCHITECTURE.md, law 7): events, Merkle tree, checkpoints, witnesses, verification.

``audit.log.AuditLog`` writes, ``audit.query`` reads, ``audit.verify`` checks, ``audit.proof`` proves one event.
"""
