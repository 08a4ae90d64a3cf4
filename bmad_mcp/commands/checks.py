"""The checks of `doctor`: each tells what it found, and how to mend what is not well."""

import os
import platform
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg

from bmad_mcp.commands.finding import Finding, Level
from bmad_mcp.commands.job_checks import check_jobs
from bmad_mcp.commands.key_checks import check_keys
from bmad_mcp.commands.memory_checks import check_deliveries, check_memory
from bmad_mcp.commands.replica_checks import check_replica
from bmad_mcp.counts import counted
from bmad_mcp.database import Connections, Database
from bmad_mcp.db import DATABASE_FAILURES
from bmad_mcp.embedded.binaries import OLDEST_MAJOR, find_binaries
from bmad_mcp.embedded.data_home import DataHome, find_home
from bmad_mcp.embedded.file_lock import alone
from bmad_mcp.embedded.postmaster import Postmaster
from bmad_mcp.errors import BmadError
from bmad_mcp.projects.open import SEEK
from bmad_mcp.schema_version import invalid_indexes, read_version
from bmad_mcp.settings import Settings

LITTLE_SPACE = 1 << 30
NO_SPACE = 100 << 20
ANOTHER_FOLDER = "Choose another with BMAD_DATA_DIR or --data-dir, or give yourself the right to write there."

SERVER = "SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000"
ROLE = """
SELECT current_user AS name, rolsuper OR rolbypassrls AS is_unbound,
       (SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
          AND relname ~ '^(bmad|mcp)_' AND relname !~ '^(bmad_alembic_version$|mcp_pgqueuer|mcp_rate_buckets$)'
          AND NOT (relrowsecurity AND relforcerowsecurity)) AS open_tables
FROM pg_roles WHERE rolname = current_user
"""
UNSCOPED = "SELECT count(*) FROM bmad_projects"
PROJECT = "SELECT id FROM bmad_projects WHERE key = $1"
SCOPE = "SELECT set_config('app.project', $1, true)"
CONNECTIONS = """
SELECT count(*) AS used, current_setting('max_connections')::int AS allowed
FROM pg_stat_activity WHERE backend_type = 'client backend'
"""
STUCK = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction' AND state_change < now() - interval '1 minute'
"""


async def findings(settings: Settings) -> AsyncIterator[Finding]:
    """Every check in turn; one that cannot be made because of an earlier failure is left out."""
    yield check_python()
    if settings.database_url is None:
        for found in (*check_folders(settings.data_dir), *check_embedded(settings)):
            yield found
    database = Database(settings)
    try:
        async for found in check_database(database):
            yield found
    finally:
        await database.close()
    yield await check_memory(settings)


def check_python() -> Finding:
    """The interpreter and the system."""
    return Finding("ok", "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def check_folders(data_dir: Path) -> Iterator[Finding]:
    """The data folder: there or possible, writable, with room."""
    nearest = next(folder for folder in (data_dir, *data_dir.parents) if folder.exists())
    if not nearest.is_dir():
        yield Finding("fail", "Data folder", f"{nearest} is not a folder", ANOTHER_FOLDER)
        return
    if not os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("fail", "Data folder", f"{nearest} cannot be written", ANOTHER_FOLDER)
        return
    yield Finding("ok", "Data folder", f"{data_dir}" + ("" if nearest == data_dir else " (made at the first start)"))
    free = shutil.disk_usage(nearest).free
    text = f"{free / (1 << 30):.1f} GiB free"
    if free < NO_SPACE:
        yield Finding("fail", "Disk space", text, "Free some: PostgreSQL stops when it cannot write.")
    elif free < LITTLE_SPACE:
        yield Finding("warn", "Disk space", text, "Free some soon: PostgreSQL stops when it cannot write.")
    else:
        yield Finding("ok", "Disk space", text)


def check_embedded(settings: Settings) -> Iterator[Finding]:
    """The embedded PostgreSQL's programs, and locks or leftovers of starts that went wrong."""
    try:
        home = find_home(settings.data_dir / "postgres")
        yield Finding("ok", "Programs", str(find_binaries(major=Postmaster(home).data_major)))
    except BmadError as error:
        yield Finding("fail", "Programs", error.message, "Install what it names.")
        return
    except OSError as error:
        yield Finding("fail", "Data folder", f"{error.filename}: {error.strerror}", ANOTHER_FOLDER)
        return
    if home.is_elsewhere:
        why = f"PostgreSQL cannot run as {home.account.name} in {home.asked_for}"
        yield Finding("ok", "Data moved", f"to {home.folder}: {why}")
    yield from _check_locks(home)


def _check_locks(home: DataHome) -> Iterator[Finding]:
    if not home.folder.exists():
        yield Finding("ok", "Locks", "none yet")
        return
    try:
        with alone(home.control_lock) as is_free:
            if not is_free:
                yield Finding(
                    "warn",
                    "Locks",
                    f"another process is starting or stopping PostgreSQL and holds {home.control_lock}",
                    "If it stays so for minutes, end that process: lsof shows which.",
                )
                return
            is_running = Postmaster(home).is_alive()
            with alone(home.users_lock) as is_unused:
                unused = is_unused
    except OSError as error:
        yield Finding("fail", "Locks", f"{error.filename}: {error.strerror}", "Run as the folder's owner.")
        return
    if is_running and unused:
        yield Finding(
            "warn", "Locks", "PostgreSQL runs and no process uses it", "The next command stops it: nothing to do."
        )
    elif (home.folder / "data.tmp").exists():
        yield Finding(
            "warn", "Locks", "an interrupted first start left data.tmp", "The next start removes it: nothing to do."
        )
    else:
        yield Finding("ok", "Locks", "in use" if is_running else "free")


async def check_database(database: Database) -> AsyncIterator[Finding]:
    """The connection, the version, the schema, and that row-level security binds the server."""
    try:
        connections = await database.connections()
        connection = await asyncpg.connect(**connections.app, timeout=10)
    except (BmadError, TimeoutError, *DATABASE_FAILURES) as error:
        mend = (
            "The log beside the data tells more."
            if database.cluster is not None
            else "Check BMAD_DATABASE_URL, and that the server runs and lets this machine in."
        )
        yield Finding("fail", "Connection", str(error) or type(error).__name__, mend)
        return
    try:
        async for found in _check_connected(database, connections, connection):
            yield found
    finally:
        with suppress(*DATABASE_FAILURES):
            await connection.close()


async def _check_connected(
    database: Database, connections: Connections, connection: asyncpg.Connection
) -> AsyncIterator[Finding]:
    version, major = await connection.fetchrow(SERVER)
    if major < OLDEST_MAJOR:
        yield Finding("fail", "Connection", f"PostgreSQL {version}", f"Use PostgreSQL {OLDEST_MAJOR} or newer.")
        return
    kind = "embedded" if database.cluster is not None else "of BMAD_DATABASE_URL"
    yield Finding("ok", "Connection", f"PostgreSQL {version}, {kind}")
    version = await read_version(connection)
    if version.fit == "same":
        yield Finding("ok", "Schema", f"revision {version.revision}")
    elif version.fit == "newer":
        yield Finding("ok", "Schema", version.sentence())
    elif version.fit == "too new":
        yield Finding("fail", "Schema", f"revision {version.revision}, newer than this version", "Upgrade bmad-mcp.")
        return
    else:
        level: Level = "warn" if database.cluster is not None else "fail"
        yield Finding(level, "Schema", version.sentence(), "Run: bmad-mcp db upgrade")
        return
    yield await _check_indexes(connection)
    yield await _check_role(connection)
    yield await _check_project(connection, database.settings.project)
    async for found in _check_memories(connection, database.settings):
        yield found
    async for found in check_jobs(connection, database.settings):
        yield found
    yield await _check_load(connection)
    async for found in check_replica(database):
        yield found


async def _check_indexes(connection: asyncpg.Connection) -> Finding:
    invalid = [row["relname"] for row in await connection.fetch(invalid_indexes())]
    if invalid:
        return Finding("warn", "Indexes", f"invalid: {', '.join(invalid)}", "Run: bmad-mcp db upgrade")
    return Finding("ok", "Indexes", "all valid")


async def _check_role(connection: asyncpg.Connection) -> Finding:
    row: Any = await connection.fetchrow(ROLE)
    seen = await connection.fetchval(UNSCOPED)
    if row["is_unbound"] or seen:
        return Finding(
            "fail", "Role", f"row-level security does not bind {row['name']}", "Run: bmad-mcp db upgrade as the owner."
        )
    if row["open_tables"]:
        text = f"row-level security is not forced on {counted(row['open_tables'], 'table')}"
        return Finding(
            "fail", "Role", text, "Restore the schema from a backup, or ALTER TABLE … FORCE ROW LEVEL SECURITY."
        )
    return Finding("ok", "Role", f"{row['name']}, bound by row-level security")


async def _check_project(connection: asyncpg.Connection, key: str) -> Finding:
    async with connection.transaction():
        await connection.execute(SEEK, key)
        found = await connection.fetchval(PROJECT, key)
    return Finding("ok", "Project", key if found else f"{key} is not there yet; `serve` or `import` makes it")


async def _check_memories(connection: asyncpg.Connection, settings: Settings) -> AsyncIterator[Finding]:
    async with connection.transaction(readonly=True):
        await connection.execute(SEEK, settings.project)
        project_id = await connection.fetchval(PROJECT, settings.project)
        if project_id is not None:
            await connection.execute(SCOPE, str(project_id))
            async for found in check_deliveries(connection, settings):
                yield found
            async for found in check_keys(connection, settings, project_id):
                yield found


async def _check_load(connection: asyncpg.Connection) -> Finding:
    row: Any = await connection.fetchrow(CONNECTIONS)
    text = f"{row['used']} of {row['allowed']} connections in use"
    if row["used"] > row["allowed"] * 0.8:
        return Finding("warn", "Sessions", text, "Close assistants that are not needed, or raise max_connections.")
    if stuck := await connection.fetchval(STUCK):
        return Finding(
            "warn",
            "Sessions",
            f"{text}; {stuck} idle in a transaction for over a minute",
            "They end by themselves soon.",
        )
    return Finding("ok", "Sessions", text)
