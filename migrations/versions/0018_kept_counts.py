"""Keep how many tasks, stories, epics and workflows there are of each status, so that nobody has to count a million of them.

Revision: 0018
"""

import sqlalchemy as sa
from alembic import op

from bmad_mcp.migration_steps import create_index, drop_index, each_alone, grant, in_each_project, is_live, is_there, without_limit

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

IN_PROJECT = "project_id = bmad_project()"
# What each table's rows are called in the tallies, and the function that tells of a change.
TABLES = {
    "bmad_tasks": ("task", "bmad_tally_task"),
    "bmad_stories": ("story", "bmad_tally_row"),
    "bmad_epics": ("epic", "bmad_tally_row"),
    "bmad_workflows": ("workflow", "bmad_tally_row"),
}
WORDS = "raw_status IS NOT NULL OR tracker_status IS NOT NULL"

# Every row `y` is one change, or the sum of several: `count` rows came to a status, and left another.
BOTH_SIDES = """CROSS JOIN LATERAL (VALUES
    (y.kind, y.status, y.ready_for, y.count), (y.kind, y.left_status, y.left_ready_for, -y.count)
) AS m(kind, status, ready_for, count)"""
# Rows that another transaction is adding up stay with it, so nobody waits for anybody.
FOLD = f"""
CREATE OR REPLACE FUNCTION bmad_fold_tallies() RETURNS void LANGUAGE sql AS $body$
WITH gone AS (
    DELETE FROM mcp_tallies t WHERE t.{IN_PROJECT} AND t.id = ANY(ARRAY(
        SELECT p.id FROM mcp_tallies p WHERE p.{IN_PROJECT} ORDER BY p.id LIMIT 256 FOR UPDATE SKIP LOCKED))
    RETURNING t.*
)
INSERT INTO mcp_tallies (project_id, kind, status, ready_for, count)
SELECT bmad_project(), m.kind, m.status, m.ready_for, sum(m.count) FROM gone y {BOTH_SIDES}
WHERE m.status IS NOT NULL GROUP BY 2, 3, 4 HAVING sum(m.count) <> 0
$body$
"""
# One row for a change, whatever the change is: no row is shared, so two changes at once never wait here.
TALLY = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE
    -- NEW is null where a row is deleted, and OLD where one is inserted.
    project uuid := coalesce(NEW.project_id, OLD.project_id);
    status text := NEW.status;
    left_status text := OLD.status;
    ready_for text;
    left_ready_for text;
BEGIN{ready}
    -- With the project all its rows go, these too.
    IF TG_OP = 'DELETE' AND NOT EXISTS (SELECT FROM bmad_projects p WHERE p.id = project) THEN
        RETURN NULL;
    END IF;
    IF status IS DISTINCT FROM left_status OR ready_for IS DISTINCT FROM left_ready_for THEN
        INSERT INTO mcp_tallies (project_id, kind, status, ready_for, left_status, left_ready_for)
        VALUES (project, TG_ARGV[0], status, ready_for, left_status, left_ready_for);
        -- Now and then they are added up, so that few have to be read.
        IF random() < 1 / 64.0 THEN
            PERFORM bmad_fold_tallies();
        END IF;
    END IF;
    RETURN NULL;
END
$body$
"""
READY = """
    IF {row}.status = 'pending' AND {row}.open_dependencies = 0 AND {row}.story_open THEN
        {variable} := {row}.agent;
    END IF;"""
TALLY_TASK = TALLY.format(
    function="bmad_tally_task",
    ready=READY.format(row="NEW", variable="ready_for") + READY.format(row="OLD", variable="left_ready_for"),
)
TALLY_ROW = TALLY.format(function="bmad_tally_row", ready="")
ITS_STATUS = "OLD.status IS DISTINCT FROM NEW.status"
CHANGED = {
    "bmad_tasks": f"{ITS_STATUS} OR OLD.open_dependencies IS DISTINCT FROM NEW.open_dependencies"
    " OR OLD.story_open IS DISTINCT FROM NEW.story_open OR OLD.agent IS DISTINCT FROM NEW.agent",
    "bmad_stories": ITS_STATUS,
    "bmad_epics": ITS_STATUS,
    "bmad_workflows": ITS_STATUS,
}
# What the rows have more, or less, than the tallies say; one snapshot, so changes that go on do no harm.
MISCOUNTS = f"""
CREATE OR REPLACE FUNCTION bmad_miscounts()
RETURNS TABLE (kind text, status text, ready_for text, missing bigint) LANGUAGE sql STABLE AS $body$
SELECT c.kind, c.status, c.ready_for, sum(c.count)::bigint FROM (
    SELECT 'task' AS kind, t.status::text AS status,
        CASE WHEN t.status = 'pending' AND t.open_dependencies = 0 AND t.story_open THEN t.agent END AS ready_for,
        count(*) AS count
    FROM bmad_tasks t WHERE t.{IN_PROJECT} GROUP BY 2, 3
    UNION ALL
    SELECT 'story', s.status::text, NULL, count(*) FROM bmad_stories s WHERE s.{IN_PROJECT} GROUP BY 2
    UNION ALL
    SELECT 'epic', e.status::text, NULL, count(*) FROM bmad_epics e WHERE e.{IN_PROJECT} GROUP BY 2
    UNION ALL
    SELECT 'workflow', w.status::text, NULL, count(*) FROM bmad_workflows w WHERE w.{IN_PROJECT} GROUP BY 2
    UNION ALL
    SELECT m.kind, m.status, m.ready_for, -m.count FROM mcp_tallies y {BOTH_SIDES}
    WHERE y.{IN_PROJECT} AND m.status IS NOT NULL
) c GROUP BY 1, 2, 3 HAVING sum(c.count) <> 0
$body$
"""
# How many counts were wrong; none is afterwards.
RECOUNT = """
CREATE OR REPLACE FUNCTION bmad_recount() RETURNS bigint LANGUAGE sql AS $body$
WITH mended AS (
    INSERT INTO mcp_tallies (project_id, kind, status, ready_for, count)
    SELECT bmad_project(), m.kind, m.status, m.ready_for, m.missing FROM bmad_miscounts() m RETURNING 1
)
SELECT count(*) FROM mended
$body$
"""


def upgrade() -> None:
    """From the triggers on every change is kept; then what there is is counted, in one snapshot for each project."""
    if not is_there("mcp_tallies"):
        op.create_table(
            "mcp_tallies",
            sa.Column("project_id", sa.Uuid(), nullable=False),
            sa.Column("id", sa.Uuid(), server_default=sa.text("bmad_uuid7()"), nullable=False),
            sa.Column("kind", sa.Text(), nullable=False),
            sa.Column("status", sa.Text(), nullable=True),
            sa.Column("ready_for", sa.Text(), nullable=True),
            sa.Column("left_status", sa.Text(), nullable=True),
            sa.Column("left_ready_for", sa.Text(), nullable=True),
            sa.Column("count", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
            sa.ForeignKeyConstraint(
                ["project_id"],
                ["bmad_projects.id"],
                ondelete="CASCADE",
                name=op.f("fk_mcp_tallies_project_id_bmad_projects"),
            ),
            sa.PrimaryKeyConstraint("project_id", "id", name=op.f("pk_mcp_tallies")),
        )
        op.execute("ALTER TABLE mcp_tallies ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE mcp_tallies FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY bmad_project_scope ON mcp_tallies USING ({IN_PROJECT}) WITH CHECK ({IN_PROJECT})")
        grant("mcp_tallies")
    for function in (FOLD, TALLY_TASK, TALLY_ROW, MISCOUNTS, RECOUNT):
        op.execute(function)
    with each_alone():
        for table, (kind, function) in TABLES.items():
            op.execute(
                f"CREATE OR REPLACE TRIGGER bmad_tally AFTER INSERT OR DELETE ON {table}"
                f" FOR EACH ROW EXECUTE FUNCTION {function}('{kind}')"
            )
            op.execute(
                f"CREATE OR REPLACE TRIGGER bmad_tally_change AFTER UPDATE ON {table}"
                f" FOR EACH ROW WHEN ({CHANGED[table]}) EXECUTE FUNCTION {function}('{kind}')"
            )
    # And what the same answer lists of them is found without looking at the rest.
    create_index("ix_bmad_workflows_active", "bmad_workflows", ["project_id", "number"], where="status = 'active'")
    create_index(
        "ix_bmad_stories_words", "bmad_stories", ["project_id", "epic_number", "number", "suffix"], where=WORDS
    )
    _count_all()


def _count_all() -> None:
    """A second run finds nothing to add."""
    if not is_live() or op.get_context().as_sql:
        # A new database has no rows; whoever runs a script runs the job `recount` after it.
        return
    for _ in in_each_project():
        with without_limit():
            op.execute("SELECT bmad_recount()")


def downgrade() -> None:
    """Everybody counts again."""
    with each_alone():
        for table in TABLES:
            op.execute(f"DROP TRIGGER IF EXISTS bmad_tally_change ON {table}")
            op.execute(f"DROP TRIGGER IF EXISTS bmad_tally ON {table}")
    drop_index("ix_bmad_stories_words")
    drop_index("ix_bmad_workflows_active")
    for function in ("bmad_recount", "bmad_miscounts", "bmad_fold_tallies", "bmad_tally_task", "bmad_tally_row"):
        op.execute(f"DROP FUNCTION IF EXISTS {function}()")
    op.execute("DROP TABLE IF EXISTS mcp_tallies")
