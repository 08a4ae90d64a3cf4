"""Who may come in over HTTP: access tokens, and the roles of principals in a project.

Revision: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCOPES = "scopes <@ ARRAY['read', 'write', 'admin'] AND cardinality(scopes) > 0"
ROLES = "role IN ('viewer', 'member', 'admin')"
IN_PROJECT = "project_id = bmad_project()"
# A token is found by its id before its projects are known.
OF_TOKEN = f"{IN_PROJECT} OR id = nullif(current_setting('app.token', true), '')"


def upgrade() -> None:
    """Add the two tables; a token has one row for each of its projects."""
    op.create_table(
        "mcp_tokens",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(SCOPES, name=op.f("ck_mcp_tokens_scope_words")),
        sa.CheckConstraint("octet_length(secret_hash) = 32", name=op.f("ck_mcp_tokens_hash_length")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["bmad_projects.id"], ondelete="CASCADE", name=op.f("fk_mcp_tokens_project_id_bmad_projects")
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("pk_mcp_tokens")),
    )
    op.create_index("ix_mcp_tokens_id", "mcp_tokens", ["id"])
    op.create_table(
        "mcp_members",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(ROLES, name=op.f("ck_mcp_members_role_word")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["bmad_projects.id"], ondelete="CASCADE", name=op.f("fk_mcp_members_project_id_bmad_projects")
        ),
        sa.PrimaryKeyConstraint("project_id", "principal", name=op.f("pk_mcp_members")),
    )
    for table, condition in (("mcp_tokens", OF_TOKEN), ("mcp_members", IN_PROJECT)):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY bmad_project_scope ON {table} USING ({condition}) WITH CHECK ({condition})")


def downgrade() -> None:
    """Drop them."""
    op.drop_table("mcp_members")
    op.drop_table("mcp_tokens")
