"""Leases of the 64 partitions that answers of the crossing come back in."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_PARTITIONS = 64


def upgrade() -> None:
    table = op.create_table(
        "reply_partitions",
        sa.Column("number", sa.SmallInteger, autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("lease_until_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_reply_partitions"),
    )
    free = [{"number": number, "owner": "", "epoch": 0, "lease_until_us": 0} for number in range(_PARTITIONS)]
    op.bulk_insert(table, free)


def downgrade() -> None:
    op.drop_table("reply_partitions")
