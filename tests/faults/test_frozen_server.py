"""A server that stands still in the middle of a transaction: its row locks go, and who waits for them gets through."""

import asyncio
import os
import signal
import time
from pathlib import Path

import asyncpg
import httpx
import pytest
from commands.command import CLEAN
from data_dirs import data_dir
from harness import EXTERNAL
from processes import fresh_key
from server.http_process import HttpServer

from bmad_mcp.db import IDLE_SECONDS, LOCK_SECONDS
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.endpoints import ADMIN_ROLE

__all__ = ["data_dir"]

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it freezes a process by its signal"),
    pytest.mark.skipif(bool(EXTERNAL), reason="it looks into the PostgreSQL that it starts"),
]
API = "/api/v1/bmad/tasks"
WAITERS = 5
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'bmad-mcp'"
STANDING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND application_name = 'bmad-mcp'"


async def until(admin: asyncpg.Connection, sql: str, count: int) -> None:
    async with asyncio.timeout(5):
        while await admin.fetchval(sql) != count:
            await asyncio.sleep(0.02)


@pytest.mark.soak
async def test_who_waits_for_the_locks_of_a_frozen_server_gets_through(data_dir):
    env = {**CLEAN, "BMAD_DATA_DIR": str(data_dir), "BMAD_MEMORY_PROVIDER": "builtin", "BMAD_LOG_LEVEL": "error"}
    project = fresh_key("frozen")
    servers = [HttpServer(env, "--project", project, "--port", "0")]
    try:
        first = await asyncio.to_thread(servers[0].ready)
        servers.append(HttpServer(env, "--project", project, "--port", "0"))
        second = await asyncio.to_thread(servers[1].ready)
        with Cluster(data_dir / "postgres") as endpoints:
            admin = await asyncpg.connect(**endpoints.connect_args(ADMIN_ROLE))
            holder = await asyncpg.connect(**endpoints.connect_args(ADMIN_ROLE))
        async with (
            httpx.AsyncClient(base_url=f"{first}{API}", timeout=60) as frozen,
            httpx.AsyncClient(base_url=f"{second}{API}", timeout=60) as awake,
        ):
            for title in ("Both write this", "It waits for this"):
                (await awake.post("/create", json={"title": title})).raise_for_status()
            async with holder.transaction():
                await holder.execute("SELECT FROM bmad_tasks WHERE number = 2 FOR UPDATE")
                # It locks T-1, and then stands in its transaction before T-2.
                stuck = asyncio.create_task(frozen.patch("/T-1", json={"depends_on": ["T-2"]}))
                await until(admin, WAITING, 1)
                servers[0].process.send_signal(signal.SIGSTOP)
            await until(admin, STANDING, 1)
            began = time.monotonic()
            waiting = [awake.patch("/T-1", json={"priority": "high"}) for _ in range(WAITERS)]
            answers = await asyncio.gather(*waiting)
            took = time.monotonic() - began
            assert [one.status_code for one in answers] == [200] * WAITERS
            assert IDLE_SECONDS - 2 < took < LOCK_SECONDS
            print(f"{WAITERS} writes of the same task went through after {took:.1f} s")
            servers[0].process.send_signal(signal.SIGCONT)
            # Its transaction is gone: the call is done anew, or told that nothing was written.
            told = await stuck
            assert told.status_code in (200, 503), told.text
            task = (await awake.get("/T-1")).json()["task"]
            assert task["priority"] == "high"
            assert task.get("depends_on", []) == (["T-2"] if told.is_success else [])
            print(f"the thawed server answers {told.status_code}: {told.text[:200]}")
            assert (await frozen.patch("/T-1", json={"priority": "low"})).is_success
        await admin.close()
        await holder.close()
    finally:
        for server in servers:
            os.kill(server.process.pid, signal.SIGCONT)
            server.kill()


async def test_what_waits_for_a_lock_waits_longer_than_anybody_may_stand_still(pool):
    limits = [
        await pool.fetchval(f"SELECT current_setting('{name}')") for name in ("lock_timeout", "statement_timeout")
    ]
    assert limits == [f"{LOCK_SECONDS}s", "30s"]
    assert await pool.fetchval("SHOW idle_in_transaction_session_timeout") == f"{IDLE_SECONDS}s"
    assert IDLE_SECONDS < LOCK_SECONDS < 30
