"""Records what a task or a stage brought forth."""

from collections.abc import Sequence
from uuid import UUID

from bmad_mcp.activity.acting import ACTING_AGENT
from bmad_mcp.call import Call
from bmad_mcp.projects.counters import next_number

# A path that is known already stays as it is: the import keeps its text.
ADD_OUTPUT = f"""
INSERT INTO bmad_artifacts (project_id, number, kind, title, path, agent, task_id, story_id, workflow_id)
VALUES (bmad_project(), $1, 'output', $2, $3, coalesce($4::text, {ACTING_AGENT.format(caller="$8")}), $5, $6, $7)
ON CONFLICT (project_id, path) DO UPDATE SET agent = coalesce(excluded.agent, bmad_artifacts.agent),
    task_id = excluded.task_id, story_id = excluded.story_id, workflow_id = excluded.workflow_id, updated_at = now(),
    version = bmad_artifacts.version + 1
"""


async def add_outputs(
    call: Call,
    titles: Sequence[str],
    *,
    agent: str | None = None,
    task_id: UUID | None = None,
    story_id: UUID | None = None,
    workflow_id: UUID | None = None,
) -> None:
    """Record outputs by path or title; a title with a slash or an ending is taken as a path.

    Without `agent` they are of the one in session of the caller.
    """
    first = await next_number(call, "artifact", len(titles))
    for number, title in enumerate(titles, start=first):
        name = title.rsplit("/", 1)[-1]
        path = title if "/" in title or "." in name.strip(".") else None
        ids = task_id, story_id, workflow_id
        await call.db.execute(ADD_OUTPUT, number, name or title, path, agent, *ids, call.caller.connection)
