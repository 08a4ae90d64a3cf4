"""SQL of the project at a glance and of its board."""

from bmad_mcp.lifecycles import StoryStatus

# Each costs a model about 25 tokens, and the whole status has 600.
SHOWN = 3
DRIFT_SHOWN = 500
WAITING_SHOWN = 5
HOLDERS_SHOWN = 6
LEASE_SOON_SECONDS = 120
BOARD_COLUMN = 50

HELD = "t.status IN ('active', 'in_progress')"
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

# Who has a lease, also one that passed: from one name to the next by the index, however many tasks each has.
_NEXT_HOLDER = f"""SELECT t.lease_agent FROM bmad_tasks t WHERE t.{PROJECT} AND {HELD} AND {{after}}
        ORDER BY t.lease_agent LIMIT 1"""
_HOLDER = f"""holder AS (
    ({_NEXT_HOLDER.format(after="t.lease_agent IS NOT NULL")})
    UNION ALL
    SELECT ({_NEXT_HOLDER.format(after="t.lease_agent > h.lease_agent")}) FROM holder h WHERE h.lease_agent IS NOT NULL)"""

# One statement and one snapshot: the numbers agree with each other.
STATUS = f"""
WITH RECURSIVE {_TALLY}, {_HOLDER}
SELECT p.key, p.name, p.settings -> 'files' AS files,
    {_COUNTS.format(kind="workflow")} AS workflows,
    {_COUNTS.format(kind="task")} AS tasks,
    (SELECT jsonb_object_agg(f.status, jsonb_build_object('count', c.count, 'first', f.first))
     FROM ({_FIRSTS}) f JOIN {_OF_STATUS.format(kind="story")} c USING (status) WHERE c.count > 0) AS stories,
    (SELECT jsonb_agg(jsonb_build_object('name', a.name, 'status', a.status, 'holds', EXISTS (
        SELECT FROM bmad_tasks t WHERE t.{PROJECT} AND t.lease_agent = a.name AND {HELD}
          AND t.lease_until > clock_timestamp())) ORDER BY a.name)
     FROM bmad_agents a WHERE a.{PROJECT}) AS agents,
    (SELECT jsonb_object_agg(c.ready_for, c.count) FROM tally c
     WHERE c.kind = 'task' AND c.ready_for IS NOT NULL AND c.count > 0) AS ready,
    (SELECT jsonb_object_agg(c.lease_agent, c.tasks) FROM (
        SELECT h.lease_agent, f.tasks FROM holder h CROSS JOIN LATERAL (
            SELECT array_agg('T-' || x.number ORDER BY x.number) AS tasks FROM (
                SELECT t.number FROM bmad_tasks t
                WHERE t.{PROJECT} AND {HELD} AND t.lease_agent = h.lease_agent AND t.lease_until > clock_timestamp()
                ORDER BY t.number LIMIT {SHOWN}) x) f
        WHERE f.tasks IS NOT NULL ORDER BY h.lease_agent LIMIT {HOLDERS_SHOWN}) c) AS in_hand,
    (SELECT array_agg('T-' || b.number ORDER BY b.number) FROM (
        SELECT t.number FROM bmad_tasks t WHERE t.{PROJECT} AND t.status = 'blocked'
        ORDER BY t.number LIMIT {WAITING_SHOWN}) b) AS blocked,
    (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('task', 'T-' || h.number, 'agent', h.lease_agent,
        'until', date_trunc('second', h.lease_until), 'passed', nullif(h.lease_until <= clock_timestamp(), false)))
        ORDER BY h.lease_until)
     FROM (SELECT t.number, t.lease_agent, t.lease_until FROM bmad_tasks t
           WHERE t.{PROJECT} AND {HELD}
             AND t.lease_until < clock_timestamp() + make_interval(secs => {LEASE_SOON_SECONDS})
           ORDER BY t.lease_until LIMIT {SHOWN}) h) AS leases,
    (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('handoff', 'H-' || w.number, 'from_agent', w.from_agent,
        'to', w.to_agent,
        'task', (SELECT 'T-' || t.number FROM bmad_tasks t WHERE t.{PROJECT} AND t.id = w.task_id),
        'story', (SELECT s.key FROM bmad_stories s WHERE s.{PROJECT} AND s.id = w.story_id))) ORDER BY w.number)
     FROM (SELECT * FROM bmad_agent_collaborations h WHERE h.{PROJECT} AND h.status = 'offered'
           ORDER BY h.number LIMIT {SHOWN}) w) AS handoffs,
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
     FROM bmad_tasks t WHERE t.{PROJECT} AND t.story_id = s.id AND {HELD}
       AND t.lease_until > clock_timestamp()) AS claims
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
