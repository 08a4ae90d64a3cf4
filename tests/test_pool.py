"""The connection that a pool has at hand: taken by whoever comes next, and in nobody's way."""

import asyncio

import asyncpg
import pytest
from harness import TestWorkspace, new_project

from bmad_mcp import pool as pools
from bmad_mcp.call import OpenProject
from bmad_mcp.db import POOL_SIZE, Transaction, open_pool

PID = "SELECT pg_backend_pid()"


@pytest.fixture
async def workspace(database):
    """A project on a pool on which nothing was changed, so that nothing is told beside the test."""
    async with await open_pool(**database.app) as first:
        made = await new_project(first)
    pool = await open_pool(**database.app)
    yield TestWorkspace(OpenProject(made.id, made.key, pool))
    await pool.close()


@pytest.fixture
def pool(workspace):
    return workspace.opened.pool


async def one_call(workspace, sql=PID, verb="COMMIT"):
    transaction = Transaction(workspace.opened.pool, workspace.opened.id)
    found = await transaction.fetchval(sql)
    await transaction.end(verb)
    return found


async def test_the_next_one_takes_the_connection_at_hand_whoever_it_is(workspace, pool):
    before = await one_call(workspace)
    assert await one_call(workspace) == before
    async with pool.acquire() as connection:
        assert await connection.fetchval(PID) == before
        assert pool.get_idle_size() == pool.get_size() - 1
    assert pool.get_idle_size() == pool.get_size()


@pytest.mark.parametrize("verb", ["COMMIT", "ROLLBACK"])
async def test_whoever_waits_for_a_connection_gets_the_first_that_is_free(workspace, pool, verb):
    held = [Transaction(pool, workspace.opened.id) for _ in range(POOL_SIZE)]
    for one in held:
        await one.fetchval(PID)
    waiting = [asyncio.create_task(one_call(workspace)), asyncio.create_task(pool.fetchval(PID))]
    await asyncio.sleep(0)
    for one in held[:2]:
        await one.end(verb)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    for one in held[2:]:
        await one.end(verb)
    assert pool.get_idle_size() == pool.get_size() == POOL_SIZE


async def test_one_that_ends_while_it_is_aside_is_replaced(workspace, pool, database):
    before = await one_call(workspace)
    admin = await asyncpg.connect(**database.admin)
    await admin.execute("SELECT pg_terminate_backend($1)", before)
    await admin.close()
    # Until its end is noticed; the pool may have opened another one by then.
    async with asyncio.timeout(10):
        while pools._is_ready(pool._at_hand):
            await asyncio.sleep(0)
    assert await one_call(workspace) != before
    assert pool.get_idle_size() == pool.get_size()


async def test_one_that_nobody_used_for_long_is_replaced(workspace, pool, monkeypatch):
    before = await one_call(workspace)
    monkeypatch.setattr(pools, "INACTIVE_SECONDS", 0.0)
    assert await one_call(workspace) != before


async def test_none_from_before_is_used_once_they_are_expired(workspace, pool):
    before = await one_call(workspace)
    await pool.expire_connections()
    assert await one_call(workspace) != before


async def test_it_goes_back_to_the_pool_after_so_many_turns(workspace, pool, monkeypatch):
    monkeypatch.setattr(pools, "TURNS", 3)
    for _ in range(10):
        await one_call(workspace)
    assert pool.get_idle_size() == pool.get_size() == 1


async def test_a_pool_closes_with_one_at_hand_and_with_one_in_use(workspace, pool):
    await one_call(workspace)
    transaction = Transaction(pool, workspace.opened.id)
    await transaction.fetchval(PID)
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    await transaction.end("COMMIT")
    await asyncio.wait_for(closing, 5)
