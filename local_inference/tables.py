"""The node's tables."""

from __future__ import annotations

import sqlalchemy as sa

from runtime.database import metadata

# MySQL indexes a BLOB only by a prefix.
DIGEST = sa.LargeBinary(32).with_variant(sa.BINARY(32), "mysql", "mariadb")

journal = sa.Table(
    "journal",
    metadata,
    sa.Column("id", sa.String(128), primary_key=True),
    sa.Column("digest", DIGEST, nullable=False),
    sa.Column("owner", sa.String(192), nullable=False),  # the node, and which of its claims
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("lease_until_us", sa.BigInteger, nullable=False),
    sa.Column("expires_us", sa.BigInteger, nullable=False, index=True),
)
"""Which node answers a request; times are the database's clock, microseconds since the Unix epoch."""
