"""Say who has a task by its lease alone, find what waits for a reviewer, and tell what a change of a task changed.

Revision: 0019
"""

from alembic import op

from bmad_mcp.migration_steps import create_index, drop_index

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TO_REVIEW = "status = 'review' AND open_dependencies = 0 AND story_open"
# What waits for a task is locked with it, by id: else two that wait for each other could each lock what the other wants.
IN_ORDER = """
IF EXISTS (SELECT FROM bmad_tasks x JOIN bmad_task_dependencies e
        ON e.project_id = x.project_id AND e.depends_on_id = x.id
    WHERE x.project_id = bmad_project() AND x.number = $1) THEN
    PERFORM FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.id = ANY(ARRAY(
        SELECT x.id FROM bmad_tasks x WHERE x.project_id = bmad_project() AND x.number = $1
        UNION ALL
        SELECT e.task_id FROM bmad_tasks x JOIN bmad_task_dependencies e
            ON e.project_id = x.project_id AND e.depends_on_id = x.id
        WHERE x.project_id = bmad_project() AND x.number = $1))
    ORDER BY t.id FOR UPDATE;
END IF;
"""
# As it was, but for that.
TASK_COMPLETE = """
CREATE OR REPLACE FUNCTION bmad_do_task_complete(integer, integer, text, integer, text, text, text)
RETURNS TABLE (id uuid, story_id uuid, key text, title text, status text, priority text, agent text, story text,
    held_by text, quality integer, unblocked integer[], story_status text, tasks_done bigint, tasks_total bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
DECLARE
    done record;
    stories bigint;
    dependents bigint;
BEGIN
IF EXISTS (SELECT FROM bmad_tasks x JOIN bmad_task_dependencies e
        ON e.project_id = x.project_id AND e.depends_on_id = x.id
    WHERE x.project_id = bmad_project() AND x.number = $1) THEN
    PERFORM FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.id = ANY(ARRAY(
        SELECT x.id FROM bmad_tasks x WHERE x.project_id = bmad_project() AND x.number = $1
        UNION ALL
        SELECT e.task_id FROM bmad_tasks x JOIN bmad_task_dependencies e
            ON e.project_id = x.project_id AND e.depends_on_id = x.id
        WHERE x.project_id = bmad_project() AND x.number = $1))
    ORDER BY t.id FOR UPDATE;
END IF;
WITH t AS (
    UPDATE bmad_tasks AS t SET status = 'completed'::bmad_task_status, summary = nullif($3::text, ''), quality = $4::int,
        lease_until = NULL, completed_at = now(), updated_at = now(), version = t.version + 1
    WHERE t.project_id = bmad_project() AND t.number = $1::int AND t.lease = $2::int AND t.lease_until > clock_timestamp()
      AND t.status IN ('active', 'in_progress', 'review')
    RETURNING t.*
), audit AS (
    INSERT INTO bmad_agent_activity (project_id, operation, subject, agent, principal, call_id, detail)
    SELECT t.project_id, 'task_complete', 'task T-' || t.number, t.lease_agent, $5::text, $6::text,
        jsonb_strip_nulls(jsonb_build_object('note', nullif($7::text, ''), 'quality', $4::int, 'lease', t.lease))
    FROM t
)
SELECT t.id, t.story_id, 
    'T-' || t.number AS key, t.title, t.status::text AS status, t.priority::text AS priority, t.agent,
    t.version, t.description, t.lease, t.lease_until, t.lease_agent AS held_by, t.note, t.summary, t.quality,
    (SELECT s.key FROM bmad_stories s WHERE s.project_id = t.project_id AND s.id = t.story_id) AS story
 FROM t INTO done;
IF done.id IS NULL THEN
    RETURN;
END IF;
WITH locked AS (
    SELECT s.id FROM bmad_stories s WHERE s.project_id = bmad_project() AND s.id = done.story_id FOR UPDATE
), dependents AS (
    SELECT t.id FROM (
        SELECT e.task_id FROM bmad_task_dependencies e
        WHERE e.project_id = bmad_project() AND e.depends_on_id = done.id ORDER BY e.task_id) AS waiting
    CROSS JOIN LATERAL (
        SELECT x.id FROM bmad_tasks x WHERE x.project_id = bmad_project() AND x.id = waiting.task_id FOR UPDATE) AS t
)
SELECT (SELECT count(*) FROM locked), (SELECT count(*) FROM dependents) INTO stories, dependents;
IF dependents > 0 THEN
    WITH changed AS (
        UPDATE bmad_tasks AS t SET open_dependencies = (
            SELECT count(*) FILTER (WHERE d.status NOT IN ('completed', 'cancelled')) FROM bmad_task_dependencies e CROSS JOIN LATERAL (
                SELECT x.status FROM bmad_tasks x
                WHERE x.project_id = bmad_project() AND x.id = e.depends_on_id OFFSET 0) AS d
            WHERE e.project_id = bmad_project() AND e.task_id = t.id), updated_at = now(), version = t.version + 1
        WHERE t.project_id = bmad_project() AND t.open_dependencies <> (
            SELECT count(*) FILTER (WHERE d.status NOT IN ('completed', 'cancelled')) FROM bmad_task_dependencies e CROSS JOIN LATERAL (
                SELECT x.status FROM bmad_tasks x
                WHERE x.project_id = bmad_project() AND x.id = e.depends_on_id OFFSET 0) AS d
            WHERE e.project_id = bmad_project() AND e.task_id = t.id) AND t.id = ANY(ARRAY(
            SELECT f.task_id FROM bmad_task_dependencies f
            WHERE f.project_id = bmad_project() AND f.depends_on_id = done.id))
        RETURNING t.number, t.status = 'pending' AND t.open_dependencies = 0 AND t.story_open AS ready
    )
    SELECT array_agg(c.number ORDER BY c.number) FILTER (WHERE c.ready) FROM changed c INTO unblocked;
END IF;
-- The last open task of a story in progress takes the story to review.
IF stories > 0 THEN
    WITH counted AS (
        SELECT count(*) FILTER (WHERE t.status = 'completed') AS tasks_done,
            count(*) FILTER (WHERE t.status <> 'cancelled') AS tasks_total,
            count(*) FILTER (WHERE t.status NOT IN ('completed', 'cancelled')) AS tasks_open
        FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.story_id = done.story_id
    ), moved AS (
        UPDATE bmad_stories AS s SET status = 'review'::bmad_story_status, updated_at = now(), version = s.version + 1
        FROM counted WHERE s.project_id = bmad_project() AND s.id = done.story_id
          AND counted.tasks_open = 0 AND counted.tasks_done > 0
          AND s.status IN ('in_progress')
        RETURNING s.status::text AS status
    )
    SELECT coalesce((SELECT m.status FROM moved m), s.status::text), counted.tasks_done, counted.tasks_total
    FROM bmad_stories s, counted WHERE s.project_id = bmad_project() AND s.id = done.story_id
    INTO story_status, tasks_done, tasks_total;
END IF;
RETURN QUERY SELECT done.id, done.story_id, done.key, done.title, done.status, done.priority, done.agent, done.story,
    done.held_by, done.quality, unblocked, story_status, tasks_done, tasks_total;
END
$body$
"""
# As `tasks/functions.py` made it; a test compares what is in the database with it. The one with two arguments less stays
# for the release before this one.
TASK_UPDATE = """
CREATE FUNCTION bmad_do_task_update(integer, text, text, text, text, integer, integer, text, text, text, text[])
RETURNS TABLE (id uuid, key text, title text, status text, priority text, agent text, version integer, description text,
    lease integer, lease_until timestamptz, held_by text, note text, summary text, quality integer, story text,
    created_at timestamptz, ready boolean, workflow text, depends_on text[], waits_for text[], history jsonb)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
DECLARE
    before record;
    done record;
    stories bigint;
    dependents bigint;
    unblocked integer[];
    story_status text;
    tasks_done bigint;
    tasks_total bigint;
BEGIN
IF EXISTS (SELECT FROM bmad_tasks x JOIN bmad_task_dependencies e
        ON e.project_id = x.project_id AND e.depends_on_id = x.id
    WHERE x.project_id = bmad_project() AND x.number = $1) THEN
    PERFORM FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.id = ANY(ARRAY(
        SELECT x.id FROM bmad_tasks x WHERE x.project_id = bmad_project() AND x.number = $1
        UNION ALL
        SELECT e.task_id FROM bmad_tasks x JOIN bmad_task_dependencies e
            ON e.project_id = x.project_id AND e.depends_on_id = x.id
        WHERE x.project_id = bmad_project() AND x.number = $1))
    ORDER BY t.id FOR UPDATE;
END IF;
SELECT CASE WHEN t.lease_until > clock_timestamp() THEN t.lease_agent END AS holder, t.status NOT IN ('completed', 'cancelled') AS is_open FROM bmad_tasks t
WHERE t.project_id = bmad_project() AND t.number = $1 FOR UPDATE INTO before;
UPDATE bmad_tasks AS t SET
    status = coalesce($2::text, t.status::text)::text::bmad_task_status,
    note = coalesce($3::text, t.note), title = coalesce($4::text, t.title),
    priority = coalesce($5::text::bmad_task_priority, t.priority),
    lease_until = CASE WHEN $2::text IN ('pending', 'blocked', 'cancelled', 'completed') THEN NULL ELSE t.lease_until END,
    lease_agent = CASE WHEN $2::text IN ('pending', 'blocked', 'cancelled') THEN NULL ELSE t.lease_agent END,
    updated_at = now(), version = t.version + 1
WHERE t.project_id = bmad_project() AND t.number = $1::int
  AND ($2::text IS NULL OR (CASE $2::text WHEN 'pending' THEN t.status IN ('active', 'in_progress', 'review', 'blocked', 'cancelled') WHEN 'active' THEN t.status IN ('pending', 'active', 'in_progress', 'review') WHEN 'in_progress' THEN t.status IN ('pending', 'active', 'in_progress', 'review') WHEN 'review' THEN t.status IN ('active', 'in_progress') WHEN 'blocked' THEN t.status IN ('pending', 'active', 'in_progress', 'review') WHEN 'completed' THEN t.status IN ('active', 'in_progress', 'review') WHEN 'cancelled' THEN t.status IN ('pending', 'active', 'in_progress', 'review', 'blocked') ELSE false END))
  AND ($6::int IS NULL OR t.version = $6::int)
  AND (t.lease_until IS NULL OR t.lease_until <= clock_timestamp() OR t.lease = $7::int)
  AND ($7::int IS NULL OR (t.lease = $7::int AND t.lease_until > clock_timestamp()))
  AND ($7::int IS NOT NULL OR coalesce($2::text, '') NOT IN ('in_progress', 'review'))
  AND ($7::int IS NOT NULL OR $2::text IS NOT NULL OR t.status NOT IN ('active', 'in_progress') OR t.lease_until > clock_timestamp())
RETURNING t.id, t.story_id, t.status NOT IN ('completed', 'cancelled') AS is_open INTO done;
IF done.id IS NULL THEN
    RETURN;
END IF;
IF done.is_open <> before.is_open THEN
WITH locked AS (
    SELECT s.id FROM bmad_stories s WHERE s.project_id = bmad_project() AND s.id = done.story_id FOR UPDATE
), dependents AS (
    SELECT t.id FROM (
        SELECT e.task_id FROM bmad_task_dependencies e
        WHERE e.project_id = bmad_project() AND e.depends_on_id = done.id ORDER BY e.task_id) AS waiting
    CROSS JOIN LATERAL (
        SELECT x.id FROM bmad_tasks x WHERE x.project_id = bmad_project() AND x.id = waiting.task_id FOR UPDATE) AS t
)
SELECT (SELECT count(*) FROM locked), (SELECT count(*) FROM dependents) INTO stories, dependents;
IF dependents > 0 THEN
    WITH changed AS (
        UPDATE bmad_tasks AS t SET open_dependencies = (
            SELECT count(*) FILTER (WHERE d.status NOT IN ('completed', 'cancelled')) FROM bmad_task_dependencies e CROSS JOIN LATERAL (
                SELECT x.status FROM bmad_tasks x
                WHERE x.project_id = bmad_project() AND x.id = e.depends_on_id OFFSET 0) AS d
            WHERE e.project_id = bmad_project() AND e.task_id = t.id), updated_at = now(), version = t.version + 1
        WHERE t.project_id = bmad_project() AND t.open_dependencies <> (
            SELECT count(*) FILTER (WHERE d.status NOT IN ('completed', 'cancelled')) FROM bmad_task_dependencies e CROSS JOIN LATERAL (
                SELECT x.status FROM bmad_tasks x
                WHERE x.project_id = bmad_project() AND x.id = e.depends_on_id OFFSET 0) AS d
            WHERE e.project_id = bmad_project() AND e.task_id = t.id) AND t.id = ANY(ARRAY(
            SELECT f.task_id FROM bmad_task_dependencies f
            WHERE f.project_id = bmad_project() AND f.depends_on_id = done.id))
        RETURNING t.number, t.status = 'pending' AND t.open_dependencies = 0 AND t.story_open AS ready
    )
    SELECT array_agg(c.number ORDER BY c.number) FILTER (WHERE c.ready) FROM changed c INTO unblocked;
END IF;
-- The last open task of a story in progress takes the story to review.
IF stories > 0 THEN
    WITH counted AS (
        SELECT count(*) FILTER (WHERE t.status = 'completed') AS tasks_done,
            count(*) FILTER (WHERE t.status <> 'cancelled') AS tasks_total,
            count(*) FILTER (WHERE t.status NOT IN ('completed', 'cancelled')) AS tasks_open
        FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.story_id = done.story_id
    ), moved AS (
        UPDATE bmad_stories AS s SET status = 'review'::bmad_story_status, updated_at = now(), version = s.version + 1
        FROM counted WHERE s.project_id = bmad_project() AND s.id = done.story_id
          AND counted.tasks_open = 0 AND counted.tasks_done > 0
          AND s.status IN ('in_progress')
        RETURNING s.status::text AS status
    )
    SELECT coalesce((SELECT m.status FROM moved m), s.status::text), counted.tasks_done, counted.tasks_total
    FROM bmad_stories s, counted WHERE s.project_id = bmad_project() AND s.id = done.story_id
    INTO story_status, tasks_done, tasks_total;
END IF;
END IF;
INSERT INTO bmad_agent_activity (project_id, operation, subject, agent, principal, call_id, detail)
VALUES (bmad_project(), 'task_update', 'task T-' || $1, coalesce(before.holder, (SELECT a.name FROM bmad_agent_sessions n JOIN bmad_agents a
        ON a.project_id = n.project_id AND a.id = n.agent_id
     WHERE n.project_id = bmad_project() AND n.caller = $10::text AND n.ended_at IS NULL
     ORDER BY n.started_at DESC, n.id DESC LIMIT 1)),
    $8, $9, jsonb_strip_nulls(jsonb_build_object('status', $2, 'changed', nullif($11, '{}'),
        'note', nullif(left($3, 300), ''))));
RETURN QUERY
SELECT t.id, 
    'T-' || t.number AS key, t.title, t.status::text AS status, t.priority::text AS priority, t.agent,
    t.version, t.description, CASE WHEN t.status IN ('active', 'in_progress', 'review') AND t.lease_until > read.at THEN t.lease END AS lease, CASE WHEN t.status IN ('active', 'in_progress', 'review') AND t.lease_until > read.at THEN t.lease_until END AS lease_until, CASE WHEN t.status IN ('active', 'in_progress', 'review') AND t.lease_until > read.at THEN t.lease_agent END AS held_by, t.note, t.summary, t.quality,
    (SELECT s.key FROM bmad_stories s WHERE s.project_id = t.project_id AND s.id = t.story_id) AS story
, t.created_at,
    coalesce(((t.status = 'pending' AND t.open_dependencies = 0 AND t.story_open) OR (t.status IN ('active', 'in_progress') AND t.lease_until <= read.at AND t.open_dependencies = 0 AND t.story_open)), false) AS ready,
    (SELECT 'W-' || w.number FROM bmad_workflows w
     WHERE w.project_id = t.project_id AND w.id = t.workflow_id) AS workflow,
    waiting.depends_on, waiting.waits_for,
    (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('at', h.at, 'operation', h.operation, 'agent', h.agent,
        'status', h.detail ->> 'status', 'changed', h.detail -> 'changed', 'note', h.detail ->> 'note')) ORDER BY h.id)
     FROM (SELECT a.id, a.at, a.operation, a.agent, a.detail FROM bmad_agent_activity a
           WHERE a.project_id = t.project_id AND a.subject = 'task T-' || t.number
             AND a.at >= t.created_at AND a.at <= ALL (ARRAY[statement_timestamp()])
           ORDER BY a.id DESC LIMIT 10) h) AS history
FROM bmad_tasks t CROSS JOIN LATERAL (SELECT clock_timestamp() AS at OFFSET 0) AS read CROSS JOIN LATERAL (
    SELECT array_agg('T-' || d.number ORDER BY d.number) AS depends_on,
        array_agg('T-' || d.number ORDER BY d.number) FILTER (WHERE d.status NOT IN ('completed', 'cancelled')) AS waits_for
    FROM bmad_task_dependencies e CROSS JOIN LATERAL (
        SELECT x.number, x.status FROM bmad_tasks x WHERE x.project_id = e.project_id AND x.id = e.depends_on_id OFFSET 0
    ) AS d
    WHERE e.project_id = t.project_id AND e.task_id = t.id
) AS waiting
WHERE t.project_id = bmad_project() AND t.number = $1;
END
$body$
"""


def upgrade() -> None:
    """Two indexes of what is under review, the new function beside the one of before, and locks in one order."""
    create_index(
        "ix_bmad_tasks_review_holder",
        "bmad_tasks",
        ["project_id", "lease_agent", "lease_until"],
        where="status = 'review'",
    )
    create_index("ix_bmad_tasks_to_review", "bmad_tasks", ["project_id", "number"], where=TO_REVIEW)
    op.execute(TASK_COMPLETE)
    op.execute(TASK_UPDATE.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))


def downgrade() -> None:
    """What was before."""
    op.execute(TASK_COMPLETE.replace(IN_ORDER.lstrip("\n"), "", 1))
    op.execute(
        "DROP FUNCTION IF EXISTS"
        " bmad_do_task_update(integer, text, text, text, text, integer, integer, text, text, text, text[])"
    )
    drop_index("ix_bmad_tasks_to_review")
    drop_index("ix_bmad_tasks_review_holder")
