"""Fills projects with made-up tasks by COPY, as large as is asked for, the same each time."""

import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any
from uuid import UUID

import asyncpg

from bmad_mcp.db import open_pool, uuid7
from bmad_mcp.projects.open import open_project

ROLES = ("dev", "dev", "dev", "qa", "sm", "po", "pm", "architect", "analyst", "ux-expert")
PRIORITIES = ("medium", "medium", "low", "high", "critical")
STORY_TASKS, EPIC_STORIES = 10, 50
# Work goes through a project like a front: what lies behind is closed, and most of it is behind.
CLOSED = 0.9
# However large a project becomes, no more stories than these are before the front.
MOST_OPEN = 1_000
# Of ten stories before the front; and of the tasks of a story in each status.
FRONT = ("in_progress", "ready", "draft", "in_progress", "review", "ready", "draft", "in_progress", "ready", "draft")
TASKS_OF = {
    "done": ("completed",) * 19 + ("cancelled",),
    "cancelled": ("cancelled",),
    "review": ("completed",) * 4 + ("review",),
    "in_progress": ("completed",) * 4 + ("pending",) * 6 + ("active", "in_progress", "review", "blocked", "pending"),
    "ready": ("pending",),
    "draft": ("pending",),
}
OPEN_STORIES = ("ready", "in_progress", "review")
EPICS = ("project_id", "id", "key", "number", "title")
STORIES = ("project_id", "id", "epic_id", "key", "epic_number", "number", "title", "status")
TASKS = ("project_id", "id", "number", "title", "description", "status", "priority", "agent", "story_id",
         "open_dependencies", "story_open", "lease", "lease_agent", "lease_seconds", "lease_until", "created_at",
         "updated_at", "completed_at")  # fmt: skip
DEPENDENCIES = ("project_id", "task_id", "depends_on_id")
TRAIL = ("project_id", "id", "at", "operation", "subject", "agent", "principal", "call_id", "detail")
FILLED = ("bmad_epics", "bmad_stories", "bmad_tasks", "bmad_task_dependencies", "bmad_agent_activity")
# Below it, making the indexes anew takes longer than adding to them.
WORTH_REBUILDING = 100_000
LINES_AT_ONCE = 2_000
NULL = "\\N"


def closed_of(stories: int) -> int:
    """How many of so many stories are closed."""
    return max(int(stories * CLOSED), stories - MOST_OPEN)


class MadeUp:
    """The rows of one project with so many tasks, as lines for COPY: ten to a story, and one entry in the trail for each.

    Nine in ten stories are closed, and more of a large project. Before them some are worked on: their tasks are held, were held
    until the lease passed, wait for one another, or are ready.
    """

    def __init__(self, project: UUID, tasks: int, now: datetime) -> None:
        self._project, self._tasks, self._now = project, tasks, now
        # Ids that grow with the number, at a fraction of what a UUID of its own costs.
        self._stem = str(uuid7())[:24]
        count = tasks // STORY_TASKS
        behind = closed_of(count)
        self._stories = [
            ("cancelled" if number % 50 == 0 else "done") if number <= behind else FRONT[number % len(FRONT)]
            for number in range(1, count + 1)
        ]

    def epics(self) -> Iterator[str]:
        for number in range(1, (len(self._stories) + EPIC_STORIES - 1) // EPIC_STORIES + 1):
            yield f"{self._project}\t{self._id(0xD, number)}\t{number}\t{number}\tEpic {number}\n"

    def stories(self) -> Iterator[str]:
        for place, status in enumerate(self._stories):
            epic, number = place // EPIC_STORIES + 1, place % EPIC_STORIES + 1
            yield (
                f"{self._project}\t{self._id(0xA, place + 1)}\t{self._id(0xD, epic)}\t{epic}.{number}\t{epic}\t{number}"
                f"\tStory {place + 1}\t{status}\n"
            )

    def tasks(self) -> Iterator[str]:
        chance = random.Random(7)  # noqa: S311
        what = "What is to be done. " * 5
        held, passed = (f"{self._now + later:%Y-%m-%d %H:%M:%S}+00" for later in (timedelta(1), -timedelta(hours=1)))
        for number in range(1, self._tasks + 1):
            place = (number - 1) // STORY_TASKS
            story = self._stories[place] if place < len(self._stories) else "ready"
            of_story = self._id(0xA, place + 1) if place < len(self._stories) else NULL
            status = TASKS_OF[story][int(chance.random() * len(TASKS_OF[story]))]
            role = ROLES[int(chance.random() * len(ROLES))]
            priority = PRIORITIES[int(chance.random() * len(PRIORITIES))]
            lease = f"0\t{NULL}\t{NULL}\t{NULL}"
            if status in ("active", "in_progress", "review"):
                lease = f"1\t{role}\t900\t{held if number % 2 else passed}"
            made = self._made(number)
            done = made if status == "completed" else NULL
            yield (
                f"{self._project}\t{self._id(0xB, number)}\t{number}\tTask {number} of the sprint\t{what}\t{status}"
                f"\t{priority}\t{role}\t{of_story}\t{int(self._waits(number))}\t{story in OPEN_STORIES}\t{lease}"
                f"\t{made}\t{made}\t{done}\n"
            )

    def dependencies(self) -> Iterator[str]:
        for number in range(1, self._tasks + 1):
            if self._waits(number):
                yield f"{self._project}\t{self._id(0xB, number)}\t{self._id(0xB, number - 1)}\n"

    def trail(self) -> Iterator[str]:
        for number in range(1, self._tasks + 1):
            yield (
                f"{self._project}\t{self._id(0xC, number)}\t{self._made(number)}\ttask_create\ttask T-{number}\tdev"
                '\tlocal\tseed\t{"title": "Task of the sprint"}\n'
            )

    def _id(self, kind: int, number: int) -> str:
        return f"{self._stem}{kind:x}{number:011x}"

    def _waits(self, number: int) -> bool:
        """The last two of a story that is ready wait for the one before; the one before them is pending too."""
        place = (number - 1) // STORY_TASKS
        return place < len(self._stories) and self._stories[place] == "ready" and number % STORY_TASKS in (0, 9)

    def _made(self, number: int) -> str:
        """Tasks were made one after the other in the last twenty days."""
        seconds = 20 * 86_400 * number // (self._tasks + 1)
        return f"{self._now - timedelta(days=20) + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}+00"


def silent(_: str) -> None:
    pass


def told_with_time(what: str) -> None:
    """A line on stderr with the time."""
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {what}\n")
    sys.stderr.flush()


async def seeded(
    app: dict[str, Any], admin: dict[str, Any], projects: dict[str, int], told: Callable[[str], None] = silent
) -> dict[str, UUID]:
    """Make the projects, each with so many tasks, and let the planner know; their ids.

    Takes asyncpg.connect arguments of the app's role and of a superuser. A server that opens one of them adds the
    built-in definitions. `told` gets a line now and then.
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
        await filled(filling, {ids[key]: tasks for key, tasks in projects.items()}, told)
        # As autovacuum and the checkpointer do within minutes after so many rows came.
        told("vacuum and analyze")
        await filling.execute("VACUUM ANALYZE", timeout=3600)
        await filling.execute("CHECKPOINT", timeout=3600)
    finally:
        await filling.close()
    return ids


async def filled(admin: asyncpg.Connection, projects: dict[UUID, int], told: Callable[[str], None] = silent) -> None:
    """Copy the rows of each project; statistics stay as they are."""
    total, now = sum(projects.values()), datetime.now(UTC)
    made = [MadeUp(project, tasks, now) for project, tasks in projects.items() if tasks]
    async with admin.transaction():
        # Foreign keys hold by construction, and checking a million of them is most of the time.
        await admin.execute("SET LOCAL session_replication_role = replica; SET LOCAL synchronous_commit = off")
        rebuild: list[str] = []
        if total >= WORTH_REBUILDING:
            rebuild = await _without_indexes(admin, told)
        for table, columns, rows in (
            ("bmad_epics", EPICS, MadeUp.epics),
            ("bmad_stories", STORIES, MadeUp.stories),
            ("bmad_tasks", TASKS, MadeUp.tasks),
            ("bmad_task_dependencies", DEPENDENCIES, MadeUp.dependencies),
            ("bmad_agent_activity", TRAIL, MadeUp.trail),
        ):
            began = time.monotonic()
            lines = chain.from_iterable(_counted(made, rows, table, told))
            await admin.copy_to_table(table, source=_blocks(lines), columns=columns, timeout=7200)
            if rebuild:
                told(f"{table}: copied in {time.monotonic() - began:.0f} s")
        for statement in rebuild:
            began = time.monotonic()
            await admin.execute(statement, timeout=7200)
            if (taken := time.monotonic() - began) >= 1:
                told(f"{statement.split(' ON ')[0].lower()}: {taken:.0f} s")
        await admin.executemany(
            "INSERT INTO mcp_counters (project_id, kind, value) VALUES ($1, 'task', $2)",
            [(project, tasks) for project, tasks in projects.items() if tasks],
        )
        # No trigger saw the rows. A schema of an older release counts them each time.
        if await admin.fetchval("SELECT to_regprocedure('bmad_recount()') IS NOT NULL"):
            for project in projects:
                await admin.execute("SELECT set_config('app.project', $1, true)", str(project))
                await admin.execute("SELECT bmad_recount()", timeout=7200)


async def _without_indexes(admin: asyncpg.Connection, told: Callable[[str], None]) -> list[str]:
    """Drop what only makes reading quick; the statements that bring it back. Keys stay: rows come in their order."""
    if not await admin.fetchval("SELECT EXISTS (SELECT FROM bmad_tasks)"):
        # A table that is new in its transaction needs no log where wal_level is minimal.
        await admin.execute(f"TRUNCATE {', '.join(FILLED)} CASCADE")
    found = await admin.fetch(
        "SELECT x.indexrelid::regclass::text AS name, pg_get_indexdef(x.indexrelid) AS made FROM pg_index x"
        " JOIN pg_class i ON i.oid = x.indexrelid"
        " WHERE x.indrelid = ANY($1::text[]::regclass[]) AND NOT x.indisunique AND NOT i.relispartition",
        list(FILLED),
    )
    for row in found:
        await admin.execute(f"DROP INDEX {row['name']}")
    told(f"{len(found)} indexes are made after the rows")
    await admin.execute("SET LOCAL maintenance_work_mem = '1GB'; SET LOCAL max_parallel_maintenance_workers = 1")
    return [row["made"].replace(" ON ONLY ", " ON ") for row in found]


def _counted(
    made: list[MadeUp], rows: Callable[[MadeUp], Iterable[str]], table: str, told: Callable[[str], None]
) -> Iterator[Iterable[str]]:
    """The rows of one project after the other, with a word at each tenth."""
    for number, project in enumerate(made):
        yield rows(project)
        if len(made) >= 50 and number % (len(made) // 10) == 0 and number:
            told(f"{table}: {number} of {len(made)} projects")


async def _blocks(lines: Iterator[str]) -> AsyncIterator[bytes]:
    while block := "".join(islice(lines, LINES_AT_ONCE)):
        yield block.encode()
