"""A server hears at once when a token is revoked or a role is changed, whichever process did it."""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, nullcontext

from bmad_mcp.app import ProjectWorkspace
from bmad_mcp.commands.beside import beside
from bmad_mcp.db import DATABASE_FAILURES
from bmad_mcp.errors import BmadError
from bmad_mcp.identity.access_changes import CHANNEL, AccessChanges

logger = logging.getLogger("bmad_mcp.identity")

AGAIN_SECONDS = 5.0


def hearing_of_access(workspace: ProjectWorkspace, changes: AccessChanges | None) -> AbstractAsyncContextManager[None]:
    """Tell these changes what the database tells while the block runs; nothing where nobody asks for them."""
    return nullcontext() if changes is None else beside(_hear_again_and_again(workspace, changes))


async def _hear_again_and_again(workspace: ProjectWorkspace, changes: AccessChanges) -> None:
    while True:
        try:
            await workspace.project()
            await _hear(workspace, changes)
        except (BmadError, *DATABASE_FAILURES) as error:
            # What is remembered grows old by itself meanwhile, within seconds.
            logger.info("Changes of access are not heard of: %s", type(error).__name__)
        await asyncio.sleep(AGAIN_SECONDS)


async def _hear(workspace: ProjectWorkspace, changes: AccessChanges) -> None:
    connection = await workspace.database.open_listener()
    try:
        is_lost = asyncio.Event()
        connection.add_termination_listener(lambda _: is_lost.set())
        await connection.add_listener(CHANNEL, lambda *_: changes.tell())
        # Nobody heard what was told before.
        changes.tell()
        await is_lost.wait()
    finally:
        connection.terminate()
