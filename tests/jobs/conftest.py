"""A database of its own with several projects, and the jobs of a process on it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from harness import TestDatabase, new_project, scratch

from bmad_mcp.call import OpenProject
from bmad_mcp.database import upgrade
from bmad_mcp.db import open_pool
from bmad_mcp.jobs.job import Job, JobContext
from bmad_mcp.jobs.known import BY_NAME
from bmad_mcp.jobs.schedule import Ran, Schedule, State, Unit, schedule_transaction, states

LONG_AGO = datetime.now(UTC) - timedelta(days=400)


@pytest.fixture(scope="module")
def jobs_database(cluster: TestDatabase) -> Iterator[TestDatabase]:
    """Not the one that all tests share: jobs go over every project that there is."""
    with scratch(cluster) as found:
        found.migrate()
        yield found


@dataclass
class Jobs:
    """One process's view of the schedule, and short ways to fill and read a project."""

    database: TestDatabase
    opened: OpenProject
    context: JobContext
    other: OpenProject
    connections: list[asyncpg.Connection] = field(default_factory=list)

    async def connect(self) -> asyncpg.Connection:
        connection = await asyncpg.connect(**self.database.app)
        self.connections.append(connection)
        return connection

    def schedule(self, *jobs: Job, **more: Any) -> Schedule:
        return Schedule(self.context, self.connect, jobs, **more)

    async def run(self, name: str, opened: OpenProject | None = None) -> Ran:
        """Run a real job now."""
        job, opened = BY_NAME[name], opened or self.opened
        unit = Unit(job, UUID(int=0), None) if job.is_of_database else Unit(job, opened.id, opened.key)
        ran = await self.schedule(job).run_now(unit)
        assert ran is not None
        return ran

    async def state(self, job: Job, opened: OpenProject | None = None) -> State:
        (found,) = await states(self.context.pool, [job], (opened or self.opened).key)
        return found

    async def make_due(self, job: Job) -> None:
        async with schedule_transaction(self.context.pool) as connection:
            await connection.execute("UPDATE mcp_jobs SET next_run = now() WHERE name = $1", job.name)


@pytest.fixture
async def jobs(jobs_database: TestDatabase) -> AsyncIterator[Jobs]:
    pool = await open_pool(**jobs_database.app)

    @asynccontextmanager
    async def open_owner() -> AsyncIterator[asyncpg.Pool]:
        owner = await open_pool(**jobs_database.owner)
        yield owner
        await owner.close()

    async def upgrade_schema() -> None:
        await upgrade(jobs_database.owner)

    context = JobContext(pool, open_owner, upgrade_schema, None, "here")
    opened, other = await new_project(pool), await new_project(pool)
    yield Jobs(jobs_database, opened, context, other)
    await pool.close()


@pytest.fixture
def without_owner(jobs: Jobs) -> Jobs:
    """The same in a process that knows the role of the app only."""

    @asynccontextmanager
    async def open_app() -> AsyncIterator[asyncpg.Pool]:
        yield jobs.context.pool

    return replace(jobs, context=replace(jobs.context, open_owner=open_app))
