"""SQL of the flow of work: tasks, stories and handoffs of a window, and what is under way now.

Each statement takes $1 and $2, the window's begin and end; TASKS also $3, the begin of as many days before it, and $4,
now.
"""

from bmad_mcp.lifecycles import HANDOFF_OVER, TASK_LEFT, TASK_READY

# Linear between the two nearest values, as PERCENTILE.INC of spreadsheets.
_THREE = "percentile_cont(ARRAY[0.5, 0.85, 0.95]) WITHIN GROUP (ORDER BY {value})"


def three(value: str, where: str = "true") -> str:
    """An aggregate: p50, p85 and p95 of a value with its count, as JSON {count, p50, p85, p95}; nulls without values."""
    percentiles = f"({_THREE.format(value=value)} FILTER (WHERE {where}))"
    return f"""jsonb_build_object('count', count({value}) FILTER (WHERE {where}), 'p50', {percentiles}[1],
        'p85', {percentiles}[2], 'p95', {percentiles}[3])"""


def seconds(start: str, end: str) -> str:
    """The seconds between two moments, never less than none; null where one of them is."""
    # date_part counts in doubles, extract in decimals, which is slower.
    return f"(CASE WHEN {end} < {start} THEN 0 ELSE date_part('epoch', {end} - {start}) END)"


UNDER_WAY = "t.status IN ('active', 'in_progress', 'review', 'blocked')"
OLDEST_SHOWN = 5
AGENTS_SHOWN = 5
# Literal statuses: under row-level security only they let an index with the same words serve.
COMPLETED = f"""
    SELECT t.completed_at, t.completed_at >= $1 AS inside, t.quality, t.lease_agent,
        {seconds("t.started_at", "t.completed_at")} AS cycle,
        CASE WHEN t.completed_at >= $1 THEN {seconds("t.created_at", "t.completed_at")} END AS lead
    FROM bmad_tasks t
    WHERE t.project_id = bmad_project() AND t.status = 'completed' AND t.completed_at >= $3 AND t.completed_at < $2
"""
# The key finds what was made lately; a row is never made before its id, so a day more than the window is enough.
FIRST_ID = """(lpad(to_hex(greatest((extract(epoch FROM {moment} - interval '1 day') * 1000)::bigint, 0)), 12, '0')
        || '70008000000000000000')::uuid"""
CREATED = f"""(SELECT count(*) FROM bmad_tasks t
        WHERE t.project_id = bmad_project() AND t.id >= {FIRST_ID.format(moment="$1::timestamptz")}
          AND t.created_at >= $1 AND t.created_at < $2)"""
CANCELLED = """(SELECT count(*) FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.status = 'cancelled'
        AND t.updated_at >= $1 AND t.updated_at < $2)"""
TASKS = f"""
WITH done AS MATERIALIZED ({COMPLETED}), closed AS MATERIALIZED (
    SELECT {three("cycle", "inside")} AS cycle, {three("lead", "inside")} AS lead,
        count(*) FILTER (WHERE inside) AS completed, avg(quality) FILTER (WHERE inside)::float8 AS quality,
        count(quality) FILTER (WHERE inside) AS rated, count(*) FILTER (WHERE NOT inside) AS earlier_completed,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY cycle) FILTER (WHERE NOT inside) AS earlier_cycle,
        avg(quality) FILTER (WHERE NOT inside)::float8 AS earlier_quality
    FROM done
), by_day_and_agent AS MATERIALIZED (
    SELECT (completed_at AT TIME ZONE 'UTC')::date AS day, lease_agent AS agent, count(*) AS tasks,
        count(quality) AS rated, coalesce(sum(quality), 0) AS points
    FROM done WHERE inside GROUP BY 1, 2
), open AS MATERIALIZED (
    SELECT t.number, t.status::text AS status, coalesce(t.lease_agent, nullif(t.agent, '')) AS agent,
        CASE WHEN t.started_at IS NOT NULL THEN {seconds("t.started_at", "$4::timestamptz")} END AS age
    FROM bmad_tasks t WHERE t.project_id = bmad_project() AND {UNDER_WAY}
)
SELECT c.*, {CREATED} AS created, {CANCELLED} AS cancelled,
    (SELECT jsonb_object_agg(s.status, s.tasks) FROM (
        SELECT status, count(*) AS tasks FROM open GROUP BY status) s) AS open,
    (SELECT count(*) FROM bmad_tasks t WHERE t.project_id = bmad_project() AND {TASK_READY})
        + (SELECT count(*) FROM bmad_tasks t WHERE t.project_id = bmad_project() AND {TASK_LEFT}
            AND t.lease_until <= statement_timestamp()) AS ready,
    (SELECT count(*) FROM open WHERE age > (c.cycle ->> 'p85')::float8) AS ageing,
    (SELECT jsonb_agg(jsonb_build_object('task', 'T-' || o.number, 'status', o.status, 'agent', o.agent,
        'age_seconds', o.age) ORDER BY o.age DESC, o.number)
     FROM (SELECT * FROM open WHERE age IS NOT NULL ORDER BY age DESC, number LIMIT {OLDEST_SHOWN}) o) AS oldest,
    (SELECT jsonb_agg(jsonb_build_object('agent', p.agent, 'completed', p.tasks,
        'quality', p.points::float8 / nullif(p.rated, 0)) ORDER BY p.tasks DESC, p.agent)
     FROM (SELECT agent, sum(tasks) AS tasks, sum(rated) AS rated, sum(points) AS points FROM by_day_and_agent
           WHERE agent IS NOT NULL GROUP BY agent ORDER BY sum(tasks) DESC, agent LIMIT {AGENTS_SHOWN}) p) AS agents,
    (SELECT jsonb_agg(jsonb_build_array(d.day, d.tasks, d.rated, d.points)) FROM (
        SELECT day, sum(tasks) AS tasks, sum(rated) AS rated, sum(points) AS points FROM by_day_and_agent
        GROUP BY day) d) AS by_day
FROM closed c
"""

# A story begins with the first claim of a task that was completed: the trail does not tell the moves that claims make.
STORIES = f"""
WITH done AS MATERIALIZED (
    SELECT s.id, s.completed_at, {seconds("s.created_at", "s.completed_at")} AS lead
    FROM bmad_stories s
    WHERE s.project_id = bmad_project() AND s.status = 'done' AND s.completed_at >= $1 AND s.completed_at < $2
), timed AS MATERIALIZED (
    SELECT d.lead, {seconds("b.at", "d.completed_at")} AS cycle FROM done d LEFT JOIN LATERAL (
        SELECT min(t.started_at) AS at FROM bmad_tasks t
        WHERE t.project_id = bmad_project() AND t.story_id = d.id AND t.status = 'completed') b ON true
)
SELECT count(*) AS done, {three("lead")} AS lead, {three("cycle")} AS cycle,
    (SELECT count(*) FROM bmad_stories s
     WHERE s.project_id = bmad_project() AND s.status IN ('in_progress', 'review')) AS under_way
FROM timed
"""

# $3 is now; $4 an agent to whom the handoffs are offered, null for all.
HANDOFFS = f"""
WITH offered AS MATERIALIZED (
    SELECT h.status, h.task_id, h.from_agent, h.to_agent, h.created_at,
        {seconds("h.created_at", "h.accepted_at")} AS wait
    FROM bmad_agent_collaborations h
    WHERE h.project_id = bmad_project() AND h.id >= {FIRST_ID.format(moment="$1::timestamptz")}
      AND h.created_at >= $1 AND h.created_at < $2 AND ($4::text IS NULL OR h.to_agent = $4::text)
), back AS MATERIALIZED (
    SELECT h.task_id, h.from_agent, h.to_agent, max(h.created_at) AS last FROM bmad_agent_collaborations h
    WHERE h.project_id = bmad_project() AND h.id >= {FIRST_ID.format(moment="$1::timestamptz")}
      AND h.created_at >= $1 AND h.task_id IS NOT NULL AND ($4::text IS NULL OR h.from_agent = $4::text)
    GROUP BY h.task_id, h.from_agent, h.to_agent
), followed AS MATERIALIZED (
    SELECT t.status = 'completed' AND t.lease_agent = o.to_agent AS completed,
        coalesce(b.last > o.created_at, false) AS returned
    FROM offered o
    -- By their keys: the planner would read all tasks of the project.
    CROSS JOIN LATERAL (
        SELECT x.status, x.lease_agent FROM bmad_tasks x
        WHERE x.project_id = bmad_project() AND x.id = o.task_id LIMIT 1) t
    LEFT JOIN back b ON b.task_id = o.task_id AND b.from_agent = o.to_agent AND b.to_agent = o.from_agent
    WHERE o.status = 'accepted' AND o.task_id IS NOT NULL
)
SELECT o.*, (SELECT count(*) FROM followed) AS with_task, (SELECT count(*) FROM followed WHERE completed) AS completed,
    (SELECT count(*) FROM followed WHERE returned) AS returned, w.*
FROM (SELECT count(*) AS offered, count(*) FILTER (WHERE status = 'accepted') AS accepted, {three("wait")} AS wait
      FROM offered) o, (SELECT count(*) AS open, {seconds("min(h.created_at)", "$3::timestamptz")} AS oldest
      FROM bmad_agent_collaborations h WHERE h.project_id = bmad_project() AND h.status = 'offered' AND NOT {HANDOFF_OVER}
        AND ($4::text IS NULL OR h.to_agent = $4::text)) w
"""
