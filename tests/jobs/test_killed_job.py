"""A process killed with kill -9 in the middle of a job, and the next one that completes it."""

import asyncio
import json
import signal
import sys

import pytest
from jobs.old_rows import add_integrations, archived, count

from bmad_mcp.jobs.job import CALLER
from bmad_mcp.jobs.known import BY_NAME
from bmad_mcp.jobs.policies import change_policies

ROWS = 300
# Small batches and a word after each, so that the kill lands between or within them.
PROCESS = """
import asyncio, json, sys
import asyncpg
from bmad_mcp.db import open_pool
from bmad_mcp.jobs import archive
from bmad_mcp.jobs.job import JobContext
from bmad_mcp.jobs.known import BY_NAME
from bmad_mcp.jobs.schedule import Schedule

compare = archive._compare
archive.archive_old.__kwdefaults__["at_once"] = 5

async def told(*arguments):
    print("batch", flush=True)
    await compare(*arguments)

archive._compare = told

async def main(app):
    context = JobContext(await open_pool(**app), None, None)
    await Schedule(context, lambda: asyncpg.connect(**app), [BY_NAME["retention"]]).run_due()

asyncio.run(main(json.loads(sys.argv[1])))
"""


async def kill_in_the_middle(jobs, batches):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, json.dumps(jobs.database.app), stdout=asyncio.subprocess.PIPE
    )
    for _ in range(batches):
        assert await process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    await process.wait()


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.soak)])
async def test_what_a_killed_process_left_is_completed_and_nothing_is_lost(jobs, kills):
    await add_integrations(jobs.opened, 400, ROWS)
    await change_policies(jobs.opened, CALLER, limits={"integrations": 90})
    retention = BY_NAME["retention"]
    for number in range(kills):
        await jobs.make_due(retention)
        await kill_in_the_middle(jobs, 1 + number % 3)
        rows, kept = await count(jobs.opened, "bmad_memory_integrations"), len(await archived(jobs.opened))
        assert rows + kept == ROWS
        assert rows > 0
    await jobs.make_due(retention)
    for _ in range(50):
        await jobs.schedule(retention).run_due()
        if (await jobs.state(retention)).ended_at:
            break
        await asyncio.sleep(0.1)
    assert (await count(jobs.opened, "bmad_memory_integrations"), len(await archived(jobs.opened))) == (0, ROWS)
