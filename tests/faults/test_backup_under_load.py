"""A backup that is taken while clients work is the database as it was at one moment, whole and restorable."""

import asyncio
import copy
from contextlib import asynccontextmanager

import asyncpg
import pytest
from commands.command import CLEAN, succeeds
from data_dirs import data_dir, new_data_dir
from database_facts import facts, hashes
from faults.ledger import Ledger
from faults.working_client import WorkingClient
from harness import EXTERNAL
from processes import fresh_key
from server.http_process import HttpServer

from bmad_mcp.commands import backup
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.endpoints import ADMIN_ROLE
from bmad_mcp.settings import Settings

__all__ = ["data_dir"]

pytestmark = pytest.mark.skipif(bool(EXTERNAL), reason="it compares two embedded clusters")
CLIENTS = 3


@asynccontextmanager
async def working(address: str, ledger: Ledger):
    """Clients at work, each of which ends with what it has begun."""
    clients = [WorkingClient(f"client {number}", [address], ledger, number) for number in range(CLIENTS)]
    tasks = [asyncio.create_task(one.run()) for one in clients]
    yield
    for one in clients:
        one.end()
    await asyncio.gather(*tasks)


async def until(ledger: Ledger, acknowledged: int) -> None:
    async with asyncio.timeout(60):
        while ledger.acknowledged < acknowledged:
            await asyncio.sleep(0.01)


async def test_a_backup_under_load_is_the_database_at_one_moment(data_dir, tmp_path, monkeypatch):
    project, ledger, file = fresh_key("backup"), Ledger(), tmp_path / "all.dump"
    env = {**CLEAN, "BMAD_DATA_DIR": str(data_dir), "BMAD_PROJECT": project, "BMAD_MEMORY_PROVIDER": "builtin"}
    server = HttpServer(env, "--port", "0")
    run = backup._run
    try:
        address = await asyncio.to_thread(server.ready)
        with Cluster(data_dir / "postgres") as endpoints:
            source = await asyncpg.connect(**endpoints.connect_args(ADMIN_ROLE))
            async with working(address, ledger):
                await until(ledger, 40)
                known = copy.deepcopy(ledger)
                moment = source.transaction(isolation="repeatable_read", readonly=True)
                await moment.start()
                snapshot = await source.fetchval("SELECT pg_export_snapshot()")

                # pg_dump takes a snapshot of its own; here it is one that the test can look into.
                async def run_at(place, program, *arguments):
                    at = [f"--snapshot={snapshot}"] if program == "pg_dump" else []
                    return await run(place, program, *at, *arguments)

                monkeypatch.setattr(backup, "_run", run_at)
                await until(ledger, known.acknowledged + 10)
                await backup.write_backup(Settings(data_dir=data_dir), file)
                during = ledger.acknowledged
                await until(ledger, during + 10)
            saved, meant = await hashes(source), await facts(source)
            await moment.rollback()
            assert await hashes(source) != saved
            await source.close()
    finally:
        server.kill()
    with new_data_dir() as other:
        await asyncio.to_thread(succeeds, {"BMAD_DATA_DIR": str(other)}, "db", "restore", str(file), "--yes")
        with Cluster(other / "postgres") as endpoints:
            restored = await asyncpg.connect(**endpoints.connect_args(ADMIN_ROLE))
            assert await hashes(restored) == saved
            assert await facts(restored) == meant
            await known.check(restored, project)
            await restored.close()
    assert during > known.acknowledged + 10
