"""People: a pseudonym stands in the rows, and one sealed row of the project says whose it is.

Revision: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

IN_PROJECT = "project_id = bmad_project()"
SEALED = r"'^v1\.[a-z0-9][a-z0-9-]{0,31}\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]{22,}$'"
BY_OWNER = "pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE')"

# As 0006 made it.
GOES_BY_RETENTION = f"""
    IF TG_OP = 'DELETE' AND OLD.at < nullif(current_setting('app.retention_before', true), '')::timestamptz
        AND {BY_OWNER}
        AND EXISTS (SELECT FROM mcp_archive a
            WHERE a.project_id = OLD.project_id AND a.kind = 'activity' AND a.id = OLD.id)
    THEN
        RETURN OLD;
    END IF;
"""
# A name that was written in the clear may give way to a pseudonym of its project, and nothing else of a row may change.
NAMES_GIVE_WAY = f"""
    IF TG_OP = 'UPDATE' AND current_setting('app.people', true) = 'on' AND {BY_OWNER}
        AND to_jsonb(NEW) - ARRAY['principal', 'subject', 'detail'] = to_jsonb(OLD) - ARRAY['principal', 'subject', 'detail']
        AND NEW.detail - 'title' = OLD.detail - 'title'
        AND (NEW.principal = OLD.principal OR (NOT starts_with(OLD.principal, '~')
            AND EXISTS (SELECT FROM mcp_people p WHERE p.project_id = OLD.project_id AND p.id = NEW.principal)))
        AND (NEW.subject = OLD.subject OR (starts_with(OLD.subject, 'member ') AND NOT starts_with(OLD.subject, 'member ~')
            AND EXISTS (SELECT FROM mcp_people p WHERE p.project_id = OLD.project_id AND NEW.subject = 'member ' || p.id)))
        AND (NEW.detail = OLD.detail OR (starts_with(OLD.subject, 'token ') AND NOT starts_with(OLD.detail ->> 'title', '~')
            AND EXISTS (SELECT FROM mcp_people p
                WHERE p.project_id = OLD.project_id AND p.id = NEW.detail ->> 'title')))
    THEN
        RETURN NEW;
    END IF;
"""
REFUSE_CHANGE = """
CREATE OR REPLACE FUNCTION bmad_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN{exceptions}
    RAISE EXCEPTION 'bmad_agent_activity is append-only: % is refused', TG_OP USING ERRCODE = '42501';
END
$body$
"""


def upgrade() -> None:
    """Add the table, and let the owner put pseudonyms in the place of names in the trail. No row is rewritten."""
    op.create_table(
        "mcp_people",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["bmad_projects.id"], ondelete="CASCADE", name=op.f("fk_mcp_people_project_id_bmad_projects")
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("pk_mcp_people")),
        sa.UniqueConstraint("project_id", "mark", name=op.f("uq_mcp_people_project_id_mark")),
    )
    op.execute("ALTER TABLE mcp_people ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE mcp_people FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY bmad_project_scope ON mcp_people USING ({IN_PROJECT}) WITH CHECK ({IN_PROJECT})")
    op.execute(
        "CREATE TRIGGER bmad_key_of_name AFTER INSERT OR UPDATE OF name ON mcp_people"
        f" FOR EACH ROW WHEN (NEW.name ~ {SEALED}) EXECUTE FUNCTION bmad_key_serves('{{name}}')"
    )
    op.execute(REFUSE_CHANGE.format(exceptions=GOES_BY_RETENTION + NAMES_GIVE_WAY))


def downgrade() -> None:
    """Take it away; refused while anybody is in it, as nobody could say then who a pseudonym is."""
    op.execute("ALTER TABLE mcp_people NO FORCE ROW LEVEL SECURITY")
    op.execute("""
        DO $do$ BEGIN
            IF EXISTS (SELECT FROM mcp_people) THEN
                RAISE EXCEPTION 'pseudonyms stand in the place of names: an older version could not read them';
            END IF;
        END $do$
    """)
    op.execute(REFUSE_CHANGE.format(exceptions=GOES_BY_RETENTION))
    op.drop_table("mcp_people")
