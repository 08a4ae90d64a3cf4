"""Brings a database's schema to this version while others use it: migrations, partitions, grants, invalid indexes."""

import asyncio
import random
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from bmad_mcp.db import DATABASE_FAILURES
from bmad_mcp.errors import Unavailable
from bmad_mcp.migration_steps import LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS
from bmad_mcp.migrations_folder import MIGRATIONS
from bmad_mcp.progress import Progress, untold
from bmad_mcp.schema_version import READ, SchemaVersion, invalid_indexes, version_of

# Any constant will do; it is ours in pg_locks.
MIGRATION_LOCK = 0x626D6164
MONTHS_AHEAD = 3
# Tries without a step forward end after this.
PATIENCE_SECONDS = 60.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 4.0
# How often to look who is in the way, and to say it while one statement waits.
LOOK_SECONDS, SAY_SECONDS = 0.1, 5.0
# A lock or a statement took too long, or two waited for each other.
WORTH_ANOTHER_TRY = ("55P03", "57014", "40P01")

BLOCKERS = """
SELECT a.pid, coalesce(a.usename, '') AS role, a.application_name AS program, coalesce(a.state, '') AS state,
    round(extract(epoch FROM clock_timestamp() - a.xact_start))::int AS seconds
FROM unnest(pg_blocking_pids($1)) AS b (pid) JOIN pg_stat_activity a USING (pid)
ORDER BY a.xact_start LIMIT 3
"""
HOLDER = """
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = :key AND objsubid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
# The index of a partitioned table is whole when its parts are.
INVALID = invalid_indexes("AND c.relkind = 'i' AND t.relnamespace = current_schema()::regnamespace")
# What an ended REINDEX CONCURRENTLY leaves beside the index itself.
LEFTOVER = re.compile(r"_cc(new|old)\d*$")

GRANTS = """
DO $do$
DECLARE
    schema_name text := current_schema();
    item record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bmad_app') OR current_user = 'bmad_app' THEN
        RETURN;
    END IF;
    -- In `public` everyone has it; a grant there would outlive our tables.
    IF NOT has_schema_privilege('bmad_app', schema_name, 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO bmad_app', schema_name);
    END IF;
    FOR item IN
        SELECT relname FROM pg_class
        WHERE relnamespace = schema_name::regnamespace AND relkind IN ('r', 'p')
          AND relname ~ '^(bmad|mcp)_' AND NOT relispartition
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I.%I TO bmad_app', schema_name, item.relname);
    END LOOP;
    FOR item IN
        SELECT relname FROM pg_class
        WHERE relnamespace = schema_name::regnamespace AND relkind = 'S' AND relname ~ '^mcp_pgqueuer'
    LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE %I.%I TO bmad_app', schema_name, item.relname);
    END LOOP;
    EXECUTE format('REVOKE UPDATE, DELETE ON %I.bmad_agent_activity FROM bmad_app', schema_name);
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON %I.bmad_alembic_version FROM bmad_app', schema_name);
END
$do$
"""


def configuration(connection: Connection | None = None, *, is_live: bool = True) -> Config:
    """Alembic's configuration, without a file: where the migrations are and the connection to run them on.

    Live, each migration commits by itself; otherwise all of them run in the caller's transaction.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    if connection is not None:
        config.attributes["connection"] = connection
        config.attributes["is_live"] = is_live
    return config


def head() -> str:
    """The newest revision that this version of the program has."""
    return ScriptDirectory.from_config(configuration()).get_current_head() or ""


def month_bounds(first: datetime, ahead: int) -> list[tuple[str, str, str]]:
    """(name suffix, first day, first day of the next month) for a month and those that follow it."""
    starts = [
        datetime(first.year + (first.month - 1 + n) // 12, (first.month - 1 + n) % 12 + 1, 1) for n in range(ahead + 2)
    ]
    return [(f"{a:%Y_%m}", f"{a:%Y-%m-%d}", f"{b:%Y-%m-%d}") for a, b in pairwise(starts)]


def _add_partition(connection: Connection, suffix: str, start: str, end: str) -> None:
    name = f"bmad_agent_activity_{suffix}"
    if connection.scalar(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": name}):
        return
    in_default = text("SELECT EXISTS (SELECT FROM bmad_agent_activity_other WHERE at >= :start AND at < :end)")
    bounds = {"start": datetime.fromisoformat(start + "+00:00"), "end": datetime.fromisoformat(end + "+00:00")}
    # Rows of that month wait in the default partition: it keeps them, and the month stays there.
    connection.execute(text("ALTER TABLE bmad_agent_activity_other NO FORCE ROW LEVEL SECURITY"))
    waiting = connection.scalar(in_default, bounds)
    connection.execute(text("ALTER TABLE bmad_agent_activity_other FORCE ROW LEVEL SECURITY"))
    if waiting:
        return
    connection.execute(
        text(
            f"CREATE TABLE {name} PARTITION OF bmad_agent_activity"
            f" FOR VALUES FROM ('{start} 00:00+00') TO ('{end} 00:00+00')"
        )
    )
    connection.execute(text(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"))
    connection.execute(text(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY"))
    connection.execute(
        text(
            f"CREATE POLICY bmad_project_scope ON {name}"
            " USING (project_id = bmad_project()) WITH CHECK (project_id = bmad_project())"
        )
    )


def _version(connection: Connection) -> SchemaVersion:
    with connection.begin():
        if not connection.scalar(text("SELECT to_regclass('bmad_alembic_version') IS NOT NULL")):
            return SchemaVersion(None)
        row = connection.execute(text(READ)).one_or_none()
    return version_of(None if row is None else (row[0], row[1]))


def _bring_up(connection: Connection) -> None:
    found = _version(connection)
    months = month_bounds(datetime.now(UTC), MONTHS_AHEAD)
    if found.revision is None:
        # Nobody is there to wait, so all of it or nothing.
        with connection.begin():
            command.upgrade(configuration(connection, is_live=False), "head")
            for month in months:
                _add_partition(connection, *month)
            connection.execute(text(GRANTS))
        return
    _limit(connection, STATEMENT_TIMEOUT_MS)
    # A schema of the release after this one stays as it is; it still needs its months.
    if found.fit != "newer":
        command.upgrade(configuration(connection), "head")
        _end(connection)
    for month in months:
        with connection.begin():
            _add_partition(connection, *month)
    with connection.begin():
        connection.execute(text(GRANTS))
    _mend_indexes(connection)


def _take_down(revision: str, connection: Connection) -> None:
    # Going back may write whole tables anew, which takes its time: servers are not meant to run meanwhile.
    _limit(connection, 0)
    command.downgrade(configuration(connection), revision)
    _end(connection)


def _limit(connection: Connection, statement_ms: int) -> None:
    """Whoever waits for a table's lock has everybody else wait behind him."""
    with connection.begin():
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT_MS}ms'"))
        connection.execute(text(f"SET statement_timeout = '{statement_ms}ms'"))
        # A role's own limit would end the pauses between two batches, or an index half made.
        connection.execute(text("SET idle_in_transaction_session_timeout = 0"))


def _end(connection: Connection) -> None:
    if connection.in_transaction():
        connection.commit()


def _mend_indexes(connection: Connection) -> None:
    """Make invalid indexes of ours again: they cost every write and serve no read."""
    with connection.begin():
        invalid = connection.scalars(text(INVALID)).all()
    if not invalid:
        return
    alone = connection.execution_options(isolation_level="AUTOCOMMIT")
    with alone.begin():
        for setting in ("lock_timeout", "statement_timeout"):
            alone.execute(text(f"SET {setting} = 0"))
        for name in invalid:
            how = "DROP INDEX CONCURRENTLY IF EXISTS" if LEFTOVER.search(name) else "REINDEX INDEX CONCURRENTLY"
            alone.execute(text(f'{how} "{name}"'))


class _Watch:
    """A second connection that sees whom the first one waits for, as nobody can tell when the wait is over."""

    def __init__(self, connect: dict[str, Any], pid: int, tell: Progress) -> None:
        self._connect, self._pid, self._tell = connect, pid, tell
        self.seen = ""

    async def run(self) -> None:
        """Look until cancelled; without a connection to spare nothing is seen."""
        # Most upgrades end before anybody is in the way.
        await asyncio.sleep(LOOK_SECONDS)
        with suppress(*DATABASE_FAILURES):
            connection = await asyncpg.connect(**self._connect)
            try:
                waited = 0.0
                while True:
                    found = [_named(row) for row in await connection.fetch(BLOCKERS, self._pid)]
                    waited = waited + LOOK_SECONDS if found else 0.0
                    if found:
                        self.seen = " and ".join(found)
                    if waited >= SAY_SECONDS:
                        self._tell(f"The upgrade waits for {self.seen}.")
                        waited = 0.0
                    await asyncio.sleep(LOOK_SECONDS)
            finally:
                connection.terminate()


def _named(row: Any) -> str:
    who = ", ".join(part for part in (row["role"], row["program"], row["state"], _open_for(row["seconds"])) if part)
    return f"process {row['pid']} ({who})"


def _open_for(seconds: int | None) -> str:
    return "" if seconds is None else f"its transaction is {seconds} s old"


async def _run(
    url: str, connect_args: dict[str, Any], work: Callable[[Connection], None], tell: Progress = untold
) -> None:
    target: URL = make_url(url).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(target, poolclass=NullPool, connect_args=connect_args)
    try:
        async with engine.connect() as connection:
            await _be_the_only_one(connection, tell)
            pid = await connection.scalar(text("SELECT pg_backend_pid()"))
            await connection.commit()
            watch = _Watch({"dsn": url} | connect_args, pid or 0, tell)
            watching = asyncio.create_task(watch.run())
            try:
                await _try(connection, work, watch, tell)
            finally:
                watching.cancel()
                await asyncio.wait({watching})
    finally:
        await engine.dispose()


async def _be_the_only_one(connection: AsyncConnection, tell: Progress) -> None:
    """Take the lock of migrators for as long as the connection lives; another one is waited for.

    Asked for again and again: one long wait would itself be a transaction, which an index made meanwhile waits for.
    """
    waited = 0.0
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": MIGRATION_LOCK}):
        if waited == 0.0:
            holder = await connection.scalar(text(HOLDER), {"key": MIGRATION_LOCK})
            tell(f"Another upgrade is running (process {holder} of the database); this one waits for it.")
        await connection.commit()
        pause = random.uniform(0.5, 1.5) * LOOK_SECONDS  # noqa: S311 - no secret
        waited += pause
        await asyncio.sleep(pause)
    await connection.commit()


async def _try(connection: AsyncConnection, work: Callable[[Connection], None], watch: _Watch, tell: Progress) -> None:
    """Do the work, again where somebody was in the way; each try goes on after the last migration that is done."""
    clock = asyncio.get_running_loop().time
    reached, since, pause = None, clock(), FIRST_PAUSE_SECONDS
    while True:
        try:
            await connection.run_sync(work)
            return
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in WORTH_ANOTHER_TRY:
                raise
            await connection.rollback()
            version = await connection.run_sync(_version)
            if version.revision != reached:
                reached, since, pause = version.revision, clock(), FIRST_PAUSE_SECONDS
            who = watch.seen or "somebody"
            if clock() - since >= PATIENCE_SECONDS:
                raise Unavailable(
                    f"The schema stays at revision {reached}: for {PATIENCE_SECONDS:.0f} s the next step found no moment"
                    f" without {who} in its way. What is done is kept. End that transaction, or wait for it, and run"
                    " `bmad-mcp db upgrade` again."
                ) from error
            tell(f"After revision {reached}, {who} was in the way; the upgrade lets others go first and tries again.")
        # Not in step with what comes regularly.
        await asyncio.sleep(random.uniform(0.5, 1.5) * pause)  # noqa: S311 - no secret
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def upgrade(url: str = "postgresql://", tell: Progress = untold, **connect_args: Any) -> None:
    """Bring the schema to the newest revision; blocking. Runs as the owner. `connect_args` go to asyncpg.

    Servers may work meanwhile. A new database gets everything or nothing. On one in use each migration is kept when it
    is done; whoever is killed in between is gone on from by the next. Raises Unavailable when somebody stays in the way.
    """
    asyncio.run(_run(url, connect_args, _bring_up, tell))


def downgrade(url: str = "postgresql://", revision: str = "base", **connect_args: Any) -> None:
    """Take the schema back to a revision; blocking. The base has nothing of ours."""
    asyncio.run(_run(url, connect_args, partial(_take_down, revision)))
