"""What the tests of syncs share."""

import asyncio
from contextlib import asynccontextmanager

import asyncpg
import pytest

from bmad_mcp.bmad_files.sync.folder_sync import FolderSync


@pytest.fixture
def synced(database):
    """Runs a sync while a block runs; gives what it told."""

    @asynccontextmanager
    async def run(workspace, folder):
        told: list[str] = []
        sync = FolderSync(workspace, folder, lambda: asyncpg.connect(**database.app), told.append)
        task = asyncio.create_task(sync.run())
        try:
            yield told
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return run
