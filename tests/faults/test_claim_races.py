"""Many callers after one task: exactly one gets it, each time."""

import asyncio

import pytest
from harness import TestWorkspace

from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import open_pool
from bmad_mcp.operation import perform

CALLERS, POOLS = 64, 8


@pytest.fixture
async def callers(workspace, database):
    """Workspaces of one project on pools of their own, as eight servers have them."""
    pools = [await open_pool(**database.app) for _ in range(POOLS)]
    opened = workspace.opened
    yield [TestWorkspace(OpenProject(opened.id, opened.key, pools[number % POOLS])) for number in range(CALLERS)]
    for pool in pools:
        await pool.close()


@pytest.mark.parametrize("races", [5, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_one_of_64_gets_the_task_and_nobody_else(callers, run, races):
    for _ in range(races):
        task = (await run("task_create", title="wanted")).task.key
        claims = await asyncio.gather(
            *(
                perform(BY_NAME["task_claim"], {"agent": "dev"}, Caller(f"caller-{at}"), one)
                for at, one in enumerate(callers)
            )
        )
        won = [one for one in claims if one.task is not None]
        assert [one.task.key for one in won] == [task]
        await run("task_complete", task=task, lease=won[0].lease)
