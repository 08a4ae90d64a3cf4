"""Brings a database's schema to this version: migrations, partitions and grants, once however many ask."""

import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from bmad_mcp.migrations_folder import MIGRATIONS

# Any constant will do; it is ours in pg_locks.
MIGRATION_LOCK = 0x626D6164
MONTHS_AHEAD = 3
LOCK_SECONDS = 2
LOCK_TRIES = 5
LOCK_PAUSE_SECONDS = 1.0
LOCK_NOT_AVAILABLE = "55P03"

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


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration, without a file: where the migrations are and the connection to run them on."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    if connection is not None:
        config.attributes["connection"] = connection
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


def _add_partitions(connection: Connection) -> None:
    for suffix, start, end in month_bounds(datetime.now(UTC), MONTHS_AHEAD):
        name = f"bmad_agent_activity_{suffix}"
        if connection.scalar(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": name}):
            continue
        in_default = text("SELECT EXISTS (SELECT FROM bmad_agent_activity_other WHERE at >= :start AND at < :end)")
        bounds = {"start": datetime.fromisoformat(start + "+00:00"), "end": datetime.fromisoformat(end + "+00:00")}
        # Rows of that month wait in the default partition: it keeps them, and the month stays there.
        connection.execute(text("ALTER TABLE bmad_agent_activity_other NO FORCE ROW LEVEL SECURITY"))
        waiting = connection.scalar(in_default, bounds)
        connection.execute(text("ALTER TABLE bmad_agent_activity_other FORCE ROW LEVEL SECURITY"))
        if waiting:
            continue
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


def _bring_up(connection: Connection) -> None:
    # Held to the end of the transaction: a second migrator waits and then finds nothing to do.
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    # Whoever waits for a table's lock has everybody else wait behind him.
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
    command.upgrade(configuration(connection), "head")
    _add_partitions(connection)
    connection.execute(text(GRANTS))


def _take_down(revision: str, connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    command.downgrade(configuration(connection), revision)


async def _run(url: str, connect_args: dict[str, Any], work: Any) -> None:
    target: URL = make_url(url).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(target, poolclass=NullPool, connect_args=connect_args)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(work)
    finally:
        await engine.dispose()


def upgrade(url: str = "postgresql://", **connect_args: Any) -> None:
    """Bring the schema to the newest revision; blocking. Runs as the owner. `connect_args` go to asyncpg.

    A table that others keep locked is tried a few times, then DBAPIError is raised and nothing is changed.
    """
    for tries_left in reversed(range(LOCK_TRIES)):
        try:
            asyncio.run(_run(url, connect_args, _bring_up))
            return
        except DBAPIError as error:
            if not tries_left or getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
        time.sleep(LOCK_PAUSE_SECONDS)


def downgrade(url: str = "postgresql://", revision: str = "base", **connect_args: Any) -> None:
    """Take the schema back to a revision; blocking. The base has nothing of ours."""
    asyncio.run(_run(url, connect_args, partial(_take_down, revision)))
