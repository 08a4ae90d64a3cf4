"""Remember the trace that a change belongs to, so that a row of the trail leads to the spans of its request.

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# The transaction of a traced call says it, so no statement that writes the trail has to.
TRACE = "nullif(current_setting('app.trace', true), '')"


def upgrade() -> None:
    """Add the column, empty in the rows that there are; both steps change the catalogue only."""
    op.add_column("bmad_agent_activity", sa.Column("trace_id", sa.Text(), nullable=True))
    op.alter_column("bmad_agent_activity", "trace_id", server_default=sa.text(TRACE))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("bmad_agent_activity", "trace_id")
