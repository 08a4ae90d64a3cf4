"""Transactions: they begin late, end always, and never leak a connection or another project's scope."""

import asyncio
import time
from dataclasses import replace

import anyio
import asyncpg
import pytest
from interchange.boards import SHOP, beads

from bmad_mcp import sample
from bmad_mcp.bmad_files import importing
from bmad_mcp.call import Call, Caller, OneProject, open_call
from bmad_mcp.db import POOL_SIZE, Transaction, open_pool, uuid7
from bmad_mcp.errors import NoRoom
from bmad_mcp.interchange import importing as boards_importing
from bmad_mcp.interchange.snapshot import snapshot
from bmad_mcp.operation import Operation, perform
from bmad_mcp.shapes import Out


async def test_a_call_without_sql_takes_no_connection(workspace):
    async with open_call(workspace, Caller(), "nothing"):
        assert workspace.opened.pool.get_idle_size() == workspace.opened.pool.get_size()


async def test_a_failed_call_leaves_nothing_behind(workspace):
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the error must come out of the call
        async with open_call(workspace, Caller(), "fail") as call:
            await call.db.execute(
                "INSERT INTO bmad_epics (project_id, key, number, title) VALUES (bmad_project(), '1', 1, 'x')"
            )
            raise ZeroDivisionError
    async with open_call(workspace, Caller(), "look") as call:
        assert await call.db.fetchval("SELECT count(*) FROM bmad_epics") == 0


async def test_callers_that_go_away_in_the_middle_leave_no_transaction_and_no_lost_connection(workspace):
    """Cancelled by scope, as the SDK does it: every further await of the caller fails too."""
    pool = workspace.opened.pool
    for _ in range(POOL_SIZE * 2):
        with anyio.move_on_after(0.05):
            async with open_call(workspace, Caller(), "sleep") as call:
                await call.db.execute("INSERT INTO mcp_counters (project_id, kind) VALUES (bmad_project(), 'gone')")
                await call.db.execute("SELECT pg_sleep(30)")
    async with open_call(workspace, Caller(), "look") as call:
        assert await call.db.fetchval("SELECT count(*) FROM mcp_counters WHERE kind = 'gone'") == 0
        open_ones = await call.db.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'bmad-mcp' AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()"
        )
        assert open_ones == 0
    assert pool.get_size() <= POOL_SIZE
    await asyncio.wait_for(asyncio.gather(*(_count(workspace) for _ in range(POOL_SIZE * 2))), 10)


@pytest.fixture
async def hasty(workspace, database):
    """The project on connections that nobody may leave idle in a transaction for half a second."""
    app = database.app
    soon = app.get("server_settings", {}) | {"idle_in_transaction_session_timeout": "500"}
    pool = await open_pool(**app | {"server_settings": soon})
    yield replace(workspace.opened, pool=pool)
    await pool.close()


def slow(work):
    def after_a_pause(*args):
        time.sleep(0.8)
        return work(*args)

    return after_a_pause


async def test_who_stands_still_in_a_transaction_loses_it(hasty):
    with pytest.raises(asyncpg.InterfaceError):  # noqa: PT012 - the connection is lost between the two
        async with open_call(OneProject(hasty), Caller(), "stand") as call:
            await call.db.fetchval("SELECT 1")
            await asyncio.sleep(0.8)
            await call.db.fetchval("SELECT 1")
    assert await _count(OneProject(hasty)) > 0


async def test_who_plans_an_import_or_writes_an_export_may_take_its_time(hasty, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "plan", slow(importing.plan))
    report = await importing.import_folder(hasty, sample.FOLDER)
    assert report.changes
    monkeypatch.setattr(boards_importing, "plan", slow(boards_importing.plan))
    assert (await boards_importing.import_from(hasty, "beads", beads(tmp_path, *SHOP))).changes
    async with snapshot(hasty) as view:
        assert await view.connection.fetchval("SELECT count(*) FROM bmad_stories")
        await asyncio.sleep(0.8)
        assert await view.connection.fetchval("SELECT count(*) FROM bmad_tasks")


async def write_too_much(call: Call) -> Out:
    await call.db.execute("DO $$ BEGIN RAISE disk_full; END $$")
    return Out()


async def test_a_full_disk_is_told_with_who_can_mend_it(workspace):
    with pytest.raises(NoRoom, match=r"Nothing was written.*tell whoever runs this server") as caught:
        await perform(Operation(write_too_much, "POST /much"), {}, Caller(), workspace)
    assert caught.value.retry_after == 60


async def _count(workspace) -> int:
    async with open_call(workspace, Caller(), "count") as call:
        return await call.db.fetchval("SELECT count(*) FROM bmad_agents")


async def test_a_connection_that_dies_is_replaced(workspace):
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, ConnectionError)):  # noqa: PT012
        async with open_call(workspace, Caller(), "die") as call:
            pid = await call.db.fetchval("SELECT pg_backend_pid()")
            async with open_call(workspace, Caller(), "kill") as other:
                await other.db.execute("SELECT pg_terminate_backend($1)", pid)
            await call.db.fetchval("SELECT 1")
    assert await _count(workspace) > 0


async def test_the_scope_of_a_project_ends_with_its_transaction(workspace):
    transaction = Transaction(workspace.opened.pool, workspace.opened.id)
    assert await transaction.fetchval("SELECT count(*) FROM bmad_agents") > 0
    await transaction.end("COMMIT")
    async with workspace.opened.pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM bmad_agents") == 0
    other = Transaction(workspace.opened.pool, uuid7())
    assert await other.fetchval("SELECT count(*) FROM bmad_agents") == 0
    await other.end("COMMIT")


def test_ids_are_version_7_and_rise_with_time():
    made = [uuid7() for _ in range(1000)]
    assert {one.version for one in made} == {7}
    assert {one.variant for one in made} == {"specified in RFC 4122"}
    assert len(set(made)) == 1000
    assert [one.int >> 80 for one in made] == sorted(one.int >> 80 for one in made)
