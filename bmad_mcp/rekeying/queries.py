"""SQL that finds what is not sealed with the key in use, and puts what is in its place."""

# Each page begins behind the last row of the one before: $1 the prefix of what is done, $2 that row, $3 how many.
MEMORIES = """
SELECT m.id::text AS row, m.text AS sealed FROM mcp_memories m
WHERE m.project_id = bmad_project() AND m.id > $2::text::uuid AND NOT starts_with(m.text, $1::text)
ORDER BY m.id LIMIT $3::int
"""
# Only while the row still says what was read: whatever else was written meanwhile stays.
CHANGE_MEMORIES = """
UPDATE mcp_memories m SET text = v.text, search = v.search::tsvector, text_mark = v.mark,
    identifiers = ARRAY(SELECT jsonb_array_elements_text(v.names::jsonb))
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) v(id, old, text, names, search, mark)
WHERE m.project_id = bmad_project() AND m.id = v.id AND m.text = v.old
"""
ARCHIVED = """
SELECT a.id::text AS row, a.content ->> 'text' AS sealed FROM mcp_archive a
WHERE a.project_id = bmad_project() AND a.kind = 'memories' AND a.id > $2::text::uuid
  AND NOT starts_with(a.content ->> 'text', $1::text)
ORDER BY a.id LIMIT $3::int
"""
CHANGE_ARCHIVED = """
UPDATE mcp_archive a SET content = v.content, checksum = sha256(convert_to(v.content::text, 'UTF8'))
FROM (
    SELECT b.id, v.old, b.content || jsonb_build_object('text', v.text, 'text_mark', v.mark, 'identifiers', v.names::jsonb)
        AS content
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) v(id, old, text, names, mark)
    JOIN mcp_archive b ON b.project_id = bmad_project() AND b.kind = 'memories' AND b.id = v.id
) v
WHERE a.project_id = bmad_project() AND a.kind = 'memories' AND a.id = v.id AND a.content ->> 'text' = v.old
"""


def _page(table: str, column: str, row: str, position: str, kind: str) -> str:
    return f"""
SELECT {row} AS row, t.{position}::text AS position, t.{column} AS sealed FROM {table} t
WHERE t.project_id = bmad_project() AND t.{position} > $2::text::{kind} AND t.{column} <> ''
  AND NOT starts_with(t.{column}, $1::text)
ORDER BY t.{position} LIMIT $3::int
"""


def _change(table: str, column: str, position: str, kind: str) -> str:
    return f"""
UPDATE {table} t SET {column} = v.text FROM unnest($1::text[], $2::text[], $3::text[]) v(position, old, text)
WHERE t.project_id = bmad_project() AND t.{position} = v.position::{kind} AND t.{column} = v.old
"""


SUMMARIES = _page("bmad_agent_sessions", "summary", "t.id::text", "id", "uuid")
CHANGE_SUMMARIES = _change("bmad_agent_sessions", "summary", "id", "uuid")
FOCUSES = _page("bmad_agent_sessions", "focus", "t.id::text", "id", "uuid")
CHANGE_FOCUSES = _change("bmad_agent_sessions", "focus", "id", "uuid")
COMPLETIONS = _page("bmad_tasks", "summary", "'T-' || t.number", "number", "int")
CHANGE_COMPLETIONS = _change("bmad_tasks", "summary", "number", "int")
NOTES = _page("bmad_agent_collaborations", "note", "t.id::text", "id", "uuid")
CHANGE_NOTES = _change("bmad_agent_collaborations", "note", "id", "uuid")

RESULTS = """
SELECT i.principal, i.operation, i.key, i.result FROM mcp_idempotency i
WHERE i.project_id = bmad_project() AND i.result IS NOT NULL
  AND (i.principal, i.operation, i.key) > ($2::text, $3::text, $4::text)
  AND NOT (jsonb_typeof(i.result) = 'string' AND starts_with(i.result #>> '{}', $1::text))
ORDER BY i.principal, i.operation, i.key LIMIT $5::int
"""
CHANGE_RESULTS = """
UPDATE mcp_idempotency i SET result = to_jsonb(v.text)
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) v(principal, operation, key, old, text)
WHERE i.project_id = bmad_project() AND i.principal = v.principal AND i.operation = v.operation AND i.key = v.key
  AND i.result = v.old::jsonb
"""
# Answers of a service are asked for again.
DROP_ANSWERS = """
DELETE FROM mcp_memory_cache WHERE project_id = bmad_project() AND NOT starts_with(items #>> '{}', $1::text)
"""

# How many texts are sealed with each key; `key` null: in the clear.
COUNT = r"""
SELECT k.id AS key, count(*) AS texts FROM (
    SELECT text AS sealed FROM mcp_memories WHERE project_id = bmad_project()
    UNION ALL SELECT content ->> 'text' FROM mcp_archive WHERE project_id = bmad_project() AND kind = 'memories'
    UNION ALL SELECT summary FROM bmad_agent_sessions WHERE project_id = bmad_project() AND summary <> ''
    UNION ALL SELECT focus FROM bmad_agent_sessions WHERE project_id = bmad_project() AND focus <> ''
    UNION ALL SELECT summary FROM bmad_tasks WHERE project_id = bmad_project() AND summary <> ''
    UNION ALL SELECT note FROM bmad_agent_collaborations WHERE project_id = bmad_project() AND note <> ''
    UNION ALL SELECT result #>> '{}' FROM mcp_idempotency WHERE project_id = bmad_project() AND result IS NOT NULL
    UNION ALL SELECT name FROM mcp_people WHERE project_id = bmad_project()
    UNION ALL SELECT items #>> '{}' FROM mcp_memory_cache WHERE project_id = bmad_project()
) t LEFT JOIN mcp_data_keys k ON k.project_id = bmad_project() AND starts_with(t.sealed, 'v1.' || k.id || '.')
GROUP BY k.id
"""
