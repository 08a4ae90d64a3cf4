"""Leaves a row in the trail when a write was refused because its caller may not do it."""

import logging
import time

from bmad_mcp.activity.record import RECORD
from bmad_mcp.call import Caller, Workspace
from bmad_mcp.db import DATABASE_FAILURES, project_transaction, uuid7
from bmad_mcp.errors import BmadError, Forbidden
from bmad_mcp.operation import Operation

logger = logging.getLogger("bmad_mcp.activity")

# The operation of such a row; the subject names the one that was refused.
REFUSED = "refused"
SUBJECT = "operation "
# Who asks again and again fills no table: one row a second, with how often it was until then.
EVERY_SECONDS = 1.0
MOST_REMEMBERED = 1_000


class Refusals:
    """Writes the rows of one process."""

    def __init__(self, every_seconds: float = EVERY_SECONDS) -> None:
        self._every = every_seconds
        # (principal, operation) → when its last row was written, and how many refusals since have none.
        self._last: dict[tuple[str, str], tuple[float, int]] = {}

    async def record(self, workspace: Workspace, caller: Caller, operation: Operation, error: Forbidden) -> None:
        """Add the row, in a transaction of its own; reads leave none, and a database that is away stops no answer."""
        if operation.scope == "read":
            return
        whom, now = (caller.principal, operation.name), time.monotonic()
        at, untold = self._last.get(whom, (-self._every, 0))
        if now - at < self._every:
            self._last[whom] = (at, untold + 1)
            return
        if len(self._last) >= MOST_REMEMBERED:
            self._last.clear()
        self._last[whom] = (now, 0)
        detail = {"code": error.code} | ({"earlier": untold} if untold else {})
        try:
            project = await workspace.project()
            async with project_transaction(project.pool, project.id) as db:
                subject = f"{SUBJECT}{operation.name}"
                # No agent's work, as nothing was done.
                await db.execute(RECORD, REFUSED, subject, None, caller.principal, uuid7().hex, detail, None)
        except (BmadError, *DATABASE_FAILURES) as failure:
            logger.warning("A refusal of %s is not in the trail: %s", operation.name, type(failure).__name__)


# One for the process: over whichever face somebody comes, it is the same one who asks again.
REFUSALS = Refusals()
