"""SQL beside a memory service: the cache of what it answered, and the memories on their way to it."""

from bmad_mcp.memory.queries import NAMED

LOOK_IN_CACHE = f"""
SELECT coalesce({NAMED}, $1::text) AS agent, c.items,
    c.fresh_until > now() AS is_fresh, extract(epoch FROM now() - c.looked_up_at)::float8 AS age
FROM (SELECT) one LEFT JOIN mcp_memory_cache c
    ON c.project_id = bmad_project() AND c.provider = $2::text AND c.question_hash = $3::text
"""
KEEP_ANSWER = """
WITH too_old AS (
    DELETE FROM mcp_memory_cache
    WHERE project_id = bmad_project() AND looked_up_at < now() - make_interval(days => $5::int)
)
INSERT INTO mcp_memory_cache AS c (project_id, provider, question_hash, items, fresh_until)
VALUES (bmad_project(), $1::text, $2::text, $3::jsonb, now() + make_interval(secs => $4::float8))
ON CONFLICT (project_id, provider, question_hash) DO UPDATE
SET items = EXCLUDED.items, looked_up_at = now(), fresh_until = EXCLUDED.fresh_until
"""
# What was stored since belongs into the next answer; until then the old one still serves when the service is away.
AGE_ANSWERS = """
UPDATE mcp_memory_cache SET fresh_until = now() WHERE project_id = bmad_project() AND fresh_until > now()
"""
IS_HERE = "SELECT EXISTS (SELECT FROM mcp_memories WHERE project_id = bmad_project() AND id::text = lower($1::text))"
FORGET_ANSWERS = "DELETE FROM mcp_memory_cache WHERE project_id = bmad_project()"

# The oldest one of an agent that waits: the service gets an agent's memories in order.
NEXT_TRY = """
SELECT m.id, m.text, m.category, m.agent, m.author_kind, m.principal, m.confidence, m.attempts,
    extract(epoch FROM clock_timestamp() - m.attempted_at)::float8 AS since_try, p.key AS project_key
FROM mcp_memories m JOIN bmad_projects p ON p.id = m.project_id
WHERE m.project_id = bmad_project() AND m.delivery = 'queued' AND m.agent IS NOT DISTINCT FROM $1::text
ORDER BY m.id LIMIT 1
"""
BEGIN_TRY = """
UPDATE mcp_memories SET attempts = attempts + 1, attempted_at = clock_timestamp(), provider = $2::text
WHERE project_id = bmad_project() AND id = $1::uuid AND delivery = 'queued'
RETURNING attempts
"""
# What the service cannot be blamed for is no failed try; `attempts` above 0 still has the key looked up.
TAKE_BACK_TRY = """
UPDATE mcp_memories SET attempts = $2::int,
    attempted_at = CASE WHEN $3::bool THEN attempted_at ELSE now() - make_interval(secs => $4::float8) END
WHERE project_id = bmad_project() AND id = $1::uuid AND delivery = 'queued'
"""
SETTLE = """
UPDATE mcp_memories SET delivery = $2::text, provider = $3::text, service_ref = $4::text, failure = $5::text
WHERE project_id = bmad_project() AND id = $1::uuid
"""
QUEUE_AGAIN = """
WITH again AS (
    UPDATE mcp_memories SET delivery = 'queued', failure = NULL, attempts = least(attempts, 1)
    WHERE project_id = bmad_project() AND delivery = ANY($1::text[])
    RETURNING agent
)
SELECT agent, count(*) AS memories FROM again GROUP BY agent ORDER BY agent
"""
WAITING_AGENTS = """
SELECT DISTINCT agent FROM mcp_memories WHERE project_id = bmad_project() AND delivery = 'queued'
"""
WAITING = """
SELECT count(*) FILTER (WHERE delivery = 'queued') AS queued, count(*) FILTER (WHERE delivery = 'dead') AS dead,
    extract(epoch FROM now() - min(created_at) FILTER (WHERE delivery = 'queued'))::float8 AS oldest,
    (SELECT d.failure FROM mcp_memories d WHERE d.project_id = bmad_project() AND d.delivery = 'dead'
     ORDER BY d.attempted_at DESC NULLS LAST LIMIT 1) AS failure
FROM mcp_memories WHERE project_id = bmad_project() AND delivery IN ('queued', 'dead')
"""

# What pgqueuer's own enqueue writes, for one entrypoint; a test holds the two against each other.
ENQUEUE = """
WITH added AS (
    INSERT INTO mcp_pgqueuer (priority, entrypoint, payload, execute_after, headers, status)
    SELECT 0, $1::text, payload, now(), 'null'::jsonb, 'queued' FROM unnest($2::bytea[]) payload
    RETURNING id, entrypoint, priority
)
INSERT INTO mcp_pgqueuer_log (job_id, status, entrypoint, priority)
SELECT id, 'queued', entrypoint, priority FROM added
"""
