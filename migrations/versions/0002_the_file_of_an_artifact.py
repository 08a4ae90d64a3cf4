"""Remember the file of an artifact beside its content, so that an edit by a tool and one in the file can be told apart.

Revision: 0002
"""

from alembic import op

from bmad_mcp.migration_steps import backfill, each_alone

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what was imported is what its file said."""
    with each_alone():
        op.execute("ALTER TABLE bmad_artifacts ADD COLUMN IF NOT EXISTS file_hash text")
    backfill("bmad_artifacts", "file_hash = content_hash", "source = 'import' AND file_hash IS NULL")


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("bmad_artifacts", "file_hash")
