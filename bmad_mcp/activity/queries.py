"""SQL of the activity trail."""

from bmad_mcp.encryption.people import told

# Agents lie above the trail and may be gone: a name nobody answers to is looked for as it is.
_TITLE = "a.detail ->> 'title'"
LIST = f"""
SELECT a.id, date_trunc('second', a.at) AS at, a.operation,
    CASE WHEN starts_with(a.subject, 'member ~') THEN 'member ' || {told("substr(a.subject, 8)")} ELSE a.subject END
        AS subject, a.agent,
    CASE WHEN starts_with(a.subject, 'token ') THEN {told(_TITLE)}
        ELSE left(coalesce(a.detail ->> 'note', {_TITLE}, a.detail ->> 'summary',
            nullif(concat_ws(': ', a.detail ->> 'subject', a.detail ->> 'gate'), '')), 160) END AS note,
    CASE WHEN a.agent IS NULL THEN {told("a.principal")} END AS by,
    a.detail ->> 'status' AS status, left(a.detail ->> 'section', 120) AS section
FROM bmad_agent_activity a WHERE a.project_id = bmad_project()
"""
# In an array, as the order by id alone would read the whole trail for a rare agent. A query of its own: under
# row-level security `coalesce` chooses no index, and its value does.
BY_AGENT = """ AND a.agent = ANY(ARRAY[(SELECT coalesce(
    (SELECT g.name FROM bmad_agents g
     WHERE g.project_id = bmad_project() AND (g.name = {value}::text OR {value}::text = ANY(g.aliases))
     ORDER BY g.name <> {value}::text, g.name LIMIT 1), {value}::text))])"""

# Rows of the trail that became visible, oldest first, and how far the database is: `unfinished` is the oldest
# transaction that may still write, `next` the first that has not begun. One row without an id: nothing is new.
FOLLOW = """
SELECT pg_snapshot_xmin(s.taken)::text::bigint AS unfinished, pg_snapshot_xmax(s.taken)::text::bigint AS next,
    statement_timestamp() AS asked, a.id, a.subject, a.agent, a.detail ->> 'subject' AS about
FROM (SELECT pg_current_snapshot() AS taken) s
LEFT JOIN bmad_agent_activity a ON a.project_id = bmad_project() AND a.id > $1::uuid AND a.at > $2::timestamptz
    AND NOT a.id = ANY($3::uuid[])
ORDER BY a.id LIMIT $4
"""
# What else shows a thing that changed. These tables lie above the trail and are only read here.
RELATED = """
WITH t AS (
    SELECT t.id, t.story_id, t.workflow_id, t.lease_agent FROM bmad_tasks t
    WHERE t.project_id = bmad_project() AND (t.number = ANY($1::int[])
        OR t.story_id IN (SELECT s.id FROM bmad_stories s WHERE s.project_id = bmad_project() AND s.key = ANY($2::text[]))
        OR t.workflow_id IN (
            SELECT w.id FROM bmad_workflows w WHERE w.project_id = bmad_project() AND w.number = ANY($3::int[])))
), h AS (
    SELECT h.to_agent, h.from_agent, h.task_id, h.story_id FROM bmad_agent_collaborations h
    WHERE h.project_id = bmad_project() AND h.number = ANY($4::int[])
), a AS (
    SELECT a.task_id, a.story_id, a.workflow_id FROM bmad_artifacts a
    WHERE a.project_id = bmad_project() AND a.number = ANY($5::int[])
), s AS (
    SELECT s.key, s.epic_id FROM bmad_stories s WHERE s.project_id = bmad_project() AND (s.key = ANY($2::text[])
        OR s.id IN (SELECT story_id FROM t UNION SELECT story_id FROM h UNION SELECT story_id FROM a))
), n AS (
    SELECT n.number, n.agent FROM bmad_tasks n WHERE n.project_id = bmad_project() AND n.id IN (
        SELECT id FROM t UNION SELECT task_id FROM h UNION SELECT task_id FROM a
        UNION SELECT d.depends_on_id FROM bmad_task_dependencies d JOIN t ON d.task_id = t.id
            WHERE d.project_id = bmad_project()
        UNION SELECT d.task_id FROM bmad_task_dependencies d JOIN t ON d.depends_on_id = t.id
            WHERE d.project_id = bmad_project())
), g AS (
    SELECT unnest($6::text[]) AS name UNION SELECT agent FROM n UNION SELECT lease_agent FROM t
    UNION SELECT to_agent FROM h UNION SELECT from_agent FROM h
    UNION SELECT b.name FROM bmad_workflows w
        JOIN bmad_workflow_stages s ON s.project_id = w.project_id AND s.workflow_id = w.id
            AND (s.status = 'active' OR s.completed_at >= w.updated_at)
        JOIN bmad_agents b ON b.project_id = w.project_id
            AND string_to_array(lower(replace(s.agent, ' ', '')), '/') && (b.aliases || b.name)
        WHERE w.project_id = bmad_project() AND w.number = ANY($3::int[])
)
SELECT 'task' AS noun, 'T-' || n.number AS key FROM n
UNION SELECT 'workflow', 'W-' || w.number FROM bmad_workflows w WHERE w.project_id = bmad_project()
    AND w.id IN (SELECT workflow_id FROM t UNION SELECT workflow_id FROM a)
UNION SELECT 'story', s.key FROM s
UNION SELECT 'epic', e.key FROM bmad_epics e JOIN s ON s.epic_id = e.id WHERE e.project_id = bmad_project()
UNION SELECT 'agent', g.name FROM g WHERE g.name <> ''
UNION SELECT 'agent', unnest(b.aliases) FROM bmad_agents b JOIN g ON g.name = b.name WHERE b.project_id = bmad_project()
"""
