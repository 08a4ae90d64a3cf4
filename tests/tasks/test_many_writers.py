"""Many writers of the same few tasks, each on a connection of its own: no update is lost, and no deadlock is told."""

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from harness import TestWorkspace

from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import POOL_SIZE, open_pool
from bmad_mcp.errors import BmadError, VersionConflict
from bmad_mcp.operation import perform

# Tasks that all edit, and as many again that are linked with each other and with these.
SHARED = 4
LINES = """
SELECT 'T-' || t.number AS key, t.version, count(a.id) AS lines FROM bmad_tasks t JOIN bmad_agent_activity a
    ON a.project_id = t.project_id AND a.subject = 'task T-' || t.number
WHERE t.project_id = bmad_project() AND t.number <= $1 GROUP BY t.number, t.version ORDER BY t.number
"""


class Writer:
    """Edits the shared tasks by version, and in between makes, links, cancels, claims and completes tasks."""

    def __init__(self, number: int, home: TestWorkspace, told: Counter[str]) -> None:
        self._random = random.Random(number)
        self._home = home
        self._told = told
        self.acknowledged: list[tuple[str, int]] = []

    async def _ask(self, name, /, **arguments):
        return await perform(BY_NAME[name], arguments, Caller(), self._home)

    async def work(self, edits: int) -> None:
        """Until so many edits were acknowledged."""
        while len(self.acknowledged) < edits:
            await self._edit(f"T-{self._random.randint(1, SHARED)}")
            if self._random.random() < 0.2:
                await self._entangle([f"T-{number}" for number in self._random.sample(range(1, 2 * SHARED + 1), 3)])

    async def _edit(self, key: str) -> None:
        version = (await self._ask("task_get", task=key)).task.version
        try:
            answer = await self._ask("task_update", task=key, expected_version=version, priority="high")
        except VersionConflict as refused:
            self._told[refused.code] += 1
        except BmadError as refused:
            # Somebody may hold it.
            if refused.code != "lease_lost":
                raise
            self._told[refused.code] += 1
        else:
            self.acknowledged.append((key, answer.task.version))

    async def _entangle(self, some: list[str]) -> None:
        """Change several rows at once, in any order of them."""
        linked = f"T-{SHARED + self._random.randint(1, SHARED)}"
        try:
            match self._random.randrange(4):
                case 0:
                    await self._ask("task_create", title="More", depends_on=some)
                case 1:
                    await self._ask("task_update", task=linked, depends_on=[one for one in some if one != linked])
                case 2:
                    await self._ask("task_update", task=linked, status="cancelled")
                    await self._ask("task_update", task=linked, status="pending")
                case _:
                    claim = await self._ask("task_claim", agent="dev")
                    if claim.task is None:
                        return
                    if int(claim.task.key[2:]) > 2 * SHARED:
                        await self._ask("task_complete", task=claim.task.key, lease=claim.lease)
                    else:
                        await self._ask("task_update", task=claim.task.key, lease=claim.lease, status="pending")
        except BmadError as refused:
            if "at once" in refused.message:
                raise
            self._told[refused.code] += 1
            return
        self._told["entangled"] += 1


@pytest.mark.parametrize(("writers", "edits"), [(10, 6), pytest.param(50, 60, marks=pytest.mark.soak)])
async def test_many_writers_lose_no_update_and_see_no_deadlock(database, workspace, run, writers, edits):
    opened, told = workspace.opened, Counter()
    for number in range(2 * SHARED):
        await run("task_create", title=f"Shared {number}")
    async with AsyncExitStack() as stack:
        homes = []
        for _ in range(writers // POOL_SIZE):
            pool = await open_pool(**database.app)
            stack.push_async_callback(pool.close)
            homes.append(TestWorkspace(OpenProject(opened.id, opened.key, pool)))
        all_of_them = [Writer(number, homes[number % len(homes)], told) for number in range(writers)]
        await asyncio.gather(*(one.work(edits) for one in all_of_them))
    acknowledged = [edit for one in all_of_them for edit in one.acknowledged]
    assert len(acknowledged) >= writers * edits
    assert len(set(acknowledged)) == len(acknowledged), "two were told the same version: one of them is lost"
    async with opened.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('app.project', $1, true)", str(opened.id))
        for key, version, lines in await connection.fetch(LINES, SHARED):
            assert version == lines, f"{key}: each change has one line and one version"
            assert version >= max(told_of for edited, told_of in acknowledged if edited == key)
        assert await connection.fetch("SELECT * FROM bmad_miscounts()") == []
    print(f"{writers} writers: {len(acknowledged)} edits acknowledged, 0 lost; {dict(told)}")
    assert told["entangled"] > writers / 4
    assert told["version_conflict"] > writers / 4
