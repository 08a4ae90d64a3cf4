"""Records what a task or a stage brought forth."""

from collections.abc import Sequence
from uuid import UUID

from bmad_mcp.call import Call
from bmad_mcp.projects.counters import next_number

# A path that is known already stays as it is: the import keeps its text.
ADD_OUTPUT = """
INSERT INTO bmad_artifacts (project_id, number, kind, title, path, agent, task_id, story_id, workflow_id)
VALUES (bmad_project(), $1, 'output', $2, $3, $4, $5, $6, $7)
ON CONFLICT (project_id, path) DO UPDATE SET agent = excluded.agent, task_id = excluded.task_id,
    story_id = excluded.story_id, workflow_id = excluded.workflow_id, updated_at = now(),
    version = bmad_artifacts.version + 1
"""


async def add_outputs(
    call: Call,
    titles: Sequence[str],
    *,
    agent: str | None,
    task_id: UUID | None = None,
    story_id: UUID | None = None,
    workflow_id: UUID | None = None,
) -> None:
    """Record outputs by path or title; a title with a slash or an ending is taken as a path."""
    first = await next_number(call, "artifact", len(titles))
    for number, title in enumerate(titles, start=first):
        name = title.rsplit("/", 1)[-1]
        path = title if "/" in title or "." in name.strip(".") else None
        await call.db.execute(ADD_OUTPUT, number, name or title, path, agent, task_id, story_id, workflow_id)
