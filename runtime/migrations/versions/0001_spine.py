"""API keys and lineage."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# MySQL indexes a BLOB only by a prefix.
_DIGEST = sa.LargeBinary(32).with_variant(sa.BINARY(32), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=True),
        sa.Column("revoked_us", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_table(
        "lineage",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("sensitivity", sa.SmallInteger, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("digest", "tenant", "category", name="pk_lineage"),
    )
    op.create_index("ix_lineage_expires_us", "lineage", ["expires_us"])


def downgrade() -> None:
    op.drop_table("lineage")
    op.drop_table("api_keys")
