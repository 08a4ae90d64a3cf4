"""The delivery of memories that runs beside a server, while there is a memory service."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

from bmad_mcp.app import ProjectWorkspace
from bmad_mcp.commands.beside import beside
from bmad_mcp.db import DATABASE_FAILURES
from bmad_mcp.errors import BmadError

logger = logging.getLogger("bmad_mcp.memory")

# The start belongs to the assistant; memories can wait.
FIRST_LOOK_SECONDS = 1.0
NEXT_LOOK_SECONDS = 60.0


@asynccontextmanager
async def delivering(workspace: ProjectWorkspace, *, may_write: bool = True) -> AsyncIterator[None]:
    """Deliver memories to the service while the block runs; nothing where the built-in memory serves alone."""
    if workspace.settings.memory_provider == "builtin" or not may_write:
        yield
        return
    # What is on its way at the end stays in the queue, and its key is looked up by whoever sends it next.
    async with beside(_deliver(workspace)):
        yield


async def _deliver(workspace: ProjectWorkspace) -> None:
    await asyncio.sleep(FIRST_LOOK_SECONDS)
    while True:
        try:
            opened = await workspace.project()
            if opened.services is None:
                return
            choice = await opened.services.choice()
            if choice.provider != "builtin":
                logger.info("Memories go to %s: %s", choice.provider, choice.why)
                # The job queue's library costs a quarter of a second, which only those pay who have a service.
                worker = import_module("bmad_mcp.memory.delivery_worker")
                await worker.deliver_for(opened, workspace.database.open_listener)
        except (BmadError, *DATABASE_FAILURES) as error:
            logger.warning("The delivery of memories waits: %s", error)
        await asyncio.sleep(NEXT_LOOK_SECONDS)
