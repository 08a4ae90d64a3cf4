"""SQL of keeping memories: to list and export them, to erase them, and how long each category stays."""

from bmad_mcp.encryption.people import told

# Agents lie above memory: their table is only read, to know an agent by any of its names.
_CHOSEN = """m.project_id = bmad_project()
  AND ($1::text[] IS NULL OR m.id::text = ANY($1::text[]) OR lower(m.service_ref) = ANY($1::text[]))
  AND ($2::text[] IS NULL OR m.principal = ANY($2::text[]))
  AND ($3::text IS NULL OR m.category = $3::text)
  AND ($4::text IS NULL OR m.agent = coalesce(
      (SELECT a.name FROM bmad_agents a
       WHERE a.project_id = bmad_project() AND (a.name = $4::text OR $4::text = ANY(a.aliases))
       ORDER BY a.name <> $4::text, a.name LIMIT 1), $4::text))
  AND ($5::timestamptz IS NULL OR m.created_at < $5::timestamptz)
  AND ($6::timestamptz IS NULL OR m.created_at >= $6::timestamptz)"""
_SHOWN = f"""m.id, m.text, m.category, m.agent, m.author_kind, {told("m.principal")} AS principal, m.confidence,
    m.identifiers, m.created_at, m.delivery, m.provider, m.service_ref, m.attempts, m.attempted_at, m.failure"""

LATEST = f"""
SELECT {_SHOWN} FROM mcp_memories m WHERE {_CHOSEN} ORDER BY m.created_at DESC, m.id DESC LIMIT $7::int
"""
HOW_MANY = f"SELECT count(*) FROM mcp_memories m WHERE {_CHOSEN}"
# Page after page, each in a transaction of its own: whoever reads may be slow. Statistics know little of one project,
# and a page that is sorted out of all the rest makes reading everything quadratic: the key's index has the order.
IN_ORDER = "SET LOCAL enable_sort = off"
NEXT_PAGE = f"""
SELECT {_SHOWN} FROM mcp_memories m
WHERE {_CHOSEN} AND m.id > $7::uuid ORDER BY m.id LIMIT $8::int
"""
NEXT_CHOSEN = f"""
SELECT m.id, m.category, m.delivery, m.provider, m.service_ref, m.attempts FROM mcp_memories m
WHERE {_CHOSEN} AND m.id > $7::uuid ORDER BY m.id LIMIT $8::int
"""
# Which of a service's keys are of this principal: a service is never told who that was.
KEYS_OF = """
SELECT id::text AS key FROM mcp_memories
WHERE project_id = bmad_project() AND principal = ANY($1::text[]) AND id::text = ANY($2::text[])
"""
KEYS_HERE = "SELECT id::text AS key FROM mcp_memories WHERE project_id = bmad_project() AND id::text = ANY($1::text[])"

# A try that has begun may still land in the service. Such a row stays until that is known, except with $2 null.
ERASE = """
WITH gone AS (
    DELETE FROM mcp_memories m
    WHERE m.project_id = bmad_project() AND m.id = ANY($1::uuid[])
      AND ($2::float8 IS NULL OR m.attempted_at IS NULL
           OR (m.delivery = 'delivered' AND (m.service_ref IS NULL OR m.service_ref = ANY($3::text[])))
           OR (m.delivery <> 'delivered' AND m.attempted_at < clock_timestamp() - make_interval(secs => $2::float8)))
    RETURNING m.category
)
SELECT category, count(*) AS memories FROM gone GROUP BY category ORDER BY category
"""
# Whoever delivers takes only what is queued, so that no further try begins; one that has begun still settles.
HOLD = """
UPDATE mcp_memories SET delivery = 'stored'
WHERE project_id = bmad_project() AND id = ANY($1::uuid[]) AND delivery = 'queued'
"""
UNSETTLED = """
SELECT m.id, m.text, m.category, m.agent, m.author_kind, m.principal, m.confidence, m.delivery, m.service_ref,
    extract(epoch FROM clock_timestamp() - m.attempted_at)::float8 AS since_try
FROM mcp_memories m WHERE m.project_id = bmad_project() AND m.id = ANY($1::uuid[]) ORDER BY m.id
"""
# A repeated call is given its first answer again; that one must not bring back what was forgotten.
FORGET_RESULTS = """
UPDATE mcp_idempotency SET result = jsonb_set(result,
    CASE operation WHEN 'memory_context' THEN '{items}'::text[] ELSE '{memory,items}'::text[] END, '[]'::jsonb)
WHERE project_id = bmad_project()
  AND (operation = 'memory_context' AND result ? 'items' OR jsonb_typeof(result #> '{memory,items}') = 'array')
"""

# Encrypted ones are read, emptied and sealed again in this process.
SEALED_RESULTS = """
SELECT principal, operation, key, result FROM mcp_idempotency
WHERE project_id = bmad_project() AND jsonb_typeof(result) = 'string' FOR UPDATE
"""
CHANGE_RESULT = """
UPDATE mcp_idempotency SET result = $4
WHERE project_id = bmad_project() AND principal = $1 AND operation = $2 AND key = $3
"""

# {category: days} beside the project's other settings.
RETENTION = "SELECT settings -> 'memory_retention' FROM bmad_projects WHERE id = bmad_project()"
SET_RETENTION = """
UPDATE bmad_projects SET settings = settings || jsonb_build_object('memory_retention', $1::jsonb), updated_at = now()
WHERE id = bmad_project()
"""
OVER_AGE = """
SELECT m.category, count(*) AS memories, min(m.created_at) AS oldest,
    count(*) FILTER (WHERE m.created_at < $2::timestamptz - make_interval(hours => 24 * ($1::jsonb ->> m.category)::int))
        AS over_age
FROM mcp_memories m WHERE m.project_id = bmad_project() GROUP BY m.category
"""

# What the deliveries of a project come to, for `doctor`.
DEAD_REASONS = """
SELECT coalesce(failure, 'no reason was kept') AS failure, count(*) AS memories, max(attempted_at) AS last
FROM mcp_memories WHERE project_id = bmad_project() AND delivery = 'dead'
GROUP BY 1 ORDER BY last DESC NULLS LAST, memories DESC LIMIT 3
"""
IN_STATE = "SELECT count(*) FROM mcp_memories WHERE project_id = bmad_project() AND delivery = ANY($1::text[])"
# Stored after others had been delivered, such as by a server that found no service when it began.
LEFT_HERE = """
SELECT count(*) FROM mcp_memories WHERE project_id = bmad_project() AND delivery = 'stored'
  AND id > (SELECT id FROM mcp_memories WHERE project_id = bmad_project() AND delivery = 'delivered' ORDER BY id LIMIT 1)
"""
FAILED_LATELY = """
SELECT outcome, count(*) AS times FROM bmad_memory_integrations
WHERE project_id = bmad_project() AND created_at > now() - interval '1 day' AND provider IN ('openmemory', 'mem0')
  AND outcome IN ('Away', 'TimedOut', 'Refused', 'Garbage')
GROUP BY outcome ORDER BY times DESC, outcome
"""
SIZES = """
SELECT (SELECT count(*) FROM mcp_memories WHERE project_id = bmad_project()) AS memories,
    (SELECT count(*) FROM mcp_memory_cache WHERE project_id = bmad_project()) AS answers,
    pg_total_relation_size('mcp_memories') AS memory_bytes, pg_total_relation_size('mcp_memory_cache') AS cache_bytes
"""
