"""What the tests of imports, exports and syncs share."""

import asyncio
from contextlib import asynccontextmanager

import asyncpg
import pytest
from bmad_installs import add_v4_docs, add_v6_docs

from bmad_mcp.bmad_files.sync.folder_sync import FolderSync


@pytest.fixture
def opened(workspace):
    return workspace.opened


@pytest.fixture
def folder(tmp_path):
    """A project without an installation: documents only."""
    return add_v4_docs(tmp_path / "shop")


@pytest.fixture
def v6_folder(tmp_path):
    return add_v6_docs(tmp_path / "shop6")


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
