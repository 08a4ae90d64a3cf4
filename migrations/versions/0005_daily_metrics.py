"""The daily metrics, how far they reach, and the indexes that the numbers are read through.

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op

from bmad_mcp.migration_steps import create_index, drop_index

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = ("mcp_daily_metrics", "mcp_rollups")
INDEXES = (
    ("ix_bmad_tasks_completed", "bmad_tasks", ["project_id", "completed_at"], "status = 'completed'",
     ["created_at", "started_at", "quality", "lease_agent"]),
    ("ix_bmad_tasks_completed_of_story", "bmad_tasks", ["project_id", "story_id", "started_at"],
     "status = 'completed'", []),
    ("ix_bmad_tasks_cancelled", "bmad_tasks", ["project_id", "updated_at"], "status = 'cancelled'", []),
    ("ix_bmad_tasks_under_way", "bmad_tasks", ["project_id", "started_at"],
     "status IN ('active', 'in_progress', 'review', 'blocked')", []),
    ("ix_bmad_stories_done", "bmad_stories", ["project_id", "completed_at"], "status = 'done'", []),
    ("ix_bmad_workflow_stages_closed", "bmad_workflow_stages", ["project_id", "completed_at"],
     "completed_at IS NOT NULL", []),
)  # fmt: skip


def upgrade() -> None:
    """Add the six indexes and the two tables."""
    for name, table, columns, where, include in INDEXES:
        create_index(name, table, columns, where=where, include=include)
    op.create_table(
        "mcp_daily_metrics",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["bmad_projects.id"], ondelete="CASCADE", name=op.f("fk_mcp_daily_metrics_project_id_bmad_projects")
        ),
        sa.PrimaryKeyConstraint("project_id", "day", "metric", "agent", "label", name=op.f("pk_mcp_daily_metrics")),
    )
    op.create_table(
        "mcp_rollups",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("rolled_until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["bmad_projects.id"], ondelete="CASCADE", name=op.f("fk_mcp_rollups_project_id_bmad_projects")
        ),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_mcp_rollups")),
    )
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY bmad_project_scope ON {table}"
            " USING (project_id = bmad_project()) WITH CHECK (project_id = bmad_project())"
        )


def downgrade() -> None:
    """Drop them."""
    for name, *_ in INDEXES:
        drop_index(name)
    for table in TABLES:
        op.drop_table(table)
