"""SQL of the vectors: what has none yet, and which are nearest to a question."""

# So many are compared exactly, of those whose signs agree most with the question's.
COMPARED = 500
DIMENSIONS = 256

# The nearest by the signs alone, which PostgreSQL counts by itself: an extension for vectors would need a superuser.
NEAREST = f"""
WITH centre AS MATERIALIZED (
    SELECT c.centre, (SELECT string_agg(CASE WHEN p.asked > p.mean THEN '1' ELSE '0' END, '' ORDER BY p.at)
                      FROM unnest($1::real[], c.centre) WITH ORDINALITY p (asked, mean, at))::bit({DIMENSIONS}) AS signs
    FROM mcp_memory_centres c WHERE c.project_id = bmad_project() AND c.model = $2::text
), nearest AS (
    SELECT v.memory_id, v.code FROM centre, mcp_memory_vectors v
    WHERE v.project_id = bmad_project() AND v.memory_id IS DISTINCT FROM $6::uuid
      AND ($3::text IS NULL AND $4::text IS NULL AND $5::timestamptz IS NULL OR EXISTS (
          SELECT FROM mcp_memories m WHERE m.project_id = v.project_id AND m.id = v.memory_id
            AND ($3::text IS NULL OR m.category = $3::text) AND ($4::text IS NULL OR m.agent = $4::text)
            AND ($5::timestamptz IS NULL OR m.created_at >= $5::timestamptz)))
    ORDER BY bit_count(v.signs # centre.signs), v.memory_id DESC LIMIT {COMPARED}
)
SELECT (SELECT centre FROM centre) AS centre, array_agg(memory_id) AS ids, string_agg(code, ''::bytea) AS codes
FROM nearest
"""

STATE = """
SELECT c.made_at, c.centre, c.memories AS made_of, c.model, (SELECT count(*) FROM mcp_memories m
    WHERE m.project_id = bmad_project()) AS memories, (SELECT count(*) FROM mcp_memory_vectors v
    WHERE v.project_id = bmad_project()) AS vectors
FROM (SELECT) one LEFT JOIN mcp_memory_centres c ON c.project_id = bmad_project()
"""
NEWEST = "SELECT text FROM mcp_memories WHERE project_id = bmad_project() ORDER BY id DESC LIMIT $1"
# Whoever writes vectors of the old centre at this moment is waited for; they go with the others.
SET_CENTRE = """
INSERT INTO mcp_memory_centres AS c (project_id, model, centre, memories) VALUES (bmad_project(), $1, $2::real[], $3)
ON CONFLICT (project_id) DO UPDATE
SET model = excluded.model, centre = excluded.centre, memories = excluded.memories, made_at = clock_timestamp()
RETURNING made_at
"""
# A mean of so many texts tells nothing of one of them; that of fewer is erased with any.
MANY = 500
FORGET_CENTRE = f"DELETE FROM mcp_memory_centres WHERE project_id = bmad_project() AND memories < {MANY}"
FORGET_CENTRES = "DELETE FROM mcp_memory_centres WHERE project_id = bmad_project()"
FORGET_VECTORS = "DELETE FROM mcp_memory_vectors WHERE project_id = bmad_project()"
MISSING = """
SELECT m.id FROM mcp_memories m
WHERE m.project_id = bmad_project() AND NOT EXISTS (
    SELECT FROM mcp_memory_vectors v WHERE v.project_id = m.project_id AND v.memory_id = m.id)
ORDER BY m.id DESC
"""
TEXTS = "SELECT id, text FROM mcp_memories WHERE project_id = bmad_project() AND id = ANY($1::uuid[])"
# What is being erased at this moment is left out, not waited for: whoever erases could wait for this.
STORE_VECTORS = f"""
INSERT INTO mcp_memory_vectors (project_id, memory_id, signs, code)
SELECT bmad_project(), m.id, v.signs::bit({DIMENSIONS}), v.code
FROM mcp_memory_centres c, unnest($2::uuid[], $3::text[], $4::bytea[]) v (id, signs, code), mcp_memories m
WHERE c.project_id = bmad_project() AND c.made_at = $1 AND m.project_id = bmad_project() AND m.id = v.id
FOR SHARE OF c FOR KEY SHARE OF m SKIP LOCKED
ON CONFLICT DO NOTHING
"""
