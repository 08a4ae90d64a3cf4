"""SQL of templates."""

_ORDER = "ARRAY['document', 'task', 'data', 'team', 'skill']"
# The name as it was asked for goes first. Of several kinds with that name the first is meant, or the one that was named.
GET = f"""
SELECT name, kind, title, source, body, content FROM bmad_templates
WHERE project_id = bmad_project() AND kind <> 'workflow'
  AND (name = ANY($1::text[]) OR name = ANY($2::text[]) AND kind = $3::text)
ORDER BY array_position($1::text[] || $2::text[], name), array_position({_ORDER}, kind)
LIMIT 1
"""
# Where GET would find another kind by the name, the kind is told with it.
LIST = f"""
SELECT t.name AS place, t.kind, t.title, t.source, t.name || CASE WHEN EXISTS (SELECT FROM bmad_templates o
    WHERE o.project_id = bmad_project() AND o.name = t.name AND o.kind <> 'workflow'
      AND array_position({_ORDER}, o.kind) < array_position({_ORDER}, t.kind)) THEN '.' || t.kind ELSE '' END AS name
FROM bmad_templates t WHERE t.project_id = bmad_project() AND t.kind = $1::text AND t.name > $2::text
ORDER BY t.name LIMIT $3::int
"""
NAMES = """
SELECT array_agg(name ORDER BY name) FROM bmad_templates WHERE project_id = bmad_project() AND kind = 'document'
"""
