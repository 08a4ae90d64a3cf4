"""The checks of `doctor` for scheduled jobs: which fail and why, and whether the trail has its months to come."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg

from bmad_mcp.commands.finding import Finding
from bmad_mcp.jobs import queries
from bmad_mcp.jobs.known import JOBS
from bmad_mcp.jobs.partitions import OWNER
from bmad_mcp.memory.elapsed import in_words
from bmad_mcp.settings import Settings

MOST_TOLD = 5


async def check_jobs(connection: asyncpg.Connection, settings: Settings) -> AsyncIterator[Finding]:
    """The jobs of the project and of the database."""
    names, of_database = [job.name for job in JOBS], [job.is_of_database for job in JOBS]
    async with connection.transaction(readonly=True):
        await connection.execute(queries.SEE_ALL)
        rows = await connection.fetch(queries.ALL, names, of_database, settings.project)
        missing = await connection.fetch(queries.MISSING_PARTITIONS, 1)
    failing = [row for row in rows if row["failures"]]
    for row in failing[:MOST_TOLD]:
        whose = f" of {row['key']}" if row["key"] else ""
        times = "once" if row["failures"] == 1 else f"{row['failures']:,} times"
        mend = f"Mend the reason; it is tried again by itself, or now with: bmad-mcp jobs run {row['name']}"
        yield Finding("warn", "Jobs", f"{row['name']}{whose} failed {times}: {row['error']}", mend)
    if not failing:
        ended = [row["ended_at"] for row in rows if row["ended_at"]]
        told = "none ran yet; a server runs them" if not ended else f"none fails; the last ran {_ago(max(ended))}"
        yield Finding("ok", "Jobs", told)
    if missing:
        text = f"the trail has no partition for {missing[0]['month']}; its rows would stay in the one for all others"
        mend = "Run: bmad-mcp jobs run partitions" if settings.database_url is None else OWNER
        yield Finding("warn", "Partitions", text, mend)


def _ago(moment: datetime) -> str:
    return f"{in_words((datetime.now(UTC) - moment).total_seconds()) or 'a moment'} ago"
