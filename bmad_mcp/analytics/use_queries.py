"""SQL of what agents do and remember, read from the daily metrics.

USE and USE_OF_AGENT take $1 and $2, the first day and the day after the last, and $3, the id from which rows are new.
"""

from bmad_mcp.analytics.flow_queries import UNDER_WAY, seconds, three
from bmad_mcp.analytics.rollup_queries import METRICS

_BY_DAY = "SELECT 'day', m.day, '', '', sum(m.count)::bigint, 0 FROM metrics m WHERE m.metric = 'change'"
_ALL = "SELECT m.metric, NULL::date AS day, m.agent, m.label, sum(m.count)::bigint AS count, sum(m.total) AS total"

# Sums over the window by metric, agent and label; rows of the metric `day` hold the changes of a day.
USE = f"""
WITH {METRICS}
{_ALL} FROM metrics m GROUP BY m.metric, m.agent, m.label UNION ALL {_BY_DAY} GROUP BY m.day
"""
USE_OF_AGENT = f"""
WITH {METRICS}
{_ALL} FROM metrics m WHERE m.agent = $4::text GROUP BY m.metric, m.agent, m.label
UNION ALL {_BY_DAY} AND m.agent = $4::text GROUP BY m.day
"""

AGENTS = """
SELECT (SELECT array_agg(a.name ORDER BY a.name) FROM bmad_agents a WHERE a.project_id = bmad_project()) AS names,
    (SELECT count(DISTINCT s.agent_id) FROM bmad_agent_sessions s
     WHERE s.project_id = bmad_project() AND s.ended_at IS NULL) AS in_session
"""

# $1 to $4 as for TASKS of the flow, $5 the agent. A cancelled task is held by nobody: it counts for the role it had.
TASKS_OF_AGENT = f"""
WITH done AS MATERIALIZED (
    SELECT t.completed_at >= $1 AS inside, t.quality, {seconds("t.started_at", "t.completed_at")} AS cycle
    FROM bmad_tasks t
    WHERE t.project_id = bmad_project() AND t.status = 'completed' AND t.completed_at >= $3 AND t.completed_at < $2
      AND t.lease_agent = $5::text
), open AS MATERIALIZED (
    SELECT t.status::text AS status,
        CASE WHEN t.started_at IS NOT NULL THEN {seconds("t.started_at", "$4::timestamptz")} END AS age
    FROM bmad_tasks t WHERE t.project_id = bmad_project() AND {UNDER_WAY} AND t.lease_agent = $5::text
)
SELECT d.*, (SELECT avg(quality)::float8 FROM done WHERE NOT inside) AS earlier_quality,
    (SELECT count(*) FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.status = 'cancelled'
        AND t.updated_at >= $1 AND t.updated_at < $2 AND t.agent = $5::text) AS cancelled,
    (SELECT count(*) FROM open) AS under_way, (SELECT max(age) FROM open) AS oldest,
    (SELECT count(*) FROM bmad_agent_collaborations h WHERE h.project_id = bmad_project() AND h.from_agent = $5::text
        AND h.created_at >= $1 AND h.created_at < $2) AS given
FROM (SELECT count(*) AS completed, {three("cycle")} AS cycle, avg(quality)::float8 AS quality, count(quality) AS rated
      FROM done WHERE inside) d
"""
