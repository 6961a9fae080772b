"""The nodes' request journal."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# MySQL indexes a BLOB only by a prefix.
_DIGEST = sa.LargeBinary(32).with_variant(sa.BINARY(32), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "journal",
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("owner", sa.String(192), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("lease_until_us", sa.BigInteger, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_journal"),
    )
    op.create_index("ix_journal_expires_us", "journal", ["expires_us"])


def downgrade() -> None:
    op.drop_table("journal")
