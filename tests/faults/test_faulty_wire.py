"""A network that breaks between the server and its database: calls end, writes are whole or absent, the pool heals."""

import asyncio
import os
import signal

import pytest
from faulty_wire import FaultyWire
from harness import EXTERNAL, TestWorkspace, new_project

from bmad_mcp.call import Call, Caller, OpenProject, open_call
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import open_pool
from bmad_mcp.errors import Unavailable
from bmad_mcp.operation import Operation, perform
from bmad_mcp.server.health import Readiness
from bmad_mcp.shapes import Out

pytestmark = pytest.mark.skipif(bool(EXTERNAL), reason="the wire leads to the embedded PostgreSQL")
COMMAND_SECONDS = 1.0
APPLICATION = "bmad-mcp far away"
SESSIONS = "SELECT pid, query FROM pg_stat_activity WHERE application_name = $1"
# What a call may take at most: its statement, the end of its transaction, and a second.
DEADLINE = 2 * COMMAND_SECONDS + 1


@pytest.fixture
async def wire(database):
    where = database.app
    async with FaultyWire(f"{where['host']}/.s.PGSQL.{where['port']}") as found:
        yield found


@pytest.fixture
async def far(database, pool, wire):
    """A workspace whose database is at the other end of the wire."""
    project = await new_project(pool)
    there = {**database.app, "host": "127.0.0.1", "port": wire.port}
    named = {"application_name": APPLICATION}
    distant = await open_pool(**there, command_timeout=COMMAND_SECONDS, timeout=5, server_settings=named)
    yield TestWorkspace(OpenProject(project.id, project.key, distant))
    wire.is_silent = wire.refuses = False
    wire.drop()
    distant.terminate()


async def run(workspace, name, **arguments):
    async with asyncio.timeout(DEADLINE):
        return await perform(BY_NAME[name], arguments, Caller(), workspace)


async def titles(workspace) -> list[str]:
    return [one.title for one in (await run(workspace, "task_list", limit=100)).items]


async def healed(workspace) -> None:
    """Ready again, and each connection of the pool of use."""
    async with asyncio.timeout(20):
        while await Readiness(workspace).reasons():
            await asyncio.sleep(0.05)
    await asyncio.gather(*(run(workspace, "project_status") for _ in range(10)))


async def test_connections_that_are_reset_are_replaced(far, wire):
    await run(far, "task_create", title="before")
    wire.drop()
    with pytest.raises(Unavailable, match="Call again"):
        await run(far, "task_create", title="during")
    await healed(far)
    await run(far, "task_create", title="after")
    assert "during" not in await titles(far)


async def test_a_slow_network_makes_calls_slow_and_nothing_else(far, wire):
    wire.delay = 0.03
    await run(far, "task_create", title="slow")
    assert await titles(far) == ["slow"]


async def test_a_database_that_refuses_connections_is_told_and_come_back_to(far, wire):
    wire.refuses = True
    wire.drop()
    with pytest.raises(Unavailable):
        await run(far, "task_create", title="refused")
    assert await Readiness(far).reasons()
    wire.refuses = False
    await healed(far)
    assert await titles(far) == []


@pytest.mark.parametrize("after", [0, 1, 5, 20, 60])
async def test_an_answer_that_is_cut_in_the_middle_is_a_lost_connection(far, wire, after):
    await run(far, "task_create", title="before")
    wire.cut_after = after
    with pytest.raises(Unavailable, match=r"[Cc]all again"):
        await run(far, "task_create", title="cut")
    wire.cut_after = None
    await healed(far)
    assert (await titles(far)).count("before") == 1


async def test_a_silent_network_is_given_up_within_the_deadline_and_the_pool_heals(far, wire):
    await run(far, "task_create", title="before")
    wire.is_silent = True
    with pytest.raises(Unavailable):
        await run(far, "task_create", title="silent")
    assert await Readiness(far).reasons()
    wire.is_silent = False
    # What was swallowed never comes, so these connections are of no use any more.
    wire.drop()
    await healed(far)
    assert await titles(far) == ["before"]


async def test_a_commit_that_nobody_answers_is_told_as_unknown(far, wire):
    async def fall_silent(call: Call) -> Out:
        await call.db.execute("SELECT 1")
        wire.is_silent = True
        return Out()

    operation = Operation(fall_silent, "POST /silent")
    with pytest.raises(Unavailable, match="the outcome is not known"):
        async with asyncio.timeout(DEADLINE):
            await perform(operation, {}, Caller(), far)


async def test_a_commit_whose_answer_is_lost_is_not_run_again_on_a_mended_connection(far, wire):
    class Mended(TestWorkspace):
        async def mend(self) -> bool:
            return True

    async def lose_the_answer(call: Call) -> Out:
        await call.db.execute(
            "INSERT INTO mcp_counters (project_id, kind) VALUES (bmad_project(), gen_random_uuid()::text)"
        )
        # The first time only: whoever ran it again would be answered.
        wire.cut_after = 0 if lost.pop() else None
        return Out()

    lost = [False, True]
    with pytest.raises(Unavailable, match="the outcome is not known"):
        await perform(Operation(lose_the_answer, "POST /lost"), {}, Caller(), Mended(far.opened))
    wire.cut_after = None
    await healed(far)
    async with open_call(far, Caller(), "look") as call:
        assert await call.db.fetchval("SELECT count(*) FROM mcp_counters WHERE length(kind) = 36") == 1


async def test_frozen_backends_end_the_call_and_are_left_to_themselves(far, pool):
    await run(far, "task_create", title="before")
    # Telling of the change may take a second connection; all of them are frozen, and none is in use.
    mine = far.opened.pool
    async with asyncio.timeout(20):
        while (
            not any("pg_notify" in row["query"] for row in await pool.fetch(SESSIONS, APPLICATION))
            or mine.get_idle_size() < mine.get_size()
        ):
            await asyncio.sleep(0.02)
    frozen = [row["pid"] for row in await pool.fetch(SESSIONS, APPLICATION)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match=r"[Cc]all again"):
            await run(far, "task_create", title="frozen")
        # The next call gets a connection of its own.
        await healed(far)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert await titles(far) == ["before"]
