"""kill -9 of servers, of the process that runs jobs and of PostgreSQL at random: nothing acknowledged is lost or half."""

import asyncio
import random
import sys
import time
from collections import Counter
from pathlib import Path

import asyncpg
import pytest
from data_dirs import data_dir
from faults.ledger import Ledger
from faults.two_servers import TwoServers
from faults.working_client import WorkingClient
from harness import EXTERNAL
from server.http_process import HttpServer

from bmad_mcp.embedded.endpoints import ADMIN_ROLE, Endpoints

__all__ = ["data_dir"]

pytestmark = pytest.mark.skipif(bool(EXTERNAL), reason="it kills the PostgreSQL that it starts")
CLIENTS = 3
# As a server does it, but without a pause, and archiving a few rows at a time so that kills land in between.
JOBS = """
import asyncio, sys
from bmad_mcp.app import open_workspace
from bmad_mcp.db import DATABASE_FAILURES
from bmad_mcp.errors import BmadError
from bmad_mcp.jobs import archive
from bmad_mcp.jobs.job import JobContext
from bmad_mcp.jobs.known import BY_NAME
from bmad_mcp.jobs.schedule import Schedule, Unit
from bmad_mcp.settings import Settings

archive.archive_old.__kwdefaults__["at_once"] = 5

async def main():
    async with open_workspace(Settings()) as workspace:
        opened = await workspace.project()
        print("works", file=sys.stderr, flush=True)
        job = BY_NAME["retention"]
        schedule = Schedule(JobContext(opened.pool, None, None), workspace.database.open_listener, [job])
        while True:
            try:
                await schedule.run_now(Unit(job, opened.id, opened.key))
            except (BmadError, TimeoutError, *DATABASE_FAILURES):
                await workspace.mend()
            await asyncio.sleep(0.02)

asyncio.run(main())
"""
OLD_ROWS = """
INSERT INTO bmad_memory_integrations (project_id, id, created_at, direction, provider, outcome, items)
SELECT $1, ('01000000' || substr(md5(($2::int + n)::text), 9))::uuid, now() - interval '400 days', 'recall', 'builtin', 'found', 1
FROM generate_series(1, 10) n
"""
OLD_ROWS_KEPT = """
SELECT (SELECT count(*) FROM bmad_memory_integrations WHERE project_id = $1 AND created_at < now() - interval '300 days'),
    (SELECT count(*) FROM mcp_archive WHERE project_id = $1),
    (SELECT count(DISTINCT id) FROM mcp_archive WHERE project_id = $1)
"""
KEEP_A_WHILE = 'UPDATE bmad_projects SET settings = settings || \'{"retention": {"integrations": 90}}\' WHERE id = $1'


class Company(TwoServers):
    """The two servers, a process that runs jobs in the same data folder, and their clients."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, "kills")
        self.random = random.Random(seed)
        self.ledger = Ledger()
        self.old_rows = self.archived = 0
        # Each three kills in a row hit each of them once, in any order.
        self._next: list[str] = []

    def begin_jobs(self) -> HttpServer:
        return HttpServer(self.env, command=[sys.executable, "-c", JOBS])

    async def begin(self) -> None:
        """All of them work."""
        await super().begin()
        self.jobs = self.begin_jobs()
        await asyncio.to_thread(self.jobs.wait_for, "works")
        connection = await self.connect()
        self.project_id = await connection.fetchval("SELECT id FROM bmad_projects WHERE key = $1", self.project)
        await connection.execute(KEEP_A_WHILE, self.project_id)
        await connection.close()
        self.clients = [
            WorkingClient(
                f"client {number}", self.addresses[number % 2 :] + self.addresses[: number % 2], self.ledger, number
            )
            for number in range(CLIENTS)
        ]
        self.working = [asyncio.create_task(one.run()) for one in self.clients]

    async def connect(self) -> asyncpg.Connection:
        """As a superuser, whom no policy hides a row from; waits for a PostgreSQL that comes back."""
        async with asyncio.timeout(30):
            while True:
                folder = self.postmaster.socket_folder
                try:
                    assert folder is not None
                    return await asyncpg.connect(**Endpoints(folder).connect_args(ADMIN_ROLE))
                except (AssertionError, OSError, asyncpg.PostgresError):
                    await asyncio.sleep(0.02)

    async def goes_on(self, more: int = 4) -> float:
        """How long it took until so many more changes were acknowledged."""
        began, enough = time.monotonic(), self.ledger.acknowledged + more
        async with asyncio.timeout(60):
            while self.ledger.acknowledged < enough:
                for one in self.working:
                    assert not one.done(), one.exception()
                await asyncio.sleep(0.01)
        return time.monotonic() - began

    async def kill_one(self) -> str:
        """Kill somebody with SIGKILL and begin anew whom nobody else would; returns who it was."""
        if not self._next:
            self._next = self.random.sample(("server", "jobs", "postmaster"), 3)
        match who := self._next.pop():
            case "server":
                await self.kill_server(self.random.randrange(2))
            case "jobs":
                assert self.jobs.process.poll() is None, self.jobs.told
                await asyncio.to_thread(self.jobs.kill)
                self.jobs = self.begin_jobs()
                await asyncio.to_thread(self.jobs.wait_for, "works")
            case _:
                assert self.kill_postgresql()
        return who

    async def check(self) -> None:
        """What was acknowledged is there, nothing is there by half, and what jobs move is in one place or the other."""
        connection = await self.connect()
        try:
            await self.ledger.check(connection, self.project)
            async with connection.transaction(isolation="repeatable_read"):
                kept, archived, different = await connection.fetchrow(OLD_ROWS_KEPT, self.project_id)
            assert (kept + archived, different) == (self.old_rows, archived)
            self.archived = archived
            # The answer to this may be lost as any other; it is the test's own to count them.
            if not self.old_rows or self.random.random() < 0.5:
                await connection.execute(OLD_ROWS, self.project_id, self.old_rows)
                self.old_rows += 10
        finally:
            await connection.close()

    async def rest(self) -> None:
        """Nobody asks for anything any more."""
        for one in self.clients:
            one.end()
        await asyncio.wait_for(asyncio.gather(*self.working), 60)

    def end(self) -> None:
        super().end()
        if hasattr(self, "jobs"):
            self.jobs.kill()


@pytest.mark.parametrize("kills", [3, pytest.param(500, marks=pytest.mark.soak)])
async def test_random_kills_lose_nothing_acknowledged_and_leave_nothing_half_done(data_dir, kills):
    company = Company(data_dir, seed=kills)
    killed: Counter[str] = Counter()
    back: list[float] = []
    began = time.monotonic()
    try:
        await company.begin()
        await company.goes_on()
        for number in range(kills):
            await asyncio.sleep(company.random.uniform(0.0, 0.3))
            who = await company.kill_one()
            killed[who] += 1
            back.append(await company.goes_on())
            await company.check()
            if number % 25 == 24:
                print(f"{number + 1} kills, {company.ledger.acknowledged} acknowledged, "
                      f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
        await company.rest()
        async with asyncio.timeout(60):
            # The jobs may still have to begin.
            await company.check()
            while not company.archived:
                await company.check()
    finally:
        company.end()
    ledger = company.ledger
    print(
        f"{kills} kills {dict(killed)} in {time.monotonic() - began:.0f} s: {ledger.acknowledged} acknowledged, 0 lost,"
        f" 0 by half; {ledger.refused_stale.total()} old leases refused, 0 let in; work went on after {max(back):.1f} s at most;"
        f" {company.archived} of {company.old_rows} old rows archived by the jobs; failures {dict(ledger.refusals)}"
    )
    assert ledger.acknowledged >= kills * 4
    # By the lease's number, or as the task was finished by somebody else meanwhile.
    assert set(ledger.refused_stale) <= {"lease_lost", "invalid_move"}
    # Whatever ends, callers are told what happened and not that something did.
    assert not [told for told in ledger.refusals if "failed inside the server" in told]
    assert kills < 50 or company.archived >= company.old_rows // 2
