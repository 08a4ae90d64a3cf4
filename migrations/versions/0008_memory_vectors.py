"""Vectors of memories, for the search by meaning: a centre for each project, and what sets each memory apart from it.

Revision: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = ("mcp_memory_centres", "mcp_memory_vectors")


def upgrade() -> None:
    """Add the two tables; PostgreSQL's own types are enough for them."""
    op.create_table(
        "mcp_memory_centres",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("centre", sa.ARRAY(sa.REAL()), nullable=False),
        sa.Column("memories", sa.Integer(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["bmad_projects.id"], ondelete="CASCADE", name=op.f("fk_mcp_memory_centres_project_id_bmad_projects")
        ),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_mcp_memory_centres")),
    )
    op.create_table(
        "mcp_memory_vectors",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("memory_id", sa.Uuid(), nullable=False),
        sa.Column("signs", postgresql.BIT(256), nullable=False),
        sa.Column("code", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id", "memory_id"],
            ["mcp_memories.project_id", "mcp_memories.id"],
            ondelete="CASCADE",
            name=op.f("fk_mcp_memory_vectors_project_id_memory_id_mcp_memories"),
        ),
        sa.PrimaryKeyConstraint("project_id", "memory_id", name=op.f("pk_mcp_memory_vectors")),
    )
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY bmad_project_scope ON {table}"
            " USING (project_id = bmad_project()) WITH CHECK (project_id = bmad_project())"
        )


def downgrade() -> None:
    """Take them away; they are computed from the memories."""
    for table in reversed(TABLES):
        op.drop_table(table)
