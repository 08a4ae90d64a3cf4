"""What the scheduled jobs keep: when each runs and how it went, and the archive of what retention took away.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Jobs go over all projects; nothing else sets app.jobs.
SEES_ALL = "current_setting('app.jobs', true) = 'on'"
POLICIES = (
    ("mcp_jobs", f"project_id = bmad_project() OR {SEES_ALL}"),
    ("mcp_archive", "project_id = bmad_project()"),
)

# Rows go by retention only: as the owner, older than this transaction said, and archived before.
MAY_GO_BY_RETENTION = """
CREATE OR REPLACE FUNCTION bmad_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.at < nullif(current_setting('app.retention_before', true), '')::timestamptz
        AND pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE')
        AND EXISTS (SELECT FROM mcp_archive a
            WHERE a.project_id = OLD.project_id AND a.kind = 'activity' AND a.id = OLD.id)
    THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'bmad_agent_activity is append-only: % is refused', TG_OP USING ERRCODE = '42501';
END
$body$
"""
NEVER_GO = """
CREATE OR REPLACE FUNCTION bmad_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION 'bmad_agent_activity is append-only: % is refused', TG_OP USING ERRCODE = '42501';
END
$body$
"""


def upgrade() -> None:
    """Add the two tables, let jobs see which projects there are, and let retention take old rows of the trail."""
    op.create_table(
        "mcp_jobs",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("next_run", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("result", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "name", name=op.f("pk_mcp_jobs")),
    )
    op.create_table(
        "mcp_archive",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content", postgresql.JSONB(), nullable=False),
        sa.Column("checksum", sa.LargeBinary(), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('activity', 'integrations', 'memories')", name=op.f("ck_mcp_archive_kind_word")),
        sa.PrimaryKeyConstraint("project_id", "kind", "id", name=op.f("pk_mcp_archive")),
    )
    for table, condition in POLICIES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY bmad_project_scope ON {table} USING ({condition}) WITH CHECK ({condition})")
    op.execute(f"CREATE POLICY bmad_jobs_scope ON bmad_projects FOR SELECT USING ({SEES_ALL})")
    op.execute(MAY_GO_BY_RETENTION)


def downgrade() -> None:
    """Take them away again; what is in the archive goes with it."""
    op.execute(NEVER_GO)
    op.execute("DROP POLICY bmad_jobs_scope ON bmad_projects")
    for table, _ in POLICIES:
        op.drop_table(table)
