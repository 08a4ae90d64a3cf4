"""Runs jobs when they are due: one process of all runs a job at a time, and what failed is tried again later."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from bmad_mcp.call import OpenProject
from bmad_mcp.db import DATABASE_FAILURES
from bmad_mcp.errors import BmadError
from bmad_mcp.jobs import queries
from bmad_mcp.jobs.job import Job, JobContext, Outcome
from bmad_mcp.telemetry import events

logger = logging.getLogger("bmad_mcp.jobs")

# A job that takes longer hangs; what it did until then stays done.
LONGEST_SECONDS = 900.0
HEARTBEAT_SECONDS = 30.0
# A process that does not beat for so long has frozen, and loses its lock.
FROZEN_SECONDS = 300
GIVE_BACK_SECONDS = 0.5
MOST_ERROR_CHARACTERS = 500
LOST = "the connection that holds the job's lock was lost"
INTERRUPTED = "The process that ran it ended before the job did."

Connect = Callable[[], Awaitable[asyncpg.Connection]]


@dataclass(frozen=True, slots=True)
class Unit:
    """A job of one project, or of the whole database; then the key is None."""

    job: Job
    project_id: UUID
    key: str | None

    @property
    def name(self) -> str:
        """For people: the job, and whose it is."""
        return self.job.name if self.key is None else f"{self.job.name} of {self.key}"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run went: what it did, or the sentence of its failure."""

    unit: Unit
    outcome: Outcome
    error: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a unit: `next_run` is None before the first time, `error` the last failure that still counts."""

    unit: Unit
    next_run: datetime | None
    ended_at: datetime | None
    seconds: float | None
    failures: int
    error: str | None
    result: Outcome
    is_running: bool


@asynccontextmanager
async def schedule_transaction(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """A transaction that sees the schedule, and which projects there are; of the projects' own rows it sees none."""
    async with pool.acquire(timeout=10) as connection, connection.transaction():
        await connection.execute(queries.SEE_ALL)
        yield connection


async def due(pool: asyncpg.Pool, jobs: Sequence[Job]) -> list[Unit]:
    """Which of these jobs are due, the longest waiting first."""
    async with schedule_transaction(pool) as connection:
        return _units(await connection.fetch(queries.DUE, *_named(jobs)), jobs)


async def states(pool: asyncpg.Pool, jobs: Sequence[Job], key: str | None = None) -> list[State]:
    """Every job of this project and of the database; of all projects without a key."""
    async with schedule_transaction(pool) as connection:
        return await read_states(connection, jobs, key)


async def read_states(connection: asyncpg.Connection, jobs: Sequence[Job], key: str | None = None) -> list[State]:
    """The same in a transaction that sees the schedule."""
    rows = await connection.fetch(queries.ALL, *_named(jobs), key)
    return [
        State(
            unit,
            row["next_run"],
            row["ended_at"],
            row["seconds"],
            row["failures"],
            row["error"] if row["failures"] else None,
            row["result"],
            row["is_running"],
        )
        for unit, row in zip(_units(rows, jobs), rows, strict=True)
    ]


def _named(jobs: Sequence[Job]) -> tuple[list[str], list[bool]]:
    return [job.name for job in jobs], [job.is_of_database for job in jobs]


def _units(rows: Sequence[Any], jobs: Sequence[Job]) -> list[Unit]:
    by_name = {job.name: job for job in jobs}
    return [Unit(by_name[row["name"]], row["project_id"], row["key"]) for row in rows]


class Schedule:
    """The jobs of one process; any number of processes may have one on the same database."""

    def __init__(
        self,
        context: JobContext,
        connect: Connect,
        jobs: Sequence[Job],
        *,
        longest_seconds: float = LONGEST_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        """`connect` opens a connection of its own, past any transaction pooler: it holds a session's lock."""
        self._context = context
        self._connect = connect
        self._jobs = jobs
        self._longest = longest_seconds
        self._heartbeat = heartbeat_seconds

    async def run_due(self) -> list[Ran]:
        """Run what is due and what nobody else runs, one after the other. Failures are kept, not raised."""
        units = await due(self._context.pool, self._jobs)
        if not units:
            return []
        async with self._locks() as locks:
            found = [await self._run_alone(unit, locks, is_asked=False) for unit in units]
        return [ran for ran in found if ran is not None]

    async def run_now(self, unit: Unit) -> Ran | None:
        """Run it now, due or not; None when another process runs it at this moment."""
        async with self._locks() as locks:
            return await self._run_alone(unit, locks, is_asked=True)

    @asynccontextmanager
    async def _locks(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await self._connect()
        try:
            await connection.execute(queries.FREE_WHEN_FROZEN, f"{FROZEN_SECONDS}s")
            yield connection
        finally:
            # Not a word more: a connection that is gone has no lock.
            connection.terminate()

    async def _run_alone(self, unit: Unit, locks: asyncpg.Connection, *, is_asked: bool) -> Ran | None:
        whose = (unit.project_id, unit.job.name)
        if not await locks.fetchval(queries.TRY_LOCK, *whose):
            return None
        async with schedule_transaction(self._context.pool) as connection:
            # It may have been run since it was found due.
            failures = await connection.fetchval(queries.CLAIM, *whose, is_asked, INTERRUPTED)
        ran = None if failures is None else await self._run(unit, locks)
        await locks.execute(queries.UNLOCK, *whose)
        return ran

    async def _run(self, unit: Unit, locks: asyncpg.Connection) -> Ran:
        context = self._context
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._longest):
                opened = await self._opened(unit)
                outcome = await self._while_locked(unit.job.run(opened, context), locks)
        except asyncio.CancelledError:
            # The process ends: the next one need not wait for this job.
            await asyncio.shield(asyncio.wait_for(self._keep(queries.GIVE_BACK, unit), GIVE_BACK_SECONDS))
            raise
        except LockLost:
            # Somebody else may run it by now, so nothing is said of this run.
            raise
        except Exception as error:
            told = self._in_words(error)
            logger.warning("The job %s failed and is tried again: %s", unit.name, told, exc_info=error)
            await self._keep(queries.FAIL, unit, time.monotonic() - began, told)
            events.job_ended(unit.job.name, "failed", time.monotonic() - began)
            return Ran(unit, {}, told)
        await self._keep(queries.FINISH, unit, time.monotonic() - began, dict(outcome), unit.job.every)
        events.job_ended(unit.job.name, "ok", time.monotonic() - began)
        return Ran(unit, outcome)

    async def _opened(self, unit: Unit) -> OpenProject:
        context = self._context
        opened = OpenProject(unit.project_id, unit.key or "", context.pool, context.services, vaults=context.vaults)
        return opened if unit.job.is_of_database else await opened.beside(opened.id, opened.key)

    async def _while_locked(self, running: Awaitable[Outcome], locks: asyncpg.Connection) -> Outcome:
        """Await a job; broken off when its lock is lost."""
        lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def note(_: Any) -> None:
            if not lost.done():
                lost.set_result(None)

        locks.add_termination_listener(note)
        work: asyncio.Future[Any] = asyncio.ensure_future(running)
        try:
            while True:
                done, _ = await asyncio.wait({work, lost}, timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED)
                if work in done:
                    outcome: Outcome = work.result()
                    return outcome
                if lost in done:
                    raise LockLost(LOST)
                try:
                    await locks.execute("SELECT 1")
                except DATABASE_FAILURES as error:
                    raise LockLost(LOST) from error
        finally:
            locks.remove_termination_listener(note)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _keep(self, statement: str, unit: Unit, *values: Any) -> None:
        async with schedule_transaction(self._context.pool) as connection:
            await connection.execute(statement, unit.project_id, unit.job.name, *values)

    def _in_words(self, error: Exception) -> str:
        if isinstance(error, BmadError):
            return error.message[:MOST_ERROR_CHARACTERS]
        if isinstance(error, TimeoutError):
            return f"It took longer than {self._longest:,.0f} seconds and was broken off."
        # Further lines of the database's errors repeat values of rows.
        first = (str(error).splitlines() or [""])[0]
        return f"{type(error).__name__}: {first}"[:MOST_ERROR_CHARACTERS]


class LockLost(ConnectionError):
    """The connection that held a job's lock ended while the job ran."""
