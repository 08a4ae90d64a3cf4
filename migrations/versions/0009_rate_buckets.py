"""How often principals and projects call, counted for all servers of a database.

Revision: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, unlogged: a crash leaves every bucket full, and no call waits for the write-ahead log."""
    op.create_table(
        "mcp_rate_buckets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("full_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mcp_rate_buckets")),
        prefixes=["UNLOGGED"],
    )
    # Every call moves full_at: with an index on it no update could stay in its page.
    op.execute("ALTER TABLE mcp_rate_buckets SET (fillfactor = 50)")


def downgrade() -> None:
    """Drop it."""
    op.drop_table("mcp_rate_buckets")
