"""The job `retention`: archives and deletes what is older than the project keeps it."""

from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from bmad_mcp.analytics.rollup import first_id, roll_up
from bmad_mcp.call import OpenProject
from bmad_mcp.errors import Unavailable
from bmad_mcp.jobs import queries
from bmad_mcp.jobs.archive import INTEGRATIONS, TRAIL, archive_memories, archive_old, remove_old
from bmad_mcp.jobs.job import CALLER, JobContext, Outcome
from bmad_mcp.jobs.policies import read_policies
from bmad_mcp.memory.retention import apply_retention


async def keep_to_limits(opened: OpenProject, context: JobContext) -> Outcome:
    """Delete what is over age, archived first; {kind: rows}. Raises Unavailable when a part of it could not be done.

    Rows that the daily metrics have not counted yet stay, whatever their age.
    """
    days = await read_policies(opened, CALLER)
    # By the clock that dated the rows; this process's may be wrong.
    now = await opened.pool.fetchval("SELECT now()")
    done: dict[str, int] = {}
    failed: list[Unavailable] = []
    if {"integrations", "activity"} & days.keys():
        reached = await roll_up(opened.pool, opened.id)
        if reached is not None:
            below = first_id(reached)
            if "integrations" in days:
                done["integrations"] = await archive_old(
                    opened, "integrations", INTEGRATIONS, now - timedelta(days["integrations"]), below
                )
            if "activity" in days:
                try:
                    done["activity"] = await _archive_trail(opened, context, now - timedelta(days["activity"]), below)
                except Unavailable as error:
                    failed.append(error)
    try:
        erased = await apply_retention(opened, CALLER, now=now, archive=partial(archive_memories, opened))
        done["memories"] = erased.count
    except Unavailable as error:
        failed.append(error)
    if "archive" in days:
        done["archive"] = await remove_old(opened, now - timedelta(days["archive"]))
    if failed:
        raise Unavailable(" ".join(error.message for error in failed))
    return {kind: count for kind, count in done.items() if count}


async def _archive_trail(opened: OpenProject, context: JobContext, before: datetime, below: UUID) -> int:
    async with context.open_owner() as owner:
        if not await owner.fetchval(queries.IS_OWNER):
            raise Unavailable(
                "Only the owner of the schema can take old rows out of the trail; they stay. Run"
                f" `bmad-mcp jobs run retention --project {opened.key}` with BMAD_DATABASE_URL of the owner, or keep them:"
                f" `bmad-mcp jobs retention --clear activity --project {opened.key}`."
            )
        return await archive_old(OpenProject(opened.id, opened.key, owner), "activity", TRAIL, before, below)
