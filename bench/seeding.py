"""Fills projects with made-up tasks by COPY, as large as is asked for, the same each time."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from bmad_mcp.db import open_pool, uuid7
from bmad_mcp.projects.open import open_project

ROLES = ("dev", "dev", "dev", "qa", "sm", "po", "pm", "architect", "analyst", "ux-expert")
STATUSES = ("completed",) * 80 + ("pending",) * 15 + ("blocked", "cancelled", "review", "blocked", "cancelled")
PRIORITIES = ("medium", "medium", "low", "high", "critical")
STORY_TASKS = 10
TASKS = ("project_id", "id", "number", "title", "description", "status", "priority", "agent", "story_id", "created_at",
         "updated_at")  # fmt: skip
TRAIL = ("project_id", "id", "at", "operation", "subject", "agent", "principal", "call_id", "detail")
STORIES = ("project_id", "id", "epic_id", "key", "epic_number", "number", "title", "status")


class MadeUp:
    """The rows of one project with so many tasks: ten to a story, and one entry in the trail for each."""

    def __init__(self, project: UUID, tasks: int, now: datetime) -> None:
        self._project, self._tasks, self._now = project, tasks, now
        self._chance = random.Random(7)  # noqa: S311
        self._epic = uuid7()
        self._stories = [uuid7() for _ in range(tasks // STORY_TASKS)]

    def epics(self) -> list[tuple[Any, ...]]:
        return [(self._project, self._epic, "1", 1, "All")]

    def stories(self) -> Iterator[tuple[Any, ...]]:
        for number, story in enumerate(self._stories, start=1):
            yield self._project, story, self._epic, f"1.{number}", 1, number, f"Story {number}", "in_progress"

    def tasks(self) -> Iterator[tuple[Any, ...]]:
        for number in range(1, self._tasks + 1):
            made = self._made(number)
            story = self._stories[(number - 1) // STORY_TASKS] if number <= len(self._stories) * STORY_TASKS else None
            yield (self._project, uuid7(), number, f"Task {number} of the sprint", "What is to be done. " * 5,
                   self._chance.choice(STATUSES), self._chance.choice(PRIORITIES), self._chance.choice(ROLES), story,
                   made, made)  # fmt: skip

    def trail(self) -> Iterator[tuple[Any, ...]]:
        detail = json.dumps({"title": "Task of the sprint"})
        for number in range(1, self._tasks + 1):
            yield (self._project, uuid7(), self._made(number), "task_create", f"task T-{number}", "dev", "local", "seed",
                   detail)  # fmt: skip

    def _made(self, number: int) -> datetime:
        """Tasks were made one after the other in the last twenty days."""
        return self._now - timedelta(days=20 * (1 - number / (self._tasks + 1)))


async def seeded(app: dict[str, Any], admin: dict[str, Any], projects: dict[str, int]) -> dict[str, UUID]:
    """Make the projects, each with so many tasks, and let the planner know; their ids.

    Takes asyncpg.connect arguments of the app's role and of a superuser. A server that opens one of them adds the built-in definitions.
    """
    ids: dict[str, UUID] = {}
    pool = await open_pool(**app)
    try:
        for key in projects:
            async with pool.acquire() as connection:
                ids[key], _ = await open_project(connection, key, key)
    finally:
        await pool.close()
    filling = await asyncpg.connect(**admin)
    try:
        for key, tasks in projects.items():
            await _fill(filling, ids[key], tasks)
        # As autovacuum and the checkpointer do within minutes after so many rows came.
        await filling.execute("VACUUM ANALYZE", timeout=3600)
        await filling.execute("CHECKPOINT", timeout=3600)
    finally:
        await filling.close()
    return ids


async def _fill(admin: asyncpg.Connection, project: UUID, tasks: int) -> None:
    if not tasks:
        return
    rows = MadeUp(project, tasks, datetime.now(UTC))
    for table, columns, records in (
        ("bmad_epics", ("project_id", "id", "key", "number", "title"), rows.epics()),
        ("bmad_stories", STORIES, rows.stories()),
        ("bmad_tasks", TASKS, rows.tasks()),
        ("bmad_agent_activity", TRAIL, rows.trail()),
    ):
        # Foreign keys hold by construction, and checking a million of them is most of the time.
        async with admin.transaction():
            await admin.execute("SET LOCAL session_replication_role = replica")
            await admin.copy_records_to_table(table, records=records, columns=columns, timeout=3600)
    await admin.execute("INSERT INTO mcp_counters (project_id, kind, value) VALUES ($1, 'task', $2)", project, tasks)
