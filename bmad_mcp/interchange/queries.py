"""SQL of the import of a board: what is stored of it, and one statement for all rows of a kind."""

from bmad_mcp.bmad_files.queries import Bulk
from bmad_mcp.lifecycles import EPIC, STORY, TASK

EPICS = Bulk(
    "bmad_epics",
    {
        "id": "uuid",
        "key": "text",
        "number": "int",
        "title": "text",
        "goal": "text",
        "status": "story_status",
        "extra": "jsonb",
    },
    EPIC,
    frozenset({"id", "key", "number"}),
)
STORIES = Bulk(
    "bmad_stories",
    {
        "id": "uuid",
        "epic_id": "uuid",
        "key": "text",
        "epic_number": "int",
        "number": "int",
        "title": "text",
        "priority": "bmad_task_priority",
        "acceptance": "jsonb",
        "sections": "jsonb",
        "status": "story_status",
        "extra": "jsonb",
    },
    STORY,
    frozenset({"id", "epic_id", "key", "epic_number", "number"}),
)
TASKS = Bulk(
    "bmad_tasks",
    {
        "id": "uuid",
        "number": "int",
        "title": "text",
        "description": "text",
        "priority": "bmad_task_priority",
        "status": "task_status",
        "raw_status": "text",
        "story_id": "uuid",
        "story_open": "boolean",
        "open_dependencies": "int",
        "source": "text",
        "source_ref": "text",
    },
    TASK,
    frozenset({"id", "number", "open_dependencies", "source", "source_ref"}),
)
ARTIFACTS = Bulk(
    "bmad_artifacts",
    {
        "id": "uuid",
        "number": "int",
        "kind": "text",
        "title": "text",
        "content": "text",
        "encoding": "text",
        "content_hash": "text",
        "source": "text",
    },
    fixed=frozenset({"id", "number", "source"}),
)
ADD_EPICS = EPICS.insert_sql()
CHANGE_EPICS = EPICS.update_sql()
ADD_STORIES = STORIES.insert_sql()
CHANGE_STORIES = STORIES.update_sql(
    "completed_at = CASE WHEN v.status = 'done' AND t.status <> 'done' THEN now() ELSE t.completed_at END"
)
ADD_TASKS = TASKS.insert_sql()
# A task that the board closes is held by nobody.
CHANGE_TASKS = TASKS.update_sql(
    """completed_at = CASE WHEN v.status = 'completed' AND t.status <> 'completed' THEN now()
        ELSE t.completed_at END""",
    "lease_until = CASE WHEN v.status IN ('completed', 'cancelled') THEN NULL ELSE t.lease_until END",
)
ADD_ARTIFACTS = ARTIFACTS.insert_sql()
CHANGE_ARTIFACTS = ARTIFACTS.update_sql()
REMOVE_WAITING = """
DELETE FROM bmad_task_dependencies e USING unnest($1::uuid[], $2::uuid[]) AS v(task_id, depends_on_id)
WHERE e.project_id = bmad_project() AND e.task_id = v.task_id AND e.depends_on_id = v.depends_on_id
"""

STORED_EPICS = """
SELECT id, version, key, number, title, goal, status::text AS status, extra FROM bmad_epics
WHERE project_id = bmad_project() AND id = ANY($1::uuid[])
"""
LAST_EPIC = "SELECT coalesce(max(number), 0) FROM bmad_epics WHERE project_id = bmad_project()"
LAST_STORIES = """
SELECT epic_number, max(number) AS number FROM bmad_stories
WHERE project_id = bmad_project() AND epic_number = ANY($1::int[]) GROUP BY epic_number
"""
STORED_STORIES = """
SELECT id, version, epic_id, key, title, priority::text AS priority, acceptance, sections, status::text AS status, extra
FROM bmad_stories WHERE project_id = bmad_project() AND id = ANY($1::uuid[])
"""
STORED_TASKS = """
SELECT t.id, t.version, t.number, t.title, t.description, t.priority::text AS priority, t.status::text AS status,
    t.raw_status, t.story_id::text AS story_id, t.story_open, t.lease, t.lease_agent,
    coalesce(t.lease_until > clock_timestamp(), false) AS held
FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.id = ANY($1::uuid[])
"""
STORED_WAITING = "SELECT task_id, depends_on_id FROM bmad_task_dependencies WHERE project_id = bmad_project()"
STORED_ARTIFACTS = """
SELECT id, version, kind, title, encoding, content_hash FROM bmad_artifacts
WHERE project_id = bmad_project() AND id = ANY($1::uuid[])
"""
STORED_STATE = "SELECT content FROM bmad_artifacts WHERE project_id = bmad_project() AND id = $1"
