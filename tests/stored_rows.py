"""Looks into the database behind the tools: single rows, and everything that a project has."""

from typing import Any

from bmad_mcp.call import OpenProject
from bmad_mcp.db import Transaction

TABLES = (
    "bmad_agents",
    "bmad_agent_sessions",
    "bmad_agent_activity",
    "bmad_agent_collaborations",
    "bmad_workflows",
    "bmad_workflow_stages",
    "bmad_tasks",
    "bmad_task_dependencies",
    "bmad_epics",
    "bmad_stories",
    "bmad_checklists",
    "bmad_templates",
    "bmad_artifacts",
    "mcp_memories",
    "mcp_counters",
)


async def fetch(opened: OpenProject, sql: str, *values: Any) -> list[dict[str, Any]]:
    """The rows of a query in the project's scope."""
    db = Transaction(opened.pool, opened.id)
    try:
        return [dict(row) for row in await db.fetch(sql, *values)]
    finally:
        await db.end("ROLLBACK")


async def change(opened: OpenProject, sql: str, *values: Any) -> None:
    """Run a statement in the project's scope and commit it."""
    db = Transaction(opened.pool, opened.id)
    await db.execute(sql, *values)
    await db.end("COMMIT")


async def dump(opened: OpenProject) -> dict[str, list[Any]]:
    """Every row of the project with every column, versions and times included."""
    found = {
        table: [
            row["row"]
            for row in await fetch(
                opened,
                f"SELECT to_jsonb(t) AS row FROM {table} t WHERE t.project_id = bmad_project() ORDER BY to_jsonb(t)::text",
            )
        ]
        for table in TABLES
    }
    found["bmad_projects"] = await fetch(opened, "SELECT to_jsonb(p) AS row FROM bmad_projects p")
    return found


async def story(opened: OpenProject, key: str) -> dict[str, Any]:
    """A story's row."""
    (found,) = await fetch(
        opened, "SELECT s.*, s.status::text FROM bmad_stories s WHERE project_id = bmad_project() AND key = $1", key
    )
    return found


async def tasks(opened: OpenProject, key: str) -> list[dict[str, Any]]:
    """The tasks of a story, in order of their numbers."""
    return await fetch(
        opened,
        "SELECT t.*, t.status::text, 'T-' || t.number AS key FROM bmad_tasks t JOIN bmad_stories s"
        " ON s.project_id = t.project_id AND s.id = t.story_id"
        " WHERE t.project_id = bmad_project() AND s.key = $1 ORDER BY t.number",
        key,
    )
