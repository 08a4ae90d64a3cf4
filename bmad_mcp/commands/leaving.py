"""What a server over stdio does last: the sessions of its only client end with it."""

import asyncio
import logging

from bmad_mcp.agents.ending import end_sessions_of
from bmad_mcp.app import ProjectWorkspace
from bmad_mcp.call import Caller

logger = logging.getLogger("bmad_mcp.commands")

# Hosts wait two seconds for the end of a process, and its connections are to be closed in them, too.
LEAVING_SECONDS = 1.0


async def leave(workspace: ProjectWorkspace, caller: Caller) -> None:
    """End the caller's sessions, within a second; nothing where the project was never opened, or may not be written.

    A database that does not answer in time is left without a word: the job `sessions` ends them later.
    """
    opened = workspace.ready
    if opened is None or workspace.settings.read_only:
        return
    ending = asyncio.create_task(end_sessions_of(opened, caller))
    await asyncio.wait({ending}, timeout=LEAVING_SECONDS)
    if not ending.done():
        opened.pool.terminate()
        ending.cancel()
        ending.add_done_callback(_unheard)
    elif (error := ending.exception()) is not None:
        logger.warning("The sessions of this client stay open for now: %s", type(error).__name__)


def _unheard(ending: asyncio.Task[int]) -> None:
    if not ending.cancelled():
        ending.exception()
