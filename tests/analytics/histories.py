"""Puts histories behind the numbers: rows with moments of their own, in the transaction of a test's call."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from bmad_mcp.analytics.rollup import first_id
from bmad_mcp.call import Call

TASK = """
INSERT INTO bmad_tasks (project_id, number, title, status, agent, lease_agent, quality, created_at, started_at,
    completed_at, updated_at, open_dependencies, story_id)
VALUES (bmad_project(), (SELECT coalesce(max(number), 0) + 1 FROM bmad_tasks WHERE project_id = bmad_project()), 'x',
    $1::text::bmad_task_status, $2, $3, $4, $5, $6, $7, coalesce($8, now()), $9, $10)
RETURNING id
"""
ACTIVITY = """
INSERT INTO bmad_agent_activity (project_id, id, at, operation, subject, agent, principal, call_id, detail)
VALUES (bmad_project(), $1, $2, $3, $8, $4, $5, $6, $7)
"""
LOOK_UP = """
INSERT INTO bmad_memory_integrations (project_id, id, direction, provider, agent, outcome, items, latency_ms, created_at)
VALUES (bmad_project(), $1, 'recall', $2, $3, $4, $5, 1.5, $6)
"""
HANDOFF = """
INSERT INTO bmad_agent_collaborations (project_id, number, from_agent, to_agent, note, status, task_id, created_at,
    accepted_at)
VALUES (bmad_project(), (SELECT count(*) + 1 FROM bmad_agent_collaborations WHERE project_id = bmad_project()), $1, $2,
    'x', CASE WHEN $5::timestamptz IS NULL THEN 'offered' ELSE 'accepted' END, $3, $4, $5)
"""
STORY = """
WITH e AS (
    INSERT INTO bmad_epics (project_id, key, number, title)
    SELECT bmad_project(), n::text, n, 'x' FROM (SELECT count(*)::int + 1 AS n FROM bmad_epics
        WHERE project_id = bmad_project()) c
    RETURNING id, number
)
INSERT INTO bmad_stories (project_id, epic_id, key, epic_number, number, title, status, created_at, completed_at)
SELECT bmad_project(), e.id, e.number || '.1', e.number, 1, 'x', $1::text::bmad_story_status, $2, $3 FROM e
RETURNING id
"""
RUN = """
INSERT INTO bmad_workflows (project_id, number, type, definition, title, status, started_at, completed_at, updated_at)
VALUES (bmad_project(), (SELECT count(*) + 1 FROM bmad_workflows WHERE project_id = bmad_project()), 'custom', $1, 'x',
    $2::text::bmad_workflow_status, $3, $4, coalesce($5, now()))
RETURNING id
"""
STAGE = """
INSERT INTO bmad_workflow_stages (project_id, workflow_id, position, kind, agent, creates, status, started_at,
    completed_at)
VALUES (bmad_project(), $1, $2, 'agent', $3, $4, $5, $6, $7)
"""


def row_id(moment: datetime) -> UUID:
    """A UUIDv7 of a moment."""
    return UUID(int=first_id(moment).int | uuid4().int & ((1 << 62) - 1))


async def task(
    call: Call,
    status: str,
    created: datetime,
    started: datetime | None = None,
    completed: datetime | None = None,
    *,
    agent: str = "",
    holder: str | None = None,
    quality: int | None = None,
    updated: datetime | None = None,
    waits: int = 0,
    story: UUID | None = None,
) -> UUID:
    """A task; the id is made now, as it would be by the server."""
    values = (status, agent, holder, quality, created, started, completed, updated, waits, story)
    return await call.db.fetchval(TASK, *values)


async def change(
    call: Call,
    at: datetime,
    operation: str = "task_update",
    agent: str | None = "dev",
    principal: str = "local",
    call_id: str | None = None,
    written: datetime | None = None,
    subject: str = "x",
    **detail: Any,
) -> None:
    """A row of the trail; `written` is when its id was made."""
    values = (operation, agent, principal, call_id or uuid4().hex, detail, subject)
    await call.db.execute(ACTIVITY, row_id(written or at), at, *values)


async def complete(
    call: Call, started: datetime | None, at: datetime, holder: str | None, quality: int | None = None
) -> None:
    """A task and the row of its task_complete."""
    made = await task(call, "completed", started or at, started, at, holder=holder, quality=quality)
    number = await call.db.fetchval("SELECT number FROM bmad_tasks WHERE project_id = bmad_project() AND id = $1", made)
    rated = {} if quality is None else {"quality": quality}
    await change(call, at, "task_complete", holder, subject=f"task T-{number}", **rated)


async def look_up(
    call: Call,
    at: datetime,
    items: int,
    agent: str | None = "dev",
    provider: str = "builtin",
    outcome: str | None = None,
    written: datetime | None = None,
) -> None:
    """A look-up in the memory that gave so many memories."""
    told = outcome or ("found" if items else "nothing")
    await call.db.execute(LOOK_UP, row_id(written or at), provider, agent, told, items, at)


async def handoff(
    call: Call, from_agent: str, to_agent: str, offered: datetime, accepted: datetime | None = None, task: Any = None
) -> None:
    """A handoff, accepted or open."""
    await call.db.execute(HANDOFF, from_agent, to_agent, task, offered, accepted)


async def story(call: Call, status: str, created: datetime, done: datetime | None = None) -> UUID:
    """A story in an epic of its own."""
    return await call.db.fetchval(STORY, status, created, done)


async def workflow_run(
    call: Call,
    definition: str,
    status: str,
    started: datetime,
    completed: datetime | None = None,
    updated: datetime | None = None,
    stages: tuple[tuple[Any, ...], ...] = (),
) -> None:
    """A run with stages (position, agent, creates, status, started, completed)."""
    run = await call.db.fetchval(RUN, definition, status, started, completed, updated)
    for stage in stages:
        await call.db.execute(STAGE, run, *stage)
