"""SQL of the activity trail."""

# Agents lie above the trail and may be gone: a name nobody answers to is looked for as it is.
LIST = """
SELECT a.id, date_trunc('second', a.at) AS at, a.operation, a.subject, a.agent,
    left(coalesce(a.detail ->> 'note', a.detail ->> 'title', a.detail ->> 'summary'), 160) AS note,
    a.detail ->> 'status' AS status
FROM bmad_agent_activity a WHERE a.project_id = bmad_project()
"""
BY_AGENT = """ AND a.agent = coalesce(
    (SELECT g.name FROM bmad_agents g
     WHERE g.project_id = bmad_project() AND (g.name = {value}::text OR {value}::text = ANY(g.aliases))
     ORDER BY g.name <> {value}::text, g.name LIMIT 1), {value}::text)"""
