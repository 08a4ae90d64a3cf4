"""SQL of checklists."""

from bmad_mcp.activity.acting import ACTING_AGENT
from bmad_mcp.activity.record import COLUMNS

RUNS_KEPT = 100
RUNS_SHOWN = 5

# The newest run stands last.
LIST = """
SELECT c.name, c.title, c.source, jsonb_array_length(c.items) AS items,
    (c.runs -> -1) - ARRAY['results', 'counts', 'of', 'principal', 'agent'] AS last_run
FROM bmad_checklists c
WHERE c.project_id = bmad_project() AND c.name > $1::text ORDER BY c.name LIMIT $2::int
"""
# The name as it was asked for goes first: `pm-checklist` may be another one than `pm`.
NAMED = """
FROM bmad_checklists c
WHERE c.project_id = bmad_project() AND c.name = ANY($1::text[]) ORDER BY array_position($1::text[], c.name) LIMIT 1
"""
GET = f"""
SELECT c.name, c.title, c.source, c.items,
    (SELECT jsonb_agg(r.run - ARRAY['results', 'counts', 'of', 'principal'] ORDER BY r.place DESC) FROM (
        SELECT e.run, e.place FROM jsonb_array_elements(c.runs) WITH ORDINALITY AS e(run, place)
        ORDER BY e.place DESC LIMIT {RUNS_SHOWN}) r) AS runs
{NAMED}
"""
NAMES = "SELECT array_agg(name ORDER BY name) FROM bmad_checklists WHERE project_id = bmad_project()"

# The lock keeps the items as they are until the run of them is stored.
LOCK = f"SELECT c.id, c.name, c.items, left(c.content_hash, 12) AS hash {NAMED} FOR NO KEY UPDATE"
# The version stays: a run changes nothing that an import reads.
RUN = f"""
WITH n AS (
    SELECT $2::jsonb || jsonb_strip_nulls(jsonb_build_object(
        'at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        'principal', $4::text,
        'agent', {ACTING_AGENT.format(caller="$3")})) AS run
), c AS (
    UPDATE bmad_checklists AS c SET updated_at = now(),
        runs = (CASE WHEN jsonb_array_length(c.runs) >= {RUNS_KEPT} THEN c.runs - 0 ELSE c.runs END) || n.run
    FROM n WHERE c.project_id = bmad_project() AND c.id = $1
    RETURNING c.project_id, c.name, n.run
)
INSERT INTO bmad_agent_activity {COLUMNS}
SELECT c.project_id, 'checklist_run', 'checklist ' || c.name, c.run ->> 'agent', $4::text, $5::text,
    jsonb_build_object('subject', c.run -> 'subject', 'gate', c.run -> 'gate', 'score', c.run -> 'score')
FROM c
"""
