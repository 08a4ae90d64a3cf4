"""SQL of the project at a glance and of its board."""

from bmad_mcp.agents.queries import held_by, waiting_handoffs
from bmad_mcp.lifecycles import TASK_HELD, TASK_LEFT, TASK_TO_REVIEW, StoryStatus

# Each costs a model about 25 tokens, and the whole status has 600.
SHOWN = 3
DRIFT_SHOWN = 500
WAITING_SHOWN = 5
HOLDERS_SHOWN = 6
LEASE_SOON_SECONDS = 120
BOARD_COLUMN = 50
# Of more that were left behind no more are counted.
LEFT_COUNTED = 100

PROJECT = "project_id = bmad_project()"
# The lowest key of a group in one pass; a suffix is one letter at most.
LOWEST = "min(ARRAY[s.epic_number, s.number, ascii(s.suffix)])"


def _key(low: str) -> str:
    return f"{low}[1] || '.' || {low}[2] || CASE WHEN {low}[3] > 0 THEN chr({low}[3]) ELSE '' END"


# How many rows of each kind have a status, and are ready for a role; triggers keep it (migration 0018).
_TALLY = f"""tally AS MATERIALIZED (
    SELECT m.kind, m.status, m.ready_for, sum(m.count)::bigint AS count
    FROM mcp_tallies y CROSS JOIN LATERAL (VALUES (y.kind, y.status, y.ready_for, y.count),
        (y.kind, y.left_status, y.left_ready_for, -y.count)) AS m(kind, status, ready_for, count)
    WHERE y.{PROJECT} AND m.status IS NOT NULL GROUP BY 1, 2, 3)"""
_OF_STATUS = "(SELECT status, sum(count)::bigint AS count FROM tally WHERE kind = '{kind}' GROUP BY status)"
_COUNTS = f"(SELECT jsonb_object_agg(c.status, c.count) FROM {_OF_STATUS} c WHERE c.count > 0)"
# With the key of the first; each status of a story has an index of its own.
_FIRSTS = " UNION ALL ".join(
    f"""SELECT '{status}' AS status, (SELECT s.key FROM bmad_stories s WHERE s.{PROJECT} AND s.status = '{status}'
         ORDER BY s.epic_number, s.number, s.suffix LIMIT 1) AS first"""
    for status in StoryStatus
)
_WORDS = f"""(SELECT jsonb_agg(jsonb_build_object('file', d.file, 'tracker', d.tracker, 'status', d.status,
        'count', d.count, 'first', {_key("d.low")}) ORDER BY d.low)
     FROM (SELECT left(s.raw_status, 80) AS file, left(s.tracker_status, 80) AS tracker, s.status,
               count(*) AS count, {LOWEST} AS low
           FROM bmad_stories s
           WHERE s.{PROJECT} AND (s.raw_status IS NOT NULL OR s.tracker_status IS NOT NULL)
           GROUP BY 1, 2, 3) d)"""

_AGENTS = f"""agent AS MATERIALIZED (
    SELECT a.name, a.status, (SELECT array_agg('T-' || h.number ORDER BY h.number)
        FROM {held_by("a.name", "t.number", SHOWN)} h) AS tasks
    FROM bmad_agents a WHERE a.{PROJECT})"""
# No trigger sees a lease pass: what was left behind is not in the tallies, but found by the ends of the leases.
_READY = f"""(SELECT jsonb_object_agg(r.role, r.count) FROM (
        SELECT x.role, sum(x.count)::bigint AS count FROM (
            SELECT c.ready_for AS role, c.count FROM tally c WHERE c.kind = 'task' AND c.ready_for IS NOT NULL
            UNION ALL
            (SELECT t.agent, 1 FROM bmad_tasks t
             WHERE t.{PROJECT} AND {TASK_LEFT} AND t.lease_until <= statement_timestamp()
             ORDER BY t.lease_until LIMIT {LEFT_COUNTED})) x
        GROUP BY x.role HAVING sum(x.count) > 0) r)"""

# One statement and one snapshot: the numbers agree with each other.
STATUS = f"""
WITH {_TALLY}, {_AGENTS}
SELECT p.key, p.name, p.settings -> 'files' AS files,
    {_COUNTS.format(kind="workflow")} AS workflows,
    {_COUNTS.format(kind="task")} AS tasks,
    (SELECT jsonb_object_agg(f.status, jsonb_build_object('count', c.count, 'first', f.first))
     FROM ({_FIRSTS}) f JOIN {_OF_STATUS.format(kind="story")} c USING (status) WHERE c.count > 0) AS stories,
    (SELECT jsonb_agg(jsonb_build_object('name', a.name, 'status', a.status, 'holds', a.tasks IS NOT NULL)
        ORDER BY a.name) FROM agent a) AS agents,
    {_READY} AS ready,
    (SELECT jsonb_object_agg(c.name, c.tasks) FROM (
        SELECT a.name, a.tasks FROM agent a WHERE a.tasks IS NOT NULL ORDER BY a.name LIMIT {HOLDERS_SHOWN}) c) AS in_hand,
    (SELECT array_agg('T-' || r.number ORDER BY r.number) FROM (
        SELECT t.number FROM bmad_tasks t WHERE t.{PROJECT} AND {TASK_TO_REVIEW}
        ORDER BY t.number LIMIT {WAITING_SHOWN}) r) AS review,
    (SELECT array_agg('T-' || b.number ORDER BY b.number) FROM (
        SELECT t.number FROM bmad_tasks t WHERE t.{PROJECT} AND t.status = 'blocked'
        ORDER BY t.number LIMIT {WAITING_SHOWN}) b) AS blocked,
    (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('task', 'T-' || h.number, 'agent', h.lease_agent,
        'until', date_trunc('second', h.lease_until), 'passed', nullif(h.lease_until <= clock_timestamp(), false),
        'stuck', nullif(h.stuck, false))) ORDER BY h.lease_until)
     FROM (SELECT t.number, t.lease_agent, t.lease_until, t.open_dependencies > 0 OR NOT t.story_open AS stuck
           FROM bmad_tasks t
           WHERE t.{PROJECT} AND t.status IN ('active', 'in_progress')
             AND t.lease_until < clock_timestamp() + make_interval(secs => {LEASE_SOON_SECONDS})
           ORDER BY t.lease_until LIMIT {SHOWN}) h) AS leases,
    (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('key', 'H-' || w.number, 'from', w.from_agent,
        'to', w.to_agent,
        'task', (SELECT 'T-' || t.number FROM bmad_tasks t WHERE t.{PROJECT} AND t.id = w.task_id),
        'story', (SELECT s.key FROM bmad_stories s WHERE s.{PROJECT} AND s.id = w.story_id))) ORDER BY w.number)
     FROM {waiting_handoffs(SHOWN)} w) AS handoffs,
    (SELECT jsonb_agg(jsonb_build_object('workflow', 'W-' || w.number, 'agent', w.agent) ORDER BY w.number)
     FROM (SELECT f.number, g.agent FROM bmad_workflows f CROSS JOIN LATERAL (
               SELECT x.agent FROM bmad_workflow_stages x
               WHERE x.{PROJECT} AND x.workflow_id = f.id AND x.status = 'active' OFFSET 0) g
           WHERE f.{PROJECT} AND f.status = 'active' ORDER BY f.number LIMIT {WAITING_SHOWN}) w) AS waiting,
    (SELECT coalesce(sum(c.count), 0)::bigint FROM tally c WHERE c.kind = 'epic') AS epics,
    {_WORDS} AS words
FROM bmad_projects p WHERE p.id = bmad_project()
"""
DRIFT = f"SELECT p.settings -> 'files' AS files, {_WORDS} AS words FROM bmad_projects p WHERE p.id = bmad_project()"

CARD = f"""
    s.key, s.title, s.points, s.epic_number, s.number, s.suffix,
    (SELECT nullif(count(*) FILTER (WHERE t.status = 'completed') || '/' || count(*), '0/0') FROM bmad_tasks t
     WHERE t.{PROJECT} AND t.story_id = s.id AND t.status <> 'cancelled') AS tasks,
    (SELECT jsonb_agg(jsonb_build_object('task', 'T-' || t.number, 'agent', t.lease_agent, 'until', t.lease_until)
        ORDER BY t.number)
     FROM bmad_tasks t WHERE t.{PROJECT} AND t.story_id = s.id AND {TASK_HELD}) AS claims
"""
# What is looked for on the board, as the board itself looks through the cards that it shows.
_FOUND = "($1::text IS NULL OR strpos(lower(s.key || ' ' || s.title), lower($1::text)) > 0)"
COUNTS = f"WITH {_TALLY} SELECT status, count FROM {_OF_STATUS.format(kind='story')} c WHERE count > 0"
COUNTS_FOUND = f"""
SELECT s.status::text AS status, count(*) AS count FROM bmad_stories s WHERE s.{PROJECT} AND {_FOUND} GROUP BY s.status
"""
# Open columns show what comes first, closed ones what came last.
BOARD = " UNION ALL ".join(
    f"""
(SELECT '{status}' AS status, {CARD} FROM bmad_stories s WHERE s.{PROJECT} AND s.status = '{status}' AND {_FOUND}
 ORDER BY s.epic_number{way}, s.number{way}, s.suffix{way} LIMIT {BOARD_COLUMN})"""
    for status in StoryStatus
    for way in (" DESC" if status in (StoryStatus.DONE, StoryStatus.CANCELLED) else "",)
)

# Of the tasks without a story the newest are looked at: their index knows no status. What is looked for is so in all.
LOOSE_LOOKED_AT = 1_000
_LOOSE = f"""
WITH loose AS MATERIALIZED (
    SELECT t.number, t.title, t.status, t.agent, t.lease_agent, t.lease_until,
        t.status IN ('completed', 'cancelled') AS is_closed FROM bmad_tasks t
    WHERE t.{PROJECT} AND t.story_id IS NULL {{found}}
    ORDER BY t.number DESC LIMIT {LOOSE_LOOKED_AT}
), shown AS (
    (SELECT t.* FROM loose t WHERE NOT t.is_closed ORDER BY t.number LIMIT {BOARD_COLUMN})
    UNION ALL (SELECT t.* FROM loose t WHERE t.is_closed ORDER BY t.number DESC LIMIT {BOARD_COLUMN})
)
SELECT 'T-' || t.number AS key, t.title, t.status::text AS status, t.agent,
    CASE WHEN {TASK_HELD} THEN t.lease_agent END AS held_by, CASE WHEN {TASK_HELD} THEN t.lease_until END AS lease_until,
    c.open_count, c.closed_count
FROM shown t, (SELECT count(*) FILTER (WHERE NOT l.is_closed) AS open_count,
    count(*) FILTER (WHERE l.is_closed) AS closed_count FROM loose l) c
ORDER BY t.is_closed, CASE WHEN t.is_closed THEN -t.number ELSE t.number END
"""
LOOSE = _LOOSE.format(found="")
LOOSE_FOUND = _LOOSE.format(found="AND strpos(lower('T-' || t.number || ' ' || t.title), lower($1::text)) > 0")
