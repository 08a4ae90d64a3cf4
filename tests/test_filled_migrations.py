"""Every table filled, down to the oldest revision and up again a step at a time: what survives a step is the same."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from every_table import empty_tables, fill_every_table
from harness import TestDatabase, run_sql, scratch
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from test_live_migrations import FILL, schema
from test_migrations import downgrade

from bmad_mcp import migrate
from bmad_mcp.encryption.master_keys import new_key

# More than one batch of them.
ARTIFACTS = FILL[:2]
COLUMNS = """
SELECT c.relname, array_agg(quote_ident(a.attname) ORDER BY a.attname) AS columns, (
    SELECT string_agg(quote_ident(k.attname), ', ' ORDER BY k.attname) FROM pg_index i
    JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = ANY(i.indkey) WHERE i.indrelid = c.oid AND i.indisprimary
) AS key
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'bmad_alembic_version'
GROUP BY c.oid, c.relname
"""
MISCOUNTS = "SELECT kind, status, ready_for, missing FROM bmad_miscounts()"
# 0002 has filled in that what was imported is what its file said.
WRONG_FILE_HASH = """
SELECT count(*) FROM bmad_artifacts
WHERE file_hash IS DISTINCT FROM CASE WHEN source = 'import' THEN content_hash END
"""

REVISIONS = [one.revision for one in ScriptDirectory.from_config(migrate.configuration()).walk_revisions()]
# From the newest to the oldest; below that one there is nothing of ours.
BELOW = dict(pairwise(REVISIONS))


@dataclass(frozen=True)
class Refusal:
    """A revision that nobody goes below while some rows are there: why, and what takes them away."""

    sentence: str
    ends_it: str


REFUSALS = {
    "0014": Refusal(
        "pseudonyms stand in the place of names: an older version could not read them", "DELETE FROM mcp_people"
    ),
    "0010": Refusal(
        "projects are encrypted: an older version could not read them", "DELETE FROM bmad_projects WHERE key = 'sealed'"
    ),
}


@pytest.fixture(scope="module")
def filled(cluster: TestDatabase) -> Iterator[TestDatabase]:
    """A database of this version, to be copied: many artifacts in two projects, and rows in every table in two more."""
    with scratch(cluster) as found:
        found.migrate()

        async def fill() -> None:
            await run_sql(found.admin, *ARTIFACTS)
            await fill_every_table(found.app, found.owner, "plain")
            await fill_every_table(found.app, found.owner, "sealed", new_key("k1"))

        asyncio.run(fill())
        yield found


@pytest.fixture
def copied(cluster: TestDatabase, filled: TestDatabase) -> Iterator[TestDatabase]:
    name = f"{filled.admin['database']}_copy"
    made = f"CREATE DATABASE {name} OWNER bmad_owner TEMPLATE {filled.admin['database']}"
    asyncio.run(run_sql(cluster.admin, made))
    try:
        yield cluster.named(name)
    finally:
        asyncio.run(run_sql(cluster.admin, f"DROP DATABASE {name} WITH (FORCE)"))


@asynccontextmanager
async def connected(database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**database.admin)
    try:
        yield connection
    finally:
        await connection.close()


async def contents(connection: asyncpg.Connection) -> dict[str, str]:
    """Each column of each table as one hash, its rows in the order of their keys."""
    found = {}
    for table, columns, key in await connection.fetch(COLUMNS):
        hashed = [f"md5(string_agg(coalesce(md5({one}::text), '-'), ',' ORDER BY {key}))" for one in columns]
        row = await connection.fetchrow(f"SELECT {', '.join(hashed)} FROM {table}")
        found |= {f"{table}.{column}": value for column, value in zip(columns, row, strict=True)}
    return found


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return sorted(column for column in before.keys() & after.keys() if before[column] != after[column])


async def miscounted(connection: asyncpg.Connection) -> list[tuple[str, ...]]:
    found = []
    for row in await connection.fetch("SELECT id::text FROM bmad_projects"):
        await connection.execute("SELECT set_config('app.project', $1, false)", row[0])
        found += [tuple(wrong) for wrong in await connection.fetch(MISCOUNTS)]
    return found


async def tallied(connection: asyncpg.Connection) -> dict[str, int]:
    """How many rows of each kind the tallies say that there are."""
    rows = await connection.fetch(
        "SELECT kind, sum(count) FILTER (WHERE status IS NOT NULL)"
        " - coalesce(sum(count) FILTER (WHERE left_status IS NOT NULL), 0) FROM mcp_tallies GROUP BY kind"
    )
    return {kind: int(count) for kind, count in rows}


def upgrade_to(database: TestDatabase, revision: str) -> None:
    """One step, as an upgrade of a database in use does it."""

    def work(connection: Connection) -> None:
        command.upgrade(migrate.configuration(connection), revision)
        migrate._end(connection)

    connect = dict(database.owner)
    asyncio.run(migrate._run(connect.pop("dsn", "postgresql://"), connect, work))


async def test_every_table_is_filled(filled):
    async with connected(filled) as admin:
        assert await empty_tables(admin) == set()


async def test_what_survives_a_step_down_or_up_is_the_same_in_every_table(copied):
    new = schema(copied)
    async with connected(copied) as admin:
        before = await contents(admin)
        for at, below in BELOW.items():
            if at in REFUSALS:
                await admin.execute(REFUSALS[at].ends_it)
                before = await contents(admin)
            await asyncio.to_thread(downgrade, copied, below)
            after = await contents(admin)
            assert changed(before, after) == [], f"{at} to {below}"
            before = after
        assert {one.partition(".")[0] for one in before} >= {"bmad_stories", "bmad_epics", "bmad_workflows"}
        for at, below in reversed(BELOW.items()):
            await asyncio.to_thread(upgrade_to, copied, at)
            after = await contents(admin)
            assert changed(before, after) == [], f"{below} to {at}"
            before = after
        # The months ahead and the rights are not of any revision.
        await asyncio.to_thread(copied.migrate)
        assert schema(copied) == new
        assert await admin.fetchval(WRONG_FILE_HASH) == 0
        assert await miscounted(admin) == []
        counted = await tallied(admin)
        for kind, table in (("task", "tasks"), ("story", "stories"), ("epic", "epics"), ("workflow", "workflows")):
            assert counted[kind] == await admin.fetchval(f"SELECT count(*) FROM bmad_{table}") > 0, kind


@pytest.mark.parametrize("at", REFUSALS)
async def test_nobody_goes_below_a_revision_that_alone_can_read_what_is_there(copied, at):
    async with connected(copied) as admin:
        # What a later revision refuses is not the question here.
        for later in (one for one in REFUSALS if one > at):
            await admin.execute(REFUSALS[later].ends_it)
        await asyncio.to_thread(downgrade, copied, at)
        before = schema(copied), await contents(admin)
        with pytest.raises(DBAPIError, match=REFUSALS[at].sentence):
            await asyncio.to_thread(downgrade, copied, BELOW[at])
        assert (schema(copied), await contents(admin)) == before
        assert await admin.fetchval("SELECT version_num FROM bmad_alembic_version") == at
