"""The end of a server over stdio, when its database does not answer."""

import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from harness import TestDatabase, new_project

from bmad_mcp.call import Caller, OneProject
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.commands.leaving import leave
from bmad_mcp.db import open_pool, project_transaction
from bmad_mcp.operation import perform

MINE = Caller(connection="mine")
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('bmad sessions ' || bmad_project(), 0))"
OPEN = "SELECT count(*)::int FROM bmad_agent_sessions WHERE project_id = bmad_project() AND ended_at IS NULL"


@pytest.fixture
async def opened(database: TestDatabase):
    """A project in which dev is in session, on a pool of its own."""
    pool = await open_pool(**database.app)
    found = await new_project(pool)
    await perform(BY_NAME["agent_activate"], {"agent": "dev"}, MINE, OneProject(found))
    yield found
    pool.terminate()


@pytest.fixture
async def others(database: TestDatabase):
    """The pool of another process."""
    pool = await open_pool(**database.app)
    yield pool
    await pool.close()


@asynccontextmanager
async def silent(opened, others):
    """Ending a session waits for as long as the block runs."""
    async with project_transaction(others, opened.id) as db:
        await db.execute(LOCK)
        yield


async def sessions(opened, others) -> int:
    async with project_transaction(others, opened.id) as db:
        return await db.fetchval(OPEN)


def workspace(opened, *, read_only=False):
    return SimpleNamespace(ready=opened, settings=SimpleNamespace(read_only=read_only))


async def test_a_database_that_hangs_delays_the_end_by_a_second_at_most(opened, others):
    async with silent(opened, others):
        began = time.monotonic()
        await leave(workspace(opened), MINE)
        # The pool's closing waits for nothing either.
        await opened.pool.close()
        assert time.monotonic() - began < 1.8
    assert await sessions(opened, others) == 1


async def test_a_database_that_is_gone_does_not_delay_the_end(opened, others, caplog):
    await opened.pool.close()
    began = time.monotonic()
    await leave(workspace(opened), MINE)
    assert time.monotonic() - began < 0.5
    assert "stay open for now: InterfaceError" in caplog.text
    assert await sessions(opened, others) == 1


@pytest.mark.parametrize(("caller", "read_only", "left"), [(MINE, False, 0), (MINE, True, 1), (Caller(), False, 1)])
async def test_only_its_own_sessions_end_and_only_where_it_may_write(opened, others, caller, read_only, left):
    await leave(workspace(opened, read_only=read_only), caller)
    assert await sessions(opened, others) == left


async def test_a_project_that_was_never_opened_is_not_opened_for_it():
    await leave(workspace(None), MINE)
