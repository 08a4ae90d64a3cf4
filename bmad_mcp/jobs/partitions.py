"""The job `partitions`: makes the trail's months to come before anything is written in them."""

from bmad_mcp.call import OpenProject
from bmad_mcp.errors import Unavailable
from bmad_mcp.jobs import queries
from bmad_mcp.jobs.job import JobContext, Outcome

# As far as an upgrade makes them.
MONTHS_AHEAD = 3
OWNER = "Run `bmad-mcp db upgrade` with BMAD_DATABASE_URL of the schema's owner."


async def make_partitions(_: OpenProject, context: JobContext) -> Outcome:
    """Make the months that are missing, as the schema's owner; {"until": the last month that there is}.

    Raises Unavailable when this or the next month is missing and this process may not make it.
    """
    missing = await _missing(context)
    if missing:
        async with context.open_owner() as owner:
            is_owner = await owner.fetchval(queries.IS_OWNER)
        if is_owner:
            await context.upgrade()
        elif await _missing(context, months=1):
            raise Unavailable(f"The trail has no partition for {missing[0]}, and only its owner can make it. {OWNER}")
    return {"until": await context.pool.fetchval(queries.NEWEST_PARTITION, MONTHS_AHEAD)}


async def _missing(context: JobContext, months: int = MONTHS_AHEAD) -> list[str]:
    return [row["month"] for row in await context.pool.fetch(queries.MISSING_PARTITIONS, months)]
