"""SQL of templates."""

# The name as it was asked for goes first; several kinds may have a definition of that name.
GET = """
SELECT name, kind, title, source, body, content FROM bmad_templates
WHERE project_id = bmad_project() AND kind <> 'workflow' AND name = ANY($1::text[])
ORDER BY array_position($1::text[], name), array_position(ARRAY['document', 'task', 'data', 'team', 'skill'], kind)
LIMIT 1
"""
LIST = """
SELECT name, kind, title, source FROM bmad_templates
WHERE project_id = bmad_project() AND kind = $1::text AND name > $2::text
ORDER BY name LIMIT $3::int
"""
NAMES = """
SELECT array_agg(name ORDER BY name) FROM bmad_templates WHERE project_id = bmad_project() AND kind = 'document'
"""
