"""Remember the file of an artifact beside its content, so that an edit by a tool and one in the file can be told apart.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what was imported is what its file said."""
    op.add_column("bmad_artifacts", sa.Column("file_hash", sa.Text(), nullable=True))
    # The owner is bound by row-level security too, and has no project here.
    op.execute("ALTER TABLE bmad_artifacts NO FORCE ROW LEVEL SECURITY")
    op.execute("UPDATE bmad_artifacts SET file_hash = content_hash WHERE source = 'import'")
    op.execute("ALTER TABLE bmad_artifacts FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("bmad_artifacts", "file_hash")
