"""SQL of the daily metrics: counting rows from one id to another, and adding them to what is stored.

A metric is (day, metric, agent, label, count, total):

- `change`: rows of the trail by operation
- `principal`: rows of the trail by principal
- `gate`: gates recorded, by word
- `handoff`: handoffs accepted that were `rated`, by who accepted; total is the sum of the ratings
- `lookup`: look-ups in the memory, `hit`, `miss`, `unavailable`, or `failed try` of a service; total is the memories found
- `provider`: look-ups by provider; total is their milliseconds
- `task`: tasks that task_complete closed `after hit` (the holder got a memory since the first claim) or `without hit`
- `rated`: those of them that were given a quality; total is the sum of it
"""

# A day is a UTC day, whatever the session's time zone is.
_DAY = "({column} AT TIME ZONE 'UTC')::date"
_QUALITY = "CASE WHEN jsonb_typeof(a.detail -> 'quality') = 'number' THEN (a.detail -> 'quality')::float8 END"


def _measured(of: str) -> str:
    """`measured`: what the rows hold whose {id} meets a condition."""
    return f"""
trail AS MATERIALIZED (
    SELECT {_DAY.format(column="a.at")} AS day, coalesce(a.agent, '') AS agent, a.principal, a.operation,
        CASE WHEN a.operation = 'gate_record' THEN a.detail ->> 'gate' END AS gate,
        CASE WHEN a.operation = 'handoff_accept' THEN {_QUALITY} END AS rating, count(*) AS rows
    FROM bmad_agent_activity a WHERE a.project_id = bmad_project() AND {of.format(id="a.id")}
    GROUP BY 1, 2, 3, 4, 5, 6
), looked AS MATERIALIZED (
    SELECT {_DAY.format(column="m.created_at")} AS day, coalesce(m.agent, '') AS agent, m.provider,
        CASE WHEN m.items > 0 THEN 'hit' WHEN m.outcome IN ('found', 'nothing', 'partial') THEN 'miss'
             WHEN m.outcome = 'unavailable' THEN 'unavailable' ELSE 'failed try' END AS label,
        count(*) AS rows, sum(m.items) AS items, coalesce(sum(m.latency_ms), 0) AS latency_ms
    FROM bmad_memory_integrations m
    WHERE m.project_id = bmad_project() AND {of.format(id="m.id")} AND m.direction = 'recall'
    GROUP BY 1, 2, 3, 4
), finished AS MATERIALIZED (
    SELECT {_DAY.format(column="c.at")} AS day, c.agent, c.quality,
        CASE WHEN EXISTS (
            SELECT FROM bmad_memory_integrations m
            WHERE m.project_id = bmad_project() AND m.created_at >= t.started_at AND m.created_at <= c.at
              AND m.direction = 'recall' AND m.items > 0 AND m.agent = c.agent)
        THEN 'after hit' ELSE 'without hit' END AS label
    FROM (
        SELECT a.at, a.agent,
            CASE WHEN a.subject ~ '^task T-[0-9]{{1,9}}$' THEN substr(a.subject, 8)::int END AS number,
            {_QUALITY} AS quality
        FROM bmad_agent_activity a
        WHERE a.project_id = bmad_project() AND {of.format(id="a.id")} AND a.operation = 'task_complete'
          AND a.agent IS NOT NULL
        OFFSET 0) c
    JOIN bmad_tasks t ON t.project_id = bmad_project() AND t.number = c.number AND t.started_at IS NOT NULL
), measured AS MATERIALIZED (
    SELECT day, 'change' AS metric, agent, operation AS label, sum(rows)::bigint AS count, 0::float8 AS total
    FROM trail GROUP BY day, agent, operation
    UNION ALL
    SELECT day, 'principal', '', left(principal, 200), sum(rows)::bigint, 0 FROM trail GROUP BY day, left(principal, 200)
    UNION ALL
    SELECT day, 'gate', agent, left(gate, 200), sum(rows)::bigint, 0 FROM trail WHERE gate IS NOT NULL
    GROUP BY day, agent, left(gate, 200)
    UNION ALL
    SELECT day, 'handoff', agent, 'rated', sum(rows)::bigint, sum(rows * rating) FROM trail WHERE rating IS NOT NULL
    GROUP BY day, agent
    UNION ALL
    SELECT day, 'lookup', agent, label, sum(rows)::bigint, sum(items)::float8 FROM looked GROUP BY day, agent, label
    UNION ALL
    SELECT day, 'provider', '', provider, sum(rows)::bigint, sum(latency_ms)::float8 FROM looked GROUP BY day, provider
    UNION ALL
    SELECT day, 'task', agent, label, count(*), 0 FROM finished GROUP BY day, agent, label
    UNION ALL
    SELECT day, 'rated', agent, label, count(quality), sum(quality) FROM finished WHERE quality IS NOT NULL
    GROUP BY day, agent, label
)"""


# The planner knows little of such statements; compiling them costs more than running them.
STATE = """
SELECT now() AS now, set_config('jit', 'off', true),
    (SELECT rolled_until FROM mcp_rollups WHERE project_id = bmad_project()) AS rolled_until,
    current_setting('transaction_read_only') = 'off' AND has_table_privilege('mcp_daily_metrics', 'INSERT') AS may_write
"""
_LOCK = "hashtextextended('bmad rollup ' || bmad_project(), 0)"
LOCK = f"SELECT pg_advisory_xact_lock({_LOCK}), set_config('jit', 'off', true), bmad_project()"
TRY_LOCK = f"SELECT pg_try_advisory_xact_lock({_LOCK})"
# A statement after the lock's: its snapshot sees what the other one has rolled up.
REACHED = """
SELECT coalesce($1::timestamptz, clock_timestamp()) AS now,
    (SELECT rolled_until FROM mcp_rollups WHERE project_id = bmad_project()) AS rolled_until,
    least((SELECT a.id FROM bmad_agent_activity a WHERE a.project_id = bmad_project() ORDER BY a.id LIMIT 1),
        (SELECT m.id FROM bmad_memory_integrations m WHERE m.project_id = bmad_project() ORDER BY m.id LIMIT 1)) AS first
"""
# Rows from the id $1 to below $2, each once: whoever adds them moves the end in the same transaction.
ROLL = f"""
WITH {_measured("{id} >= $1::uuid AND {id} < $2::uuid")}
INSERT INTO mcp_daily_metrics AS d (project_id, day, metric, agent, label, count, total)
SELECT bmad_project(), day, metric, agent, label, count, total FROM measured
ON CONFLICT (project_id, day, metric, agent, label)
DO UPDATE SET count = d.count + EXCLUDED.count, total = d.total + EXCLUDED.total
"""
FORGET_METRICS = "DELETE FROM mcp_daily_metrics WHERE project_id = bmad_project()"
FORGET_REACH = "DELETE FROM mcp_rollups WHERE project_id = bmad_project()"
REACH = """
INSERT INTO mcp_rollups AS r (project_id, rolled_until) VALUES (bmad_project(), $1)
ON CONFLICT (project_id) DO UPDATE SET rolled_until = EXCLUDED.rolled_until
"""

# What is stored, and the rows since, counted as they are now: $1 first day, $2 the day after the last, $3 an id.
METRICS = f"""
{_measured("{id} >= $3::uuid")}, metrics AS MATERIALIZED (
    SELECT d.day, d.metric, d.agent, d.label, d.count, d.total FROM mcp_daily_metrics d
    WHERE d.project_id = bmad_project() AND d.day >= $1::date AND d.day < $2::date
    UNION ALL
    SELECT day, metric, agent, label, count, total FROM measured WHERE day >= $1::date AND day < $2::date
)
"""
