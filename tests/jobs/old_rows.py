"""Rows that are older than any limit, and what is left of them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from stored_rows import change, fetch

from bmad_mcp.analytics.rollup import first_id
from bmad_mcp.call import OpenProject

ADD_ACTIVITY = """
INSERT INTO bmad_agent_activity (project_id, at, id, operation, subject, agent, principal, call_id, detail)
VALUES (bmad_project(), $1, $2, 'task_create', $3, 'dev', 'local', 'c', '{"title": "A \\"title\\" with \\u2028"}')
"""
ADD_INTEGRATION = """
INSERT INTO bmad_memory_integrations (project_id, id, created_at, direction, provider, outcome, items)
VALUES (bmad_project(), $2, $1, 'recall', 'builtin', 'found', 1)
"""
ADD_MEMORY = """
INSERT INTO mcp_memories (project_id, id, created_at, text, category, author_kind, principal, delivery, attempts)
VALUES (bmad_project(), $2, $1, $3, 'TASK_COMPLETION', 'agent', $4, $5, 0)
"""
ARCHIVED = "SELECT kind, id, content FROM mcp_archive WHERE project_id = bmad_project() ORDER BY kind, id"


def old(days: float, number: int) -> tuple[datetime, UUID]:
    """A moment so long ago, and an id as it was made then."""
    moment = datetime.now(UTC) - timedelta(days=days)
    return moment, UUID(int=first_id(moment).int + number)


async def add_activity(opened: OpenProject, days: float, count: int = 1) -> None:
    for number in range(count):
        await change(opened, ADD_ACTIVITY, *old(days, number), f"task T-{days:.0f}-{number}")


async def add_integrations(opened: OpenProject, days: float, count: int = 1) -> None:
    for number in range(count):
        await change(opened, ADD_INTEGRATION, *old(days, number))


async def add_memory(
    opened: OpenProject, days: float, text: str, *, by: str = "local", delivery: str = "stored"
) -> None:
    await change(opened, ADD_MEMORY, *old(days, 0), text, by, delivery)


async def subjects(opened: OpenProject) -> list[str]:
    """Of the rows that `add_activity` wrote."""
    rows = await fetch(
        opened,
        "SELECT subject FROM bmad_agent_activity WHERE project_id = bmad_project() AND operation = 'task_create' ORDER BY at, id",
    )
    return [row["subject"] for row in rows]


async def count(opened: OpenProject, table: str) -> int:
    (row,) = await fetch(opened, f"SELECT count(*) AS rows FROM {table} WHERE project_id = bmad_project()")
    return int(row["rows"])


async def archived(opened: OpenProject) -> list[dict[str, Any]]:
    return await fetch(opened, ARCHIVED)
