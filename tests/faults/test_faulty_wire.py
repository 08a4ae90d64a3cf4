"""A network that breaks between the server and its database: calls end, writes are whole or absent, the pool heals."""

import asyncio
import os
import signal

import asyncpg
import pytest
from auth_server import OPERATOR
from faults.ledger import Ledger
from faulty_wire import FaultyWire
from harness import EXTERNAL, TestWorkspace, new_project

from bmad_mcp.call import Call, Caller, OpenProject, open_call
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import open_pool
from bmad_mcp.errors import Overloaded, Unavailable
from bmad_mcp.identity.issuing import create_token
from bmad_mcp.identity.rates import Rates
from bmad_mcp.identity.verifying import StaticTokens, find_role
from bmad_mcp.operation import Operation, perform
from bmad_mcp.server.health import Readiness
from bmad_mcp.shapes import Out
from bmad_mcp.tasks.operations import task_create

pytestmark = pytest.mark.skipif(bool(EXTERNAL), reason="the wire leads to the embedded PostgreSQL")
COMMAND_SECONDS = 1.0
APPLICATION = "bmad-mcp far away"
SESSIONS = "SELECT pid, query FROM pg_stat_activity WHERE application_name = $1"
# What a call may take at most: one statement that is not answered in time, and a second.
DEADLINE = COMMAND_SECONDS + 1


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
    distant = await open_pool(**there, command_timeout=COMMAND_SECONDS, timeout=COMMAND_SECONDS, server_settings=named)
    yield TestWorkspace(OpenProject(project.id, project.key, distant))
    wire.is_silent = wire.refuses = False
    wire.answers_rate = wire.requests_rate = None
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


# What each of three calls is told, by where it is when the wire begins to trickle. A commit that went out may be done.
TOLD = {"not begun": "Nothing was written", "begun": "Nothing was written", "written": "outcome is not known"}


@pytest.mark.parametrize("what", ["answers_rate", "requests_rate"])
async def test_a_wire_at_a_byte_a_second_ends_each_call_in_time_and_leaves_nothing_by_half(
    far, wire, pool, database, what
):
    ledger = Ledger(made={"before": (await run(far, "task_create", title="before")).task.key})
    # A connection for each of the three.
    await healed(far)
    all_there, trickles = asyncio.Barrier(len(TOLD) + 1), asyncio.Event()

    async def pause() -> None:
        await all_there.wait()
        await trickles.wait()

    async def create(moment: str) -> str:
        async def at(call: Call) -> Out:
            if moment == "begun":
                await call.db.execute("SELECT 1")
                await pause()
            await task_create(call, title=moment)
            if moment == "written":
                await pause()
            return Out()

        if moment == "not begun":
            await pause()
        with pytest.raises(Unavailable) as refused:
            await perform(Operation(at, "POST /trickle"), {}, Caller(), far)
        return refused.value.message

    calls = asyncio.gather(*map(create, TOLD))
    await all_there.wait()
    setattr(wire, what, 1)
    trickles.set()
    async with asyncio.timeout(DEADLINE):
        told = dict(zip(TOLD, await calls, strict=True))
    for moment, sentence in TOLD.items():
        assert sentence in told[moment]
    # The next one needs a new connection.
    with pytest.raises(Unavailable, match="Nothing was written"):
        await run(far, "task_create", title="later")
    assert await Readiness(far).reasons()
    setattr(wire, what, None)
    await healed(far)
    await run(far, "task_create", title="after")
    # A request to commit still comes through when the wire is well, before the end of its connection.
    assert set(await titles(far)) == {"before", "written", "after"}
    connection = await asyncpg.connect(**database.admin)
    await ledger.check(connection, far.opened.key)
    await connection.close()
    await far.opened.pool.close()
    async with asyncio.timeout(20):
        while await pool.fetch(SESSIONS, APPLICATION):
            await asyncio.sleep(0.05)


async def test_who_asks_is_not_looked_up_for_longer_than_that_either(far, wire):
    async with open_call(far, OPERATOR, "token_create") as call:
        token = (await create_token(call, "alice", ("write",))).token.text
    alice = await StaticTokens(far).principal(token)
    await healed(far)
    wire.answers_rate = 1
    looks = [
        StaticTokens(far).principal(token),
        find_role(far, None, alice),
        find_role(far, "another", alice),
        Rates(far, principal=600, project=0).take(principal="alice"),
    ]
    async with asyncio.timeout(DEADLINE):
        told = await asyncio.gather(*looks, return_exceptions=True)
    assert [type(one) for one in told] == [Overloaded] * len(looks)


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
