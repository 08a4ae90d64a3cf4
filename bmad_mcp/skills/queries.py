"""SQL of skills: the definitions whose names can be the names of skills."""

# The Agent Skills format allows these names only; the others are offered as prompts.
NAME = "^[a-z0-9]+(-[a-z0-9]+)*$"
# A name that both have is the persona's.
SOURCES = f"""
SELECT * FROM (
    SELECT a.name AS skill, 'persona' AS kind, a.persona, a.commands, NULL::jsonb AS stages
    FROM bmad_agents a
    WHERE a.project_id = bmad_project() AND a.name ~ '{NAME}' AND length(a.name) <= 64
    UNION ALL
    SELECT w.name, 'workflow', NULL, NULL, w.body -> 'stages' FROM bmad_templates w
    WHERE w.project_id = bmad_project() AND w.kind = 'workflow' AND w.body -> 'stages' -> 0 IS NOT NULL
        AND w.name ~ '{NAME}' AND length(w.name) <= 64
        AND NOT EXISTS (SELECT FROM bmad_agents a WHERE a.project_id = w.project_id AND a.name = w.name)
) s
"""
LIST = f"{SOURCES} WHERE (s.kind, s.skill) > ($1::text, $2::text) ORDER BY s.kind, s.skill LIMIT $3::int"
ONE = f"{SOURCES} WHERE s.skill = $1::text"
