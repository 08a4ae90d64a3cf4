"""Migrations of a filled database in use: the same schema as a new one, whoever is killed, blocks or comes second."""

import asyncio
import json
import random
import re
import subprocess
import sys
import time

import asyncpg
import pytest
from harness import TestDatabase, run_sql
from test_migrations import downgrade, names, pg_dump

from bmad_mcp import migrate
from bmad_mcp.errors import Unavailable
from bmad_mcp.migration_steps import LOCK_TIMEOUT_MS, name_in_partition
from bmad_mcp.migrations_folder import newest_revision

FILL = (
    "INSERT INTO bmad_projects (key, name) VALUES ('a', 'A'), ('b', 'B')",
    "INSERT INTO bmad_artifacts (project_id, number, kind, title, source, content_hash)"
    " SELECT id, n, 'prd', 'x', CASE n % 2 WHEN 0 THEN 'import' ELSE 'tool' END, 'h' || n"
    " FROM bmad_projects, generate_series(1, 1200) n",
    "INSERT INTO mcp_memories (project_id, category, author_kind, principal, text)"
    " SELECT id, 'lesson', 'agent', 'local', 'note ' || n FROM bmad_projects, generate_series(1, 50) n",
    "INSERT INTO bmad_tasks (project_id, number, title) SELECT id, n, 'x' FROM bmad_projects, generate_series(1, 2000) n",
    "INSERT INTO bmad_agent_activity (project_id, operation, subject, principal, call_id)"
    " SELECT id, 'x', 'task T-1', 'local', 'c' FROM bmad_projects, generate_series(1, 500) n",
)
# Runs the migrator again and again and kills it after the seconds on each line of stdin; the last one may end.
KILLED_MIGRATORS = """
import json, os, signal, sys, time
from bmad_mcp import migrate
connect = json.loads(sys.argv[1])
url = connect.pop("dsn", "postgresql://")
for line in sys.stdin:
    child = os.fork()
    if not child:
        migrate.upgrade(url, **connect)
        os._exit(0)
    time.sleep(float(line))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
migrate.upgrade(url, **connect)
"""


def schema(database: TestDatabase) -> list[str]:
    """The lines of its dump, whatever the order: columns that were dropped and added again come last."""
    return sorted(line.rstrip(",").strip() for line in pg_dump(database, "--schema-only").splitlines())


async def fill(database: TestDatabase) -> None:
    await run_sql(database.admin, *FILL)


async def gone_back(database: TestDatabase, to: str) -> list[str]:
    """Fill a new database and take it down to an earlier revision; the schema that it had."""
    await asyncio.to_thread(database.migrate)
    new = schema(database)
    await fill(database)
    await asyncio.to_thread(downgrade, database, to)
    return new


async def revision(database: TestDatabase) -> str:
    (found,) = await names(database, "SELECT version_num FROM bmad_alembic_version")
    return found


async def test_servers_write_while_an_upgrade_that_makes_triggers_goes_on(scratch_database, monkeypatch):
    await gone_back(scratch_database, "0017")
    # As it is before the upgrade's end, when it grants what is new.
    monkeypatch.setattr(migrate, "GRANTS", "SELECT 1")
    await asyncio.to_thread(scratch_database.migrate)
    (project,) = await names(scratch_database, "SELECT id::text FROM bmad_projects WHERE key = 'a'")
    await run_sql(
        scratch_database.app,
        f"SELECT set_config('app.project', '{project}', false)",
        f"UPDATE bmad_tasks SET status = 'blocked' WHERE project_id = '{project}'",
    )
    wrong = "SELECT count(*) FROM mcp_tallies WHERE left_status = 'pending' OR status = 'blocked'"
    assert await names(scratch_database, wrong) != {0}


def _kill_at(database: TestDatabase, seconds: list[float]) -> None:
    command = [sys.executable, "-c", KILLED_MIGRATORS, json.dumps(database.owner)]
    lines = "".join(f"{one}\n" for one in seconds)
    done = subprocess.run(command, input=lines, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def _is_resumed(database: TestDatabase, rounds: int, kills: int) -> None:
    await asyncio.to_thread(database.migrate)
    new = schema(database)
    await fill(database)
    for turn in range(rounds):
        await asyncio.to_thread(downgrade, database, "0001")
        chance = random.Random(turn)
        await asyncio.to_thread(_kill_at, database, [chance.uniform(0.03, 0.4) for _ in range(kills)])
        assert await revision(database) == newest_revision()
        assert schema(database) == new
        assert await names(database, "SELECT bool_and(indisvalid) FROM pg_index") == {True}


async def test_a_migrator_that_is_killed_is_gone_on_from_by_the_next(scratch_database):
    await _is_resumed(scratch_database, rounds=1, kills=5)


@pytest.mark.soak
async def test_migrators_are_killed_at_two_hundred_random_points(scratch_database):
    await _is_resumed(scratch_database, rounds=20, kills=10)


async def test_who_is_in_the_way_is_named_and_others_do_not_wait_behind_the_upgrade(scratch_database, monkeypatch):
    monkeypatch.setattr(migrate, "PATIENCE_SECONDS", 1.5)
    await asyncio.to_thread(scratch_database.migrate)
    # The revision after this one adds a column to the trail.
    await asyncio.to_thread(downgrade, scratch_database, "0006")
    holder = await asyncpg.connect(**scratch_database.owner)
    await holder.execute("SET application_name = 'report'")
    held = holder.transaction()
    await held.start()
    await holder.execute("LOCK TABLE bmad_agent_activity IN ACCESS SHARE MODE")
    told: list[str] = []
    connect = dict(scratch_database.owner)
    url = connect.pop("dsn", "postgresql://")
    upgrade = asyncio.create_task(asyncio.to_thread(lambda: migrate.upgrade(url, tell=told.append, **connect)))
    reader = await asyncpg.connect(**scratch_database.admin)
    longest = 0.0
    while not upgrade.done():
        began = time.monotonic()
        await reader.fetchval("SELECT count(*) FROM bmad_agent_activity")
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(0.01)
    named = rf"process {holder.get_server_pid()} \(\w+, report, idle in transaction, its transaction is \d+ s old\)"
    with pytest.raises(Unavailable, match=named) as refused:
        await upgrade
    assert "stays at revision 0006" in str(refused.value)
    assert re.search(f"{named} was in the way", "\n".join(told))
    assert LOCK_TIMEOUT_MS / 2000 < longest < 1
    await held.rollback()
    await asyncio.to_thread(scratch_database.migrate)
    assert await revision(scratch_database) == newest_revision()
    await holder.close()
    await reader.close()


async def test_of_two_upgrades_at_once_one_runs_and_the_other_says_that_it_waits(scratch_database):
    await asyncio.to_thread(scratch_database.migrate)
    holder = await asyncpg.connect(**scratch_database.admin)
    await holder.execute("SELECT pg_advisory_lock($1)", migrate.MIGRATION_LOCK)
    told: list[str] = []
    connect = dict(scratch_database.owner)
    url = connect.pop("dsn", "postgresql://")
    upgrade = asyncio.create_task(asyncio.to_thread(lambda: migrate.upgrade(url, tell=told.append, **connect)))
    async with asyncio.timeout(20):
        while not told:
            await asyncio.sleep(0.02)
    assert told == [
        f"Another upgrade is running (process {holder.get_server_pid()} of the database); this one waits for it."
    ]
    assert not upgrade.done()
    await holder.close()
    await upgrade


async def test_an_index_that_was_left_invalid_is_made_again(scratch_database):
    new = await gone_back(scratch_database, "0010")
    # What an ended CREATE INDEX CONCURRENTLY leaves: under the name that a migration wants, and not what it wants.
    with pytest.raises(asyncpg.UniqueViolationError):
        await run_sql(
            scratch_database.admin,
            "CREATE UNIQUE INDEX CONCURRENTLY ix_bmad_tasks_pending_number ON bmad_tasks (project_id)",
        )
    await asyncio.to_thread(scratch_database.migrate)
    assert schema(scratch_database) == new
    # And one of a schema that is up to date.
    spoil = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_bmad_tasks_pending_number'::regclass"
    await run_sql(scratch_database.admin, spoil)
    await asyncio.to_thread(scratch_database.migrate)
    assert await names(scratch_database, "SELECT bool_and(indisvalid) FROM pg_index") == {True}
    assert schema(scratch_database) == new


def test_the_part_of_an_index_on_a_partition_has_a_name_that_postgresql_keeps_whole():
    assert name_in_partition("ix_trail_id", "trail", "trail_2026_11") == "ix_trail_id_2026_11"
    long = name_in_partition("ix_" + "x" * 60, "trail", "trail_2026_11")
    assert len(long) == 63
    assert long != name_in_partition("ix_" + "x" * 60, "trail", "trail_2026_12")
