"""SQL of artifacts."""

from bmad_mcp.activity.acting import ACTING_AGENT
from bmad_mcp.artifacts.kinds import is_kept_sql

# What a file that was imported says stands until a text replaces it; a file with a home of its own is not replaced.
RECORD = f"""
INSERT INTO bmad_artifacts AS a (project_id, number, kind, title, path, content, content_hash, story_id, task_id,
    workflow_id, agent)
VALUES (bmad_project(), $1::int, $2::text, $3::text, $4::text, $5::text, $6::text, $7, $8, $9,
    {ACTING_AGENT.format(caller="$10")})
ON CONFLICT (project_id, path) DO UPDATE SET
    kind = CASE WHEN a.source = 'import' AND excluded.content = '' THEN a.kind ELSE excluded.kind END,
    title = CASE WHEN a.source = 'import' AND excluded.content = '' THEN a.title ELSE excluded.title END,
    source = CASE WHEN excluded.content = '' THEN a.source ELSE excluded.source END,
    content = CASE WHEN excluded.content = '' THEN a.content ELSE excluded.content END,
    content_hash = CASE WHEN excluded.content = '' THEN a.content_hash ELSE excluded.content_hash END,
    encoding = CASE WHEN excluded.content = '' THEN a.encoding ELSE excluded.encoding END,
    story_id = coalesce(excluded.story_id, a.story_id), task_id = coalesce(excluded.task_id, a.task_id),
    workflow_id = coalesce(excluded.workflow_id, a.workflow_id), agent = coalesce(excluded.agent, a.agent),
    updated_at = now(), version = a.version + 1
WHERE NOT {is_kept_sql("a")}
RETURNING a.number
"""
KIND_AT = "SELECT kind FROM bmad_artifacts WHERE project_id = bmad_project() AND path = $1::text"
# The size in bytes is known without reading a long text.
BRIEF = """a.number, 'A-' || a.number AS key, a.kind, a.title, a.path, a.source, octet_length(a.content) AS bytes"""
LIST = f"""
SELECT {BRIEF} FROM bmad_artifacts a
WHERE a.project_id = bmad_project() AND a.number < $1::int AND NOT {is_kept_sql("a")}
ORDER BY a.number DESC LIMIT $2::int
"""
LIST_OF_KIND = f"""
SELECT {BRIEF} FROM bmad_artifacts a WHERE a.project_id = bmad_project() AND a.number < $1::int AND a.kind = $3::text
ORDER BY a.number DESC LIMIT $2::int
"""
# Stories, tasks and workflows lie above artifacts; only their keys are read.
GET = f"""
SELECT {BRIEF}, a.version, date_trunc('second', a.updated_at) AS updated_at, a.encoding, a.generation, a.agent,
    length(a.content) AS characters,
    substr(a.content, $2::int + 1, $3::int) AS content,
    (SELECT s.key FROM bmad_stories s WHERE s.project_id = a.project_id AND s.id = a.story_id) AS story,
    (SELECT 'T-' || t.number FROM bmad_tasks t WHERE t.project_id = a.project_id AND t.id = a.task_id) AS task,
    (SELECT 'W-' || w.number FROM bmad_workflows w
     WHERE w.project_id = a.project_id AND w.id = a.workflow_id) AS workflow
FROM bmad_artifacts a WHERE a.project_id = bmad_project() AND a.number = $1::int
"""
IDS = """
SELECT (SELECT id FROM bmad_stories WHERE project_id = bmad_project() AND key = $1::text) AS story,
    (SELECT id FROM bmad_tasks WHERE project_id = bmad_project() AND number = $2::int) AS task,
    (SELECT id FROM bmad_workflows WHERE project_id = bmad_project() AND number = $3::int) AS workflow
"""
