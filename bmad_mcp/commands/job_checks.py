"""The checks of `doctor` for scheduled jobs: which fail and why, and whether the trail has its months to come."""

from collections.abc import AsyncIterator

import asyncpg

from bmad_mcp.commands.finding import Finding
from bmad_mcp.jobs import queries
from bmad_mcp.jobs.known import JOBS
from bmad_mcp.jobs.partitions import OWNER
from bmad_mcp.jobs.schedule import read_states
from bmad_mcp.memory.elapsed import ago
from bmad_mcp.settings import Settings
from bmad_mcp.told_commands import in_project

MOST_TOLD = 5


async def check_jobs(connection: asyncpg.Connection, settings: Settings) -> AsyncIterator[Finding]:
    """The jobs of the project and of the database."""
    async with connection.transaction(readonly=True):
        await connection.execute(queries.SEE_ALL)
        found = await read_states(connection, JOBS, settings.project)
        missing = await connection.fetch(queries.MISSING_PARTITIONS, 1)
    failing = [one for one in found if one.failures]
    for one in failing[:MOST_TOLD]:
        run = in_project(f"jobs run {one.unit.job.name}", settings.project)
        times = "once" if one.failures == 1 else f"{one.failures:,} times"
        mend = f"Mend the reason; it is tried again by itself, or now with: {run}"
        yield Finding("warn", "Jobs", f"{one.unit.name} failed {times}: {one.error}", mend)
    if not failing:
        ended = [one.ended_at for one in found if one.ended_at]
        told = "none ran yet; a server runs them" if not ended else f"none fails; the last ran {ago(max(ended))}"
        yield Finding("ok", "Jobs", told)
    if missing:
        text = f"the trail has no partition for {missing[0]['month']}; its rows would stay in the one for all others"
        mend = "Run: bmad-mcp jobs run partitions" if settings.database_url is None else OWNER
        yield Finding("warn", "Partitions", text, mend)
