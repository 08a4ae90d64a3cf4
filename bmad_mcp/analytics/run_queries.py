"""SQL of workflow runs and their stages in a window.

$1 and $2 are the window's begin and end, $3 is now. A stage is a place in a definition: its (type, position).
"""

from bmad_mcp.analytics.flow_queries import seconds, three
from bmad_mcp.workflows.queries import IS_LEFT_OUT

TYPES_SHOWN = 6
STAGES_SHOWN = 8

_WINDOW = "{column} >= $1 AND {column} < $2"
RUNS = f"""
runs AS MATERIALIZED (
    SELECT w.id, w.definition AS type, w.status::text AS status, w.started_at, w.completed_at, w.updated_at,
        {seconds("w.started_at", "w.completed_at")} AS duration
    FROM bmad_workflows w WHERE w.project_id = bmad_project()
), finished AS MATERIALIZED (
    SELECT r.* FROM runs r WHERE r.status = 'completed' AND {_WINDOW.format(column="r.completed_at")}
)
"""
_COUNTS = f"""
        count(*) FILTER (WHERE {_WINDOW.format(column="r.started_at")}) AS started,
        count(*) FILTER (WHERE r.status = 'completed' AND {_WINDOW.format(column="r.completed_at")}) AS completed,
        count(*) FILTER (WHERE r.status = 'cancelled' AND {_WINDOW.format(column="r.updated_at")}) AS cancelled,
        count(*) FILTER (WHERE r.status = 'active') AS running,
        count(*) FILTER (WHERE r.status = 'paused') AS paused
"""
# Closed stages by the index of closed ones; an open stage counts while its run is active, up to now.
STAGES = f"""
spans AS MATERIALIZED (
    SELECT s.workflow_id, s.position, CASE WHEN s.status = 'done' OR {IS_LEFT_OUT} THEN s.status END AS status,
        s.started_at, s.completed_at AS ended
    FROM bmad_workflow_stages s
    WHERE s.project_id = bmad_project() AND s.completed_at >= $1 AND s.completed_at < $2 AND s.started_at IS NOT NULL
    UNION ALL
    SELECT s.workflow_id, s.position, s.status, s.started_at, $3::timestamptz
    FROM bmad_workflow_stages s JOIN runs r ON r.id = s.workflow_id AND r.status = 'active'
    WHERE s.project_id = bmad_project() AND s.status = 'active' AND s.started_at IS NOT NULL
), placed AS MATERIALIZED (
    SELECT r.type, s.position, s.status, s.workflow_id, {seconds("s.started_at", "s.ended")} AS lasted,
        {seconds("greatest(s.started_at, $1)", "s.ended")} AS inside
    FROM spans s JOIN runs r ON r.id = s.workflow_id
), stages AS MATERIALIZED (
    SELECT p.type, p.position, max(p.workflow_id::text)::uuid AS example,
        count(*) FILTER (WHERE p.status = 'done') AS done, count(*) FILTER (WHERE p.status = 'skipped') AS skipped,
        percentile_cont(ARRAY[0.5, 0.85, 0.95]) WITHIN GROUP (ORDER BY p.lasted) FILTER (WHERE p.status = 'done') AS v,
        count(*) FILTER (WHERE p.status = 'active') AS waiting,
        max(p.lasted) FILTER (WHERE p.status = 'active') AS oldest, sum(p.inside) AS spent
    FROM placed p GROUP BY p.type, p.position
), longest AS MATERIALIZED (
    SELECT s.*, s.spent / nullif(sum(s.spent) OVER (), 0) AS share FROM stages s
    ORDER BY s.spent DESC, s.type, s.position LIMIT {{shown}}
)
"""
_TOLD = """
    (SELECT jsonb_agg(jsonb_build_object('type', l.type, 'position', l.position, 'agent', n.agent,
        'step', left(coalesce(n.creates, n.step, n.action, n.updates, n.validates, n.kind), 60), 'done', l.done,
        'skipped', l.skipped, 'count', l.done, 'p50', l.v[1], 'p85', l.v[2], 'p95', l.v[3], 'waiting', l.waiting,
        'oldest', l.oldest, 'share', l.share) ORDER BY l.spent DESC, l.type, l.position)
     FROM longest l JOIN LATERAL (
        SELECT * FROM bmad_workflow_stages x
        WHERE x.project_id = bmad_project() AND x.workflow_id = l.example AND x.position = l.position
        ORDER BY x.iteration LIMIT 1) n ON true)
"""
SUMMARY = f"""
WITH {RUNS}, {STAGES.format(shown=3)}
SELECT {_COUNTS}, (SELECT {three("f.duration")} FROM finished f) AS duration, {_TOLD} AS stages
FROM runs r
"""
BY_TYPE = f"""
WITH {RUNS}, {STAGES.format(shown=STAGES_SHOWN)}, types AS (
    SELECT r.type, {_COUNTS},
        (SELECT {three("f.duration")} FROM finished f WHERE f.type = r.type) AS duration
    FROM runs r GROUP BY r.type
    ORDER BY count(*) DESC, r.type LIMIT {TYPES_SHOWN}
)
SELECT (SELECT jsonb_agg(to_jsonb(t) ORDER BY t.started DESC, t.completed DESC, t.type) FROM types t) AS types,
    {_TOLD} AS stages, (SELECT count(DISTINCT type) FROM runs) AS types_count
"""
