"""SQL of the archive: rows are copied, compared with their copies, and only then deleted."""

# Whole rows, so that later columns are in it too. Search columns can be computed again.
_CONTENT = "to_jsonb(t) - 'search'"
_CHECKSUM = "sha256(convert_to(({content})::text, 'UTF8'))"


def _copy(kind: str, table: str, at: str) -> str:
    return f"""
INSERT INTO mcp_archive AS a (project_id, kind, id, at, content, checksum)
SELECT t.project_id, '{kind}', t.id, t.{at}, {_CONTENT}, {_CHECKSUM.format(content=_CONTENT)}
FROM {table} t WHERE t.project_id = bmad_project() AND t.id = ANY($1::uuid[])
ON CONFLICT (project_id, kind, id) DO UPDATE
SET at = EXCLUDED.at, content = EXCLUDED.content, checksum = EXCLUDED.checksum, archived_at = EXCLUDED.archived_at"""


def _same(kind: str, table: str) -> str:
    """How many of these rows are in the archive as they are in their table."""
    return f"""
SELECT count(*) FROM {table} t JOIN mcp_archive a ON a.project_id = t.project_id AND a.kind = '{kind}' AND a.id = t.id
WHERE t.project_id = bmad_project() AND t.id = ANY($1::uuid[])
  AND a.checksum = {_CHECKSUM.format(content="a.content")} AND a.checksum = {_CHECKSUM.format(content=_CONTENT)}"""


def _old(table: str, at: str) -> str:
    """Older than $1, and counted in the daily metrics, which hold all ids below $2; at most $3, the oldest first."""
    return f"""
SELECT t.id FROM {table} t
WHERE t.project_id = bmad_project() AND t.{at} < $1::timestamptz AND t.id < $2::uuid ORDER BY t.id LIMIT $3::int"""


OLD_ACTIVITY = _old("bmad_agent_activity", "at")
COPY_ACTIVITY = _copy("activity", "bmad_agent_activity", "at")
SAME_ACTIVITY = _same("activity", "bmad_agent_activity")
# The trail's trigger lets only rows go that are older than this and in the archive, and only its owner take them.
LET_GO = "SELECT set_config('app.retention_before', $1, true)"
DELETE_ACTIVITY = """
DELETE FROM bmad_agent_activity WHERE project_id = bmad_project() AND id = ANY($1::uuid[]) AND at < $2::timestamptz
"""

OLD_INTEGRATIONS = _old("bmad_memory_integrations", "created_at")
COPY_INTEGRATIONS = _copy("integrations", "bmad_memory_integrations", "created_at")
SAME_INTEGRATIONS = _same("integrations", "bmad_memory_integrations")
DELETE_INTEGRATIONS = """
DELETE FROM bmad_memory_integrations
WHERE project_id = bmad_project() AND id = ANY($1::uuid[]) AND created_at < $2::timestamptz
"""

# What somebody erased meanwhile is no longer there to be copied.
THERE = "SELECT id FROM mcp_memories WHERE project_id = bmad_project() AND id = ANY($1::uuid[]) FOR UPDATE"
COPY_MEMORIES = _copy("memories", "mcp_memories", "created_at")
SAME_MEMORIES = _same("memories", "mcp_memories")

HOW_MANY = """
SELECT kind, count(*) AS rows, min(at) AS oldest, max(at) AS newest
FROM mcp_archive WHERE project_id = bmad_project() GROUP BY kind ORDER BY kind
"""
# Page after page, by key; a row that is not what its checksum says stops whoever reads.
NEXT_PAGE = f"""
SELECT a.kind, a.id, jsonb_build_object('kind', a.kind, 'at', a.at, 'archived_at', a.archived_at,
        'checksum', encode(a.checksum, 'hex'), 'row', a.content)::text AS line,
    a.checksum = {_CHECKSUM.format(content="a.content")} AS is_whole
FROM mcp_archive a
WHERE a.project_id = bmad_project() AND (a.kind, a.id) > ($1::text, $2::uuid)
ORDER BY a.kind, a.id LIMIT $3::int
"""
REMOVE = """
DELETE FROM mcp_archive WHERE project_id = bmad_project() AND (kind, id) IN (SELECT * FROM unnest($1::text[], $2::uuid[]))
"""
REMOVE_OLD = """
DELETE FROM mcp_archive WHERE project_id = bmad_project() AND archived_at < $1::timestamptz
"""
_CHOSEN_MEMORIES = """
WHERE a.project_id = bmad_project() AND a.kind = 'memories'
  AND ($1::text[] IS NULL OR a.id::text = ANY($1::text[]) OR lower(a.content ->> 'service_ref') = ANY($1::text[]))
  AND ($2::text[] IS NULL OR a.content ->> 'principal' = ANY($2::text[]))
  AND ($3::text IS NULL OR a.content ->> 'category' = $3::text)
  AND ($4::text IS NULL OR a.content ->> 'agent' = coalesce(
      (SELECT g.name FROM bmad_agents g
       WHERE g.project_id = bmad_project() AND (g.name = $4::text OR $4::text = ANY(g.aliases))
       ORDER BY g.name <> $4::text, g.name LIMIT 1), $4::text))
  AND ($5::timestamptz IS NULL OR a.at < $5::timestamptz)
  AND ($6::timestamptz IS NULL OR a.at >= $6::timestamptz)
"""
MEMORIES_THERE = f"""
SELECT a.id, a.content ->> 'service_ref' AS service_ref FROM mcp_archive a {_CHOSEN_MEMORIES}
"""
# What people asked to have forgotten is not kept in the archive either.
REMOVE_MEMORIES = f"""
DELETE FROM mcp_archive a {_CHOSEN_MEMORIES}
"""
