"""SQL of the data keys of a project, and of its people."""


def beginning_of(column: str, characters: int) -> str:
    """The first characters of a text; all of one that may be encrypted, as only its reader can cut it."""
    return f"CASE WHEN starts_with({column}, 'v1.') THEN {column} ELSE left({column}, {characters}) END"


KEYS = """
SELECT id, master_key, wrapped, retired_at IS NOT NULL AS is_retired, created_at
FROM mcp_data_keys WHERE project_id = bmad_project() ORDER BY created_at, id
"""
HAS_KEYS = "SELECT EXISTS (SELECT FROM mcp_data_keys WHERE project_id = bmad_project())"
# One key is in use at a time: of two processes that make the first one, one does.
ADD_KEY = """
INSERT INTO mcp_data_keys (project_id, id, master_key, wrapped) VALUES (bmad_project(), $1, $2, $3)
ON CONFLICT DO NOTHING
"""
# Waits for the transactions that write with these keys.
RETIRE_KEYS = """
UPDATE mcp_data_keys SET retired_at = now() WHERE project_id = bmad_project() AND retired_at IS NULL
"""
WRAP_AGAIN = """
UPDATE mcp_data_keys SET master_key = $2, wrapped = $3 WHERE project_id = bmad_project() AND id = $1
"""
LOCK_KEY = """
SELECT id FROM mcp_data_keys WHERE project_id = bmad_project() AND id = $1 AND retired_at IS NOT NULL FOR UPDATE
"""
DROP_KEY = "DELETE FROM mcp_data_keys WHERE project_id = bmad_project() AND id = $1 AND retired_at IS NOT NULL"

FIND_PEOPLE = "SELECT id, mark FROM mcp_people WHERE project_id = bmad_project() AND mark = ANY($1::text[])"
# Of two processes that meet somebody for the first time, one gives the pseudonym.
ADD_PERSON = """
INSERT INTO mcp_people (project_id, id, name, mark) VALUES (bmad_project(), $1, $2, $3)
ON CONFLICT (project_id, mark) DO NOTHING RETURNING id
"""
PEOPLE = "SELECT id, name FROM mcp_people WHERE project_id = bmad_project()"
FORGET_PERSON = "DELETE FROM mcp_people WHERE project_id = bmad_project() AND id = $1"
