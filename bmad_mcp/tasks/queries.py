"""SQL of tasks: the hot paths change, audit and return in one statement."""

from bmad_mcp.activity.acting import ACTING_AGENT
from bmad_mcp.activity.record import COLUMNS
from bmad_mcp.activity.similar import unless_similar
from bmad_mcp.agents.lookup import FIND as FIND_AGENT
from bmad_mcp.lifecycles import (
    EPIC,
    STORY,
    TASK,
    TASK_CLAIMABLE,
    TASK_HELD,
    TASK_LEFT,
    TASK_READY,
    StoryStatus,
    TaskStatus,
)
from bmad_mcp.memory.queries import keeping

OPEN = "status NOT IN ('completed', 'cancelled')"
# The statement's clock and not the transaction's: a write that waited for a row lock sees the time it really is.
LEASE_PASSED = "t.lease_until <= clock_timestamp()"
HELD_STILL = "t.lease_until > clock_timestamp()"

_FIELDS = """
    'T-' || t.number AS key, t.title, t.status::text AS status, t.priority::text AS priority, t.agent,
    t.version, t.description, {lease}, t.note, t.summary, t.quality,
    (SELECT s.key FROM bmad_stories s WHERE s.project_id = t.project_id AND s.id = t.story_id) AS story
"""
TASK_FIELDS = _FIELDS.format(lease="t.lease, t.lease_until, t.lease_agent AS held_by")


def _create(guard: str = "", number: str = "VALUES (bmad_project(), 'task', 1)") -> str:
    return f"""
WITH {guard}counter AS (
    INSERT INTO mcp_counters AS c (project_id, kind, value) {number}
    ON CONFLICT (project_id, kind) DO UPDATE SET value = c.value + 1
    RETURNING value
), t AS (
    INSERT INTO bmad_tasks (project_id, id, number, title, description, priority, agent, story_id, workflow_id,
        open_dependencies, story_open, source)
    SELECT bmad_project(), $1, counter.value, $2, $3, $4::text::bmad_task_priority, $5, $6, $7, $8, $9, 'tool'
    FROM counter
    RETURNING *
), audit AS (
    INSERT INTO bmad_agent_activity {COLUMNS}
    SELECT t.project_id, 'task_create', 'task T-' || t.number, {ACTING_AGENT.format(caller="$10")}, $11, $12,
        jsonb_build_object('title', t.title)
    FROM t
)
SELECT {TASK_FIELDS} FROM t
"""


CREATE = _create()
# Makes nothing, and answers nothing, where the same was made a moment ago.
CREATE_UNLESS_SIMILAR = _create(f"{unless_similar(13)}, ", "SELECT bmad_project(), 'task', 1 FROM fresh")

# FOR SHARE: a dependency that is being completed right now is waited for, then counted as what it became.
DEPENDENCIES_LOCKED = """
SELECT t.id, 'T-' || t.number AS key, t.status IN ('completed', 'cancelled') AS closed
FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.number = ANY($1::int[])
ORDER BY t.id FOR SHARE
"""
ADD_DEPENDENCIES = """
INSERT INTO bmad_task_dependencies (project_id, task_id, depends_on_id)
SELECT bmad_project(), $1, unnest($2::uuid[]) ON CONFLICT DO NOTHING
"""
CLEAR_DEPENDENCIES = "DELETE FROM bmad_task_dependencies WHERE project_id = bmad_project() AND task_id = $1"

# Two edits at once could each close half of a cycle; they take turns.
LOCK_DEPENDENCIES = "SELECT pg_advisory_xact_lock(hashtextextended('bmad dependencies ' || bmad_project(), 0))"
# By id, as `DEPENDENCIES_LOCKED`: no two then have what the other one waits for.
LOCK_IN_ORDER = """
SELECT FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.number = ANY($1::int[])
ORDER BY t.id FOR NO KEY UPDATE
"""
REACHED = """
WITH RECURSIVE reached(id) AS (
    SELECT unnest($1::uuid[])
    UNION
    SELECT e.depends_on_id FROM reached r
    JOIN bmad_task_dependencies e ON e.project_id = bmad_project() AND e.task_id = r.id
)
SELECT r.id, d.number, (SELECT array_agg(e.depends_on_id) FROM bmad_task_dependencies e
    WHERE e.project_id = bmad_project() AND e.task_id = r.id) AS waits_for
FROM reached r CROSS JOIN LATERAL (
    SELECT x.number FROM bmad_tasks x WHERE x.project_id = bmad_project() AND x.id = r.id OFFSET 0) d
"""

STORY_FOR_TASK = """
SELECT id, status::text AS status, status IN ('ready', 'in_progress', 'review') AS open FROM bmad_stories
WHERE project_id = bmad_project() AND key = $1 FOR SHARE
"""
WORKFLOW_FOR_TASK = "SELECT id FROM bmad_workflows WHERE project_id = bmad_project() AND number = $1"


def _at_once(condition: str) -> str:
    """The condition by one reading of the clock, so that no answer says both that a lease holds and that it passed."""
    return condition.replace("clock_timestamp()", "read.at")


# The lease, its end and its holder are told together, while the lease holds; the history tells who did what.
_TOLD = _FIELDS.format(
    lease=", ".join(
        f"CASE WHEN {_at_once(TASK_HELD)} THEN t.{column} END AS {name}"
        for column, name in (("lease", "lease"), ("lease_until", "lease_until"), ("lease_agent", "held_by"))
    )
)
# OFFSET 0: what it waits for is found first, then each of those by its key, whatever the planner knows of the tables.
# No partition of the trail from before the task or after now is opened. With a bare `<=` the planner takes the time
# from one to the other for a moment, and reads the trail of the project from the one to the other.
GET = f"""
SELECT t.id, {_TOLD}, t.created_at,
    coalesce({_at_once(TASK_CLAIMABLE)}, false) AS ready,
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
        array_agg('T-' || d.number ORDER BY d.number) FILTER (WHERE d.{OPEN}) AS waits_for
    FROM bmad_task_dependencies e CROSS JOIN LATERAL (
        SELECT x.number, x.status FROM bmad_tasks x WHERE x.project_id = e.project_id AND x.id = e.depends_on_id OFFSET 0
    ) AS d
    WHERE e.project_id = t.project_id AND e.task_id = t.id
) AS waiting
WHERE t.project_id = bmad_project() AND t.number = $1
"""

# The best ready tasks of the role, of no role, and those whose holder let the lease pass; the first that nobody
# else is claiming this very moment is taken, and only that one is looked up. Reading 64 of each keeps the choice right
# for as many claimers. An index can look for leases by the time that the statement began, and not by one that goes on.
CANDIDATE = "t.id, t.priority, t.number FROM bmad_tasks t WHERE t.project_id = bmad_project()"
# The first claim of a ready story's task starts the story, and with it the epic.
STARTS_STORY = f"""story AS (
    UPDATE bmad_stories AS s SET {STORY.set_sql(StoryStatus.IN_PROGRESS)}, updated_at = now(), version = s.version + 1
    FROM t WHERE s.project_id = t.project_id AND s.id = t.story_id AND s.status = 'ready'
      AND {STORY.may_sql(StoryStatus.IN_PROGRESS, "s.status")}
    RETURNING s.project_id, s.epic_id
), epic AS (
    UPDATE bmad_epics AS e SET {EPIC.set_sql(StoryStatus.IN_PROGRESS)}, updated_at = now(), version = e.version + 1
    FROM story WHERE e.project_id = story.project_id AND e.id = story.epic_id AND e.status IN ('draft', 'ready')
      AND {EPIC.may_sql(StoryStatus.IN_PROGRESS, "e.status")}
)"""
# Of whoever answers to the name; of nobody, when nobody does.
HOLDER = "(SELECT name FROM holder)"
CLAIM = f"""
WITH holder AS MATERIALIZED ({FIND_AGENT}), candidate AS (
    (SELECT {CANDIDATE} AND {TASK_READY} AND t.agent = {HOLDER}
     ORDER BY t.priority DESC, t.number LIMIT 64)
    UNION ALL
    (SELECT {CANDIDATE} AND {TASK_READY} AND t.agent = ''
     ORDER BY t.priority DESC, t.number LIMIT 64)
    UNION ALL
    (SELECT {CANDIDATE} AND {TASK_LEFT} AND t.lease_until <= statement_timestamp() AND t.agent = {HOLDER}
     ORDER BY t.lease_until LIMIT 64)
    UNION ALL
    (SELECT {CANDIDATE} AND {TASK_LEFT} AND t.lease_until <= statement_timestamp() AND t.agent = ''
     ORDER BY t.lease_until LIMIT 64)
), chosen AS (
    SELECT free.id FROM (SELECT id FROM candidate ORDER BY priority DESC, number) AS best CROSS JOIN LATERAL (
        SELECT t.id FROM bmad_tasks t
        WHERE t.project_id = bmad_project() AND t.id = best.id AND EXISTS (SELECT FROM holder)
          AND {TASK_CLAIMABLE}
        FOR UPDATE SKIP LOCKED
    ) AS free
    LIMIT 1
), t AS (
    UPDATE bmad_tasks AS t SET {TASK.set_sql(TaskStatus.ACTIVE)}, lease = t.lease + 1, lease_agent = {HOLDER},
        lease_seconds = $2::int,
        lease_until = clock_timestamp() + make_interval(secs => $2::int),
        started_at = coalesce(t.started_at, now()), updated_at = now(), version = t.version + 1
    FROM chosen WHERE t.project_id = bmad_project() AND t.id = chosen.id
      AND {TASK.may_sql(TaskStatus.ACTIVE, "t.status")}
    RETURNING t.*
), {STARTS_STORY}, audit AS (
    INSERT INTO bmad_agent_activity {COLUMNS}
    SELECT t.project_id, $3::text, 'task T-' || t.number, {HOLDER}, $4::text, $5::text, jsonb_build_object('lease', t.lease) FROM t
)
SELECT {HOLDER} AS holder, (SELECT count(*) FROM candidate) AS candidates, taken.*
FROM (SELECT 1) AS one LEFT JOIN (SELECT {TASK_FIELDS} FROM t) AS taken ON true
"""

# Who has it and begins keeps the lease: its number and, where it is later, its end.
_GOES_ON = f"$6::text = 'in_progress' AND t.lease_agent = $2::text AND t.lease = $8::int AND {TASK_HELD}"
CLAIM_ONE = f"""
WITH t AS (
    UPDATE bmad_tasks AS t SET {TASK.set_from_parameter_sql("$6")}, lease_agent = $2::text,
        lease = CASE WHEN {_GOES_ON} THEN t.lease ELSE t.lease + 1 END,
        lease_seconds = CASE WHEN {_GOES_ON} THEN greatest(t.lease_seconds, $3::int) ELSE $3::int END,
        lease_until = CASE WHEN {_GOES_ON}
            THEN greatest(t.lease_until, clock_timestamp() + make_interval(secs => $3::int))
            ELSE clock_timestamp() + make_interval(secs => $3::int) END,
        started_at = coalesce(t.started_at, now()), updated_at = now(), version = t.version + 1
    WHERE t.project_id = bmad_project() AND t.number = $1::int AND {TASK.may_from_parameter_sql("$6", "t.status")}
      AND t.open_dependencies = 0 AND t.story_open
      AND (t.status = 'pending' OR t.lease_until IS NULL OR {LEASE_PASSED} OR ({_GOES_ON}))
    RETURNING t.*
), {STARTS_STORY}, audit AS (
    INSERT INTO bmad_agent_activity {COLUMNS}
    SELECT t.project_id, $4::text, 'task T-' || t.number, $2::text, $5::text, $7::text, jsonb_build_object('lease', t.lease) FROM t
)
SELECT {TASK_FIELDS} FROM t
"""

HEARTBEAT = f"""
UPDATE bmad_tasks AS t SET lease_until = clock_timestamp() + make_interval(secs => t.lease_seconds)
WHERE t.project_id = bmad_project() AND t.number = $1::int AND t.lease = $2::int AND {HELD_STILL}
  AND t.status IN ('active', 'in_progress', 'review')
RETURNING t.lease_until
"""

FINISH = f"""
WITH t AS (
    UPDATE bmad_tasks AS t SET {TASK.set_sql(TaskStatus.COMPLETED)}, summary = nullif($3::text, ''), quality = $4::int,
        lease_until = NULL, completed_at = now(), updated_at = now(), version = t.version + 1
    WHERE t.project_id = bmad_project() AND t.number = $1::int AND t.lease = $2::int AND {HELD_STILL}
      AND {TASK.may_sql(TaskStatus.COMPLETED, "t.status")}
    RETURNING t.*
), audit AS (
    INSERT INTO bmad_agent_activity {COLUMNS}
    SELECT t.project_id, 'task_complete', 'task T-' || t.number, t.lease_agent, $5::text, $6::text,
        jsonb_strip_nulls(jsonb_build_object('note', nullif($7::text, ''), 'quality', $4::int, 'lease', t.lease))
    FROM t
)
SELECT t.id, t.story_id, {TASK_FIELDS} FROM t
"""
# With what waits for it, in one round trip; the function is made of FINISH.
_COMPLETED = "SELECT * FROM bmad_do_task_complete($1, $2, $3, $4, $5, $6, $7)"
COMPLETE = _COMPLETED
# The same with its summary in the memory: both are there, or neither.
COMPLETE_AND_KEEP = f"WITH done AS MATERIALIZED ({_COMPLETED}), {keeping(8, 'FROM done')} SELECT done.* FROM done"
# What a memory of its completion tells of a task; only its holder changes that while it is held.
FACTS = f"""
SELECT 'T-' || t.number AS key, t.title, t.lease_agent AS held_by,
    (SELECT s.key FROM bmad_stories s WHERE s.project_id = t.project_id AND s.id = t.story_id) AS story
FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.number = $1::int AND t.lease = $2::int AND {HELD_STILL}
"""

CHANGE = f"""
UPDATE bmad_tasks AS t SET
    {TASK.set_from_parameter_sql("coalesce($2::text, t.status::text)")},
    note = coalesce($3::text, t.note), title = coalesce($4::text, t.title),
    priority = coalesce($5::text::bmad_task_priority, t.priority),
    lease_until = CASE WHEN $2::text IN ('pending', 'blocked', 'cancelled', 'completed') THEN NULL ELSE t.lease_until END,
    lease_agent = CASE WHEN $2::text IN ('pending', 'blocked', 'cancelled') THEN NULL ELSE t.lease_agent END,
    updated_at = now(), version = t.version + 1
WHERE t.project_id = bmad_project() AND t.number = $1::int
  AND ($2::text IS NULL OR {TASK.may_from_parameter_sql("$2", "t.status")})
  AND ($6::int IS NULL OR t.version = $6::int)
  AND (t.lease_until IS NULL OR {LEASE_PASSED} OR t.lease = $7::int)
  AND ($7::int IS NULL OR (t.lease = $7::int AND {HELD_STILL}))
  AND ($7::int IS NOT NULL OR coalesce($2::text, '') NOT IN ('in_progress', 'review'))
  AND ($7::int IS NOT NULL OR $2::text IS NOT NULL OR t.status NOT IN ('active', 'in_progress') OR {HELD_STILL})
RETURNING t.id, t.story_id, t.{OPEN} AS is_open
"""
# With what waits for it and the trail, and the task as GET reads it; the function is made of CHANGE.
UPDATE = "SELECT * FROM bmad_do_task_update($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
SET_OPEN_DEPENDENCIES = """
UPDATE bmad_tasks SET open_dependencies = $2 WHERE project_id = bmad_project() AND id = $1
"""
STATE = """
SELECT t.id, t.status::text AS status, t.version, t.lease, t.lease_agent, t.lease_until, t.open_dependencies,
    t.story_open, t.lease_until > clock_timestamp() AS held, t.updated_at, s.key AS story,
    s.status::text AS story_status
FROM bmad_tasks t LEFT JOIN bmad_stories s ON s.project_id = t.project_id AND s.id = t.story_id
WHERE t.project_id = bmad_project() AND t.number = $1
"""
STATE_LOCKED = f"{STATE} FOR UPDATE OF t"

# What makes a page of it follows; only the stories of its tasks are looked up.
LIST = f"""
SELECT t.number, 'T-' || t.number AS key, t.title, t.status::text AS status, t.priority::text AS priority, t.agent,
    (SELECT s.key FROM bmad_stories s WHERE s.project_id = t.project_id AND s.id = t.story_id) AS story,
    CASE WHEN {HELD_STILL} THEN t.lease_agent END AS held_by
"""
ALL = "FROM bmad_tasks t WHERE t.project_id = bmad_project(){narrowed} ORDER BY t.number LIMIT {limit}"
# In the text and not as $n: under row-level security a status can only choose an index whose own condition names it.
LIST_STATUS = {status: f" AND t.status = '{status}'" for status in TaskStatus}
# In three parts: each finds its tasks in their order through the index of its status, and stops when it has a page.
ALL_READY = "FROM ({parts}) t ORDER BY t.number LIMIT {{limit}}".format(
    parts=" UNION ALL ".join(
        f"(SELECT t.* {ALL.replace('{narrowed}', f' AND {ready}{{narrowed}}')})"
        for ready in (
            TASK_READY,
            *(
                TASK_LEFT.replace("IN ('active', 'in_progress')", f"= '{status}'")
                for status in (TaskStatus.ACTIVE, TaskStatus.IN_PROGRESS)
            ),
        )
    )
)
