"""A real streaming replica answers what may be old, says how old it is, and is left alone when it cannot."""

import asyncio
import os
import re
import signal
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import pytest
from commands.command import succeeds
from deployment.pgbouncer import needs_pgbouncer, pooler
from own_postgresql import OwnPostgresql, own_home
from processes import assistant, fresh_key

from bmad_mcp.app import open_workspace
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME, CATALOG
from bmad_mcp.commands.replica_checks import check_replica
from bmad_mcp.database import Database
from bmad_mcp.operation import Operation, perform
from bmad_mcp.settings import Settings
from bmad_mcp.shapes import Aged


@pytest.fixture(scope="module")
def pair():
    """A primary with the schema, and a replica that follows it."""
    with own_home() as home:
        primary, replica = OwnPostgresql(home, "primary"), OwnPostgresql(home, "replica")
        primary.initialise()
        primary.start()
        succeeds({"BMAD_DATABASE_URL": primary.url()}, "db", "upgrade")
        replica.copy_of(primary)
        replica.start()
        try:
            yield SimpleNamespace(primary=primary, replica=replica)
        finally:
            for server in (replica, primary):
                if (server.data / "postmaster.pid").exists():
                    server.stop("immediate")


def settings_for(pair, **more):
    urls = {"database_url": pair.primary.url(), "database_read_url": pair.replica.url()} | more
    return Settings(project=fresh_key("read"), memory_provider="builtin", **urls)


@pytest.fixture
async def ask(pair):
    """Runs an operation on a workspace with the replica."""
    async with open_workspace(settings_for(pair)) as workspace:
        yield runner(workspace)


def runner(workspace):
    async def run(name, **arguments):
        operation = name if isinstance(name, Operation) else BY_NAME[name]
        return await perform(operation, arguments, Caller(), workspace)

    return run


async def on_replica(pair, sql):
    connection = await asyncpg.connect(pair.replica.url())
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def until_it_has(ask, created, *, old, seconds=30):
    """The first overview with so many tasks that is (not) a replica's."""
    deadline = time.monotonic() + seconds
    while True:
        found = await ask("analytics_overview")
        if found.tasks.created_count == created and (found.as_of is not None) == old:
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


async def test_what_may_be_old_comes_from_the_replica_and_says_how_old_it_is(ask, pair):
    await ask("task_create", title="before", agent="dev")
    level = await until_it_has(ask, 1, old=True)
    assert (datetime.now(UTC) - level.as_of).total_seconds() < 5
    await on_replica(pair, "SELECT pg_wal_replay_pause()")
    try:
        await ask("task_create", title="after", agent="dev")
        behind = await ask("analytics_overview")
        assert behind.tasks.created_count == 1
        assert behind.as_of < datetime.now(UTC)
        assert behind.lag_seconds > 0
        again = await ask("activity_list")
        assert {item.subject for item in again.items if item.subject.startswith("task")} == {"task T-1"}
        assert again.as_of == behind.as_of
        # Others ask the primary, and see what was just done.
        assert len((await ask("task_list")).items) == 2
    finally:
        await on_replica(pair, "SELECT pg_wal_replay_resume()")
    assert (await until_it_has(ask, 2, old=True)).as_of > behind.as_of


async def test_every_answer_holds_what_was_acknowledged_until_its_moment(ask):
    acknowledged: list[datetime] = []
    is_over = asyncio.Event()

    async def write():
        while not is_over.is_set():
            await ask("task_create", title="one", agent="dev")
            acknowledged.append(datetime.now(UTC))

    writing = asyncio.create_task(write())
    try:
        for _ in range(30):
            found = await ask("analytics_overview")
            assert found.as_of is not None
            assert found.tasks.created_count >= sum(at <= found.as_of for at in acknowledged)
            await asyncio.sleep(0.02)
    finally:
        is_over.set()
        await writing
    assert len(acknowledged) > 10


async def test_a_replica_too_far_behind_is_not_asked(pair):
    async with open_workspace(settings_for(pair, database_read_lag_seconds=0.5)) as workspace:
        ask = runner(workspace)
        await ask("task_create", title="before", agent="dev")
        await until_it_has(ask, 1, old=True)
        await on_replica(pair, "SELECT pg_wal_replay_pause()")
        try:
            await ask("task_create", title="after", agent="dev")
            assert (await until_it_has(ask, 2, old=False)).lag_seconds is None
        finally:
            await on_replica(pair, "SELECT pg_wal_replay_resume()")
        await until_it_has(ask, 2, old=True)


async def test_a_dead_replica_costs_nobody_an_answer(ask, pair):
    await ask("task_create", title="one", agent="dev")
    await until_it_has(ask, 1, old=True)
    await asyncio.to_thread(pair.replica.stop, "immediate")
    try:
        found = await ask("analytics_overview")
        assert (found.tasks.created_count, found.as_of) == (1, None)
        await ask("task_create", title="two", agent="dev")
    finally:
        await asyncio.to_thread(pair.replica.start)
    await until_it_has(ask, 2, old=True)


async def test_a_replica_lost_in_the_middle_of_an_answer_is_replaced_by_the_primary(ask, pair):
    await ask("task_create", title="one", agent="dev")
    await until_it_has(ask, 1, old=True)
    asked: list[bool] = []

    async def cut_off(call) -> Aged:
        """Ask, be cut off, and ask again."""
        asked.append(call.age is not None)
        pid = await call.db.fetchval("SELECT pg_backend_pid()")
        if call.age is not None:
            await on_replica(pair, f"SELECT pg_terminate_backend({pid})")
        await call.db.fetchval("SELECT 1")
        return Aged()

    answer = await ask(Operation(cut_off, "GET /cut", may_be_old=True))
    assert (asked, answer.as_of) == ([True, False], None)


def family(postmaster: int) -> list[int]:
    """The process and its children."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [postmaster, *map(int, children)]


@contextmanager
def frozen(server):
    """Every process of the server stands still."""
    pids = family(int((server.data / "postmaster.pid").read_text().splitlines()[0]))
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the server's processes in /proc")
async def test_a_frozen_replica_holds_nobody_up_for_long(ask, pair):
    await ask("task_create", title="one", agent="dev")
    await until_it_has(ask, 1, old=True)
    with frozen(pair.replica):
        async with asyncio.timeout(10):
            found = await ask("analytics_overview")
        assert (found.tasks.created_count, found.as_of) == (1, None)
    await until_it_has(ask, 1, old=True)


async def test_what_is_no_replica_is_not_read_from(pair):
    async with open_workspace(settings_for(pair, database_read_url=pair.primary.url())) as workspace:
        found = await runner(workspace)("analytics_overview")
        assert found.as_of is None


async def test_doctor_tells_how_far_behind_it_is(pair):
    async def told(settings):
        return [one.text async for one in check_replica(Database(settings))]

    (found,) = await told(settings_for(pair))
    assert re.fullmatch(r"answers analytics, \d+\.\d s behind", found)
    not_one = settings_for(pair, database_read_url=pair.primary.url())
    assert await told(not_one) == ["not used: it is no replica of this database"]
    assert await told(settings_for(pair, database_read_url=None)) == []


async def test_row_level_security_binds_the_reads_of_a_replica(ask, pair):
    seen = []

    async def look(call) -> Aged:
        """Who reads, and what there is."""
        role = await call.db.fetchval("SELECT current_user")
        rows = await call.db.fetch("SELECT DISTINCT project_id FROM bmad_tasks")
        seen.append((call.age is not None, role, {row["project_id"] for row in rows} <= {call.project_id}))
        return Aged()

    await ask("task_create", title="one", agent="dev")
    await until_it_has(ask, 1, old=True)
    await ask(Operation(look, "GET /look", may_be_old=True))
    assert seen == [(True, "bmad_app", True)]


def test_only_reads_may_be_old_and_their_results_can_say_so():
    found = [one for one in CATALOG if one.may_be_old]
    assert {"analytics_overview", "agent_analytics", "workflow_analytics", "activity_list"} <= {
        one.name for one in found
    }
    for operation in found:
        assert operation.scope == "read"
        assert issubclass(operation.result, Aged), f"{operation.name} could not say how old its answer is"


async def test_a_client_reads_it_in_the_result(pair):
    env = {
        "BMAD_DATABASE_URL": pair.primary.url(),
        "BMAD_DATABASE_READ_URL": pair.replica.url(),
        "BMAD_MEMORY_PROVIDER": "builtin",
    }
    async with assistant(env, fresh_key("read"), "--toolsets", "core,analytics") as call:
        await call("task_create", title="one")
        async with asyncio.timeout(20):
            while "as_of" not in (found := await call("activity_list")) or not found["items"]:
                await asyncio.sleep(0.05)
        assert datetime.fromisoformat(found["as_of"]).tzinfo is not None
        assert found["lag_seconds"] >= 0


@needs_pgbouncer
async def test_the_replica_may_have_a_pooler_in_front_too(pair):
    admin = await asyncpg.connect(pair.primary.url())
    await admin.execute("CREATE ROLE bmad_server LOGIN IN ROLE bmad_app")
    await admin.close()
    with pooler(pair.primary, "bmad_server") as near, pooler(pair.replica, "bmad_server") as far:
        settings = settings_for(
            pair,
            database_url=pair.primary.url("bmad_server", port=near),
            database_read_url=pair.replica.url("bmad_server", port=far),
            database_direct_url=pair.primary.url(),
        )
        async with open_workspace(settings) as workspace:
            ask = runner(workspace)
            await ask("task_create", title="one", agent="dev")
            await until_it_has(ask, 1, old=True)
