"""The functions of the database that change a task and all that waits for it, made of the statements of today.

Only a test uses this: the migration that creates the functions holds their frozen text, and must agree.
"""

from bmad_mcp.activity.acting import ACTING_AGENT
from bmad_mcp.activity.record import COLUMNS, LONGEST_NOTE
from bmad_mcp.lifecycles import STORY, TASK_READY, StoryStatus
from bmad_mcp.tasks.queries import CHANGE, FINISH, GET, HELD_STILL, OPEN

# Each statement of a function has a snapshot of its own: one that begins after a lock sees what others committed before.
# First every row that a count depends on is locked: of two changes at once the second counts what the first has made.
# The story is locked with them, so that of two last tasks the second counts the first.
# Whatever the planner knows of the tables: the few dependencies come first, then each task by its key (OFFSET 0).
_COUNTED = f"""(
            SELECT count(*) FILTER (WHERE d.{OPEN}) FROM bmad_task_dependencies e CROSS JOIN LATERAL (
                SELECT x.status FROM bmad_tasks x
                WHERE x.project_id = bmad_project() AND x.id = e.depends_on_id OFFSET 0) AS d
            WHERE e.project_id = bmad_project() AND e.task_id = t.id)"""
_SETTLE = f"""
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
        UPDATE bmad_tasks AS t SET open_dependencies = {_COUNTED}, updated_at = now(), version = t.version + 1
        WHERE t.project_id = bmad_project() AND t.open_dependencies <> {_COUNTED} AND t.id = ANY(ARRAY(
            SELECT f.task_id FROM bmad_task_dependencies f
            WHERE f.project_id = bmad_project() AND f.depends_on_id = done.id))
        RETURNING t.number, {TASK_READY} AS ready
    )
    SELECT array_agg(c.number ORDER BY c.number) FILTER (WHERE c.ready) FROM changed c INTO unblocked;
END IF;
-- The last open task of a story in progress takes the story to review.
IF stories > 0 THEN
    WITH counted AS (
        SELECT count(*) FILTER (WHERE t.status = 'completed') AS tasks_done,
            count(*) FILTER (WHERE t.status <> 'cancelled') AS tasks_total,
            count(*) FILTER (WHERE t.{OPEN}) AS tasks_open
        FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.story_id = done.story_id
    ), moved AS (
        UPDATE bmad_stories AS s SET {STORY.set_sql(StoryStatus.REVIEW)}, updated_at = now(), version = s.version + 1
        FROM counted WHERE s.project_id = bmad_project() AND s.id = done.story_id
          AND counted.tasks_open = 0 AND counted.tasks_done > 0
          AND {STORY.may_sql(StoryStatus.REVIEW, "s.status")}
        RETURNING s.status::text AS status
    )
    SELECT coalesce((SELECT m.status FROM moved m), s.status::text), counted.tasks_done, counted.tasks_total
    FROM bmad_stories s, counted WHERE s.project_id = bmad_project() AND s.id = done.story_id
    INTO story_status, tasks_done, tasks_total;
END IF;
"""
# Two that change tasks which wait for each other take the rows in one order, by id, as `DEPENDENCIES_LOCKED` does.
_IN_ORDER = """
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
# A session that is new would plan each statement anew five times before it keeps a plan: longer than they take.
COMPLETE = f"""
CREATE FUNCTION bmad_do_task_complete(integer, integer, text, integer, text, text, text)
RETURNS TABLE (id uuid, story_id uuid, key text, title text, status text, priority text, agent text, story text,
    held_by text, quality integer, unblocked integer[], story_status text, tasks_done bigint, tasks_total bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
DECLARE
    done record;
    stories bigint;
    dependents bigint;
BEGIN
{_IN_ORDER.strip()}
{FINISH.strip()} INTO done;
IF done.id IS NULL THEN
    RETURN;
END IF;
{_SETTLE.strip()}
RETURN QUERY SELECT done.id, done.story_id, done.key, done.title, done.status, done.priority, done.agent, done.story,
    done.held_by, done.quality, unblocked, story_status, tasks_done, tasks_total;
END
$body$
"""

# The task as it was says whose work it is, and whether it is closed or opened by this. Of nobody's it is who acts.
UPDATE = f"""
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
{_IN_ORDER.strip()}
SELECT CASE WHEN {HELD_STILL} THEN t.lease_agent END AS holder, t.{OPEN} AS is_open FROM bmad_tasks t
WHERE t.project_id = bmad_project() AND t.number = $1 FOR UPDATE INTO before;
{CHANGE.strip()} INTO done;
IF done.id IS NULL THEN
    RETURN;
END IF;
IF done.is_open <> before.is_open THEN
{_SETTLE.strip()}
END IF;
INSERT INTO bmad_agent_activity {COLUMNS}
VALUES (bmad_project(), 'task_update', 'task T-' || $1, coalesce(before.holder, {ACTING_AGENT.format(caller="$10")}),
    $8, $9, jsonb_strip_nulls(jsonb_build_object('status', $2, 'changed', nullif($11, '{{}}'),
        'note', nullif(left($3, {LONGEST_NOTE}), ''))));
RETURN QUERY
{GET.strip()};
END
$body$
"""

FUNCTIONS = (COMPLETE, UPDATE)
