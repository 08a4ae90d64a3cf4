"""A browser for the tests of a file, and a project with the sample in it.

Starting a browser takes a second, so a file's tests share one, and with it one event loop: `pytestmark = IN_ONE_LOOP`.
"""

import pytest_asyncio
from chromium import browsing
from harness import TestWorkspace, new_project

from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.db import open_pool
from bmad_mcp.sample import FOLDER


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium():
    async with browsing() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def browser(chromium):
    """The browser; what a test opened in it is closed after the test."""
    yield chromium
    for context in chromium.contexts:
        await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def pool(database):
    pool = await open_pool(**database.app)
    yield pool
    await pool.close()


@pytest_asyncio.fixture(loop_scope="module")
async def workspace(pool, database):
    """A project whose calls commit."""
    return TestWorkspace(await new_project(pool), database.app)


@pytest_asyncio.fixture(loop_scope="module")
async def sample(workspace):
    """The workspace of a project that holds the sample project."""
    await import_folder(workspace.opened, FOLDER)
    return workspace
