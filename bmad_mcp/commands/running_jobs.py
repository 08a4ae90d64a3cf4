"""The scheduled jobs that run beside a server, and what jobs need of this process."""

import asyncio
import hashlib
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING

import asyncpg

from bmad_mcp.app import ProjectWorkspace
from bmad_mcp.call import OpenProject
from bmad_mcp.commands.beside import beside
from bmad_mcp.database import Database, upgrade
from bmad_mcp.db import DATABASE_FAILURES, open_pool
from bmad_mcp.encryption.vaults import Vaults
from bmad_mcp.errors import BmadError
from bmad_mcp.settings import Settings

if TYPE_CHECKING:
    from bmad_mcp.jobs.job import JobContext
    from bmad_mcp.memory.embedder import Embedder
    from bmad_mcp.memory.services.choosing import MemoryServices

logger = logging.getLogger("bmad_mcp.jobs")

# The start belongs to the assistant, and many servers live for less than that.
FIRST_LOOK_SECONDS = 20.0
NEXT_LOOK_SECONDS = 60.0


def running_jobs(workspace: ProjectWorkspace, *, may_write: bool = True) -> AbstractAsyncContextManager[None]:
    """Run what is due, of all projects of the database, while the block runs; nothing where nobody may write."""
    return beside(_look_again_and_again(workspace)) if may_write else nullcontext()


async def _look_again_and_again(workspace: ProjectWorkspace) -> None:
    await asyncio.sleep(FIRST_LOOK_SECONDS)
    while True:
        try:
            await run_due_jobs(workspace.database, await workspace.project())
        except (BmadError, *DATABASE_FAILURES) as error:
            logger.warning("The jobs wait: %s", error)
        # Processes that were started together do not look together.
        await asyncio.sleep(NEXT_LOOK_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311


async def run_due_jobs(database: Database, opened: OpenProject) -> None:
    """Run what is due and what this process can run, on connections of their own."""
    known, schedule = import_module("bmad_mcp.jobs.known"), import_module("bmad_mcp.jobs.schedule")
    jobs = [job for job in known.JOBS if await job.can_run(opened)]
    if await schedule.due(opened.pool, jobs):
        async with job_context(database, opened.services, opened.embedder) as context:
            await schedule.Schedule(context, database.open_listener, jobs).run_due()
    if opened.services is not None:
        meaning = import_module("bmad_mcp.jobs.meaning")
        await meaning.adopt_meaning(opened.pool, opened.services, _service(database.settings))


@asynccontextmanager
async def job_context(
    database: Database, services: "MemoryServices | None", embedder: "Embedder | None"
) -> AsyncIterator["JobContext"]:
    """What the jobs of this process work with; raises Unavailable when the database does not answer."""
    job = import_module("bmad_mcp.jobs.job")

    @asynccontextmanager
    async def open_owner() -> AsyncIterator[asyncpg.Pool]:
        async with _closed(await open_pool(**(await database.connections()).owner)) as pool:
            yield pool

    async def upgrade_schema() -> None:
        await upgrade((await database.connections()).owner)

    async with _closed(await database.open_pool()) as pool:
        vaults = Vaults(database.settings.read_master_keys)
        service = _service(database.settings)
        yield job.JobContext(pool, open_owner, upgrade_schema, services, service, embedder, vaults)


@asynccontextmanager
async def _closed(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Pool]:
    try:
        yield pool
    except BaseException:
        # What was broken off need not say goodbye.
        pool.terminate()
        raise
    await pool.close()


def _service(settings: Settings) -> str:
    """A word for the memory service of the settings that does not tell its address."""
    return hashlib.sha256(f"{settings.memory_url} {settings.memory_user}".encode()).hexdigest()[:16]
