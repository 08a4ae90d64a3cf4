"""SQL of checklists."""

LIST = """
SELECT name, title, source, jsonb_array_length(items) AS items FROM bmad_checklists
WHERE project_id = bmad_project() AND name > $1::text ORDER BY name LIMIT $2::int
"""
# The name as it was asked for goes first: `pm-checklist` may be another one than `pm`.
GET = """
SELECT name, title, source, items FROM bmad_checklists
WHERE project_id = bmad_project() AND name = ANY($1::text[]) ORDER BY array_position($1::text[], name) LIMIT 1
"""
NAMES = "SELECT array_agg(name ORDER BY name) FROM bmad_checklists WHERE project_id = bmad_project()"
