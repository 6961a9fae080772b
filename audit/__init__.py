"""The append-only log (docs/architecture.md, law 7): events, Merkle tree, checkpoints, witnesses, verification.

``audit.log.AuditLog`` writes, ``audit.query`` reads, ``audit.verify`` checks, ``audit.proof`` proves one event.
"""
