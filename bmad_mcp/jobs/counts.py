"""The job `recount`: compares the counts that triggers keep with the rows, and mends them.

They differ when rows came in without triggers, as a restore or a replication may bring them.
"""

import logging

from bmad_mcp.call import OpenProject
from bmad_mcp.db import project_transaction
from bmad_mcp.jobs import queries
from bmad_mcp.jobs.job import JobContext, Outcome

logger = logging.getLogger("bmad_mcp.jobs")


async def recount(opened: OpenProject, _: JobContext) -> Outcome:
    """Mend the counts that are wrong; {"mended": how many}, and nothing when none was."""
    async with project_transaction(opened.pool, opened.id) as db:
        mended: int = await db.fetchval(queries.RECOUNT)
    if mended:
        logger.warning("Kept counts of project %s differed from its rows; mended: %d", opened.key, mended)
    return {"mended": mended} if mended else {}
