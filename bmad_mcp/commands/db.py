"""`db`: the schema's upgrade, the database's address, and backups."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import click
from alembic.util.exc import CommandError
from sqlalchemy.exc import DBAPIError

from bmad_mcp.commands.app_role import ensure_app_role
from bmad_mcp.commands.backup import restore_backup, write_backup
from bmad_mcp.commands.citus import read_schema, statements
from bmad_mcp.commands.options import CommandGroup, with_settings
from bmad_mcp.database import Connections, Database, upgrade
from bmad_mcp.db import DATABASE_FAILURES, THROUGH_POOLER
from bmad_mcp.embedded.endpoints import ADMIN_ROLE, APP_ROLE, OWNER_ROLE
from bmad_mcp.errors import Conflict, Unavailable
from bmad_mcp.projects.open import FIND, SEEK
from bmad_mcp.schema_version import SchemaVersion, read_version
from bmad_mcp.settings import Settings

PROJECTS_SHOWN = 20
PROJECT_KEYS = "SELECT key FROM bmad_projects ORDER BY updated_at DESC, key"


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)


@click.group("db", cls=CommandGroup)
def command() -> None:
    """Upgrade, reach, back up and restore the database."""


@command.command("upgrade")
@with_settings
def upgrade_command(settings: Settings) -> None:
    """Bring the schema to this version; also makes the role that the server works as.

    On the embedded database this also happens by itself.
    """
    click.echo(asyncio.run(_upgrade(settings)))


@command.command("url")
@click.option("--owner", is_flag=True, help="As the schema's owner, not as the role that the server works as.")
@click.option("--hold", is_flag=True, help="Keep the embedded PostgreSQL up until Ctrl-C.")
@with_settings
def url_command(settings: Settings, owner: bool, hold: bool) -> None:
    """Print an address for psql and every other libpq client.

    Row-level security binds these roles too, so the address brings the project along.
    """
    asyncio.run(_url(settings, owner=owner, hold=hold))


@command.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@with_settings
def backup_command(settings: Settings, file: Path) -> None:
    """Write all projects to FILE, in PostgreSQL's custom format; servers may run meanwhile."""
    click.echo(asyncio.run(write_backup(settings, file)))


@command.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Replace what the database holds now.")
@with_settings
def restore_command(settings: Settings, file: Path, yes: bool) -> None:
    """Replace all projects with those in FILE, which `db backup` wrote.

    The embedded database is exchanged when the backup is in whole, and left alone when it is not. An external database
    has to be empty of ours.
    """
    if not yes:
        raise click.UsageError("This replaces every project in the database. Add --yes if that is what you want.")
    click.echo(asyncio.run(restore_backup(settings, file, _bring_up, _tell)))


@command.command("citus")
@with_settings
def citus_command(settings: Settings) -> None:
    """Print the statements that distribute the schema by project over Citus.

    They are made of the tables in the database, and printed only when those keep the rules of Citus.
    """
    click.echo("\n".join(asyncio.run(_citus(settings))))


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[tuple[Database, dict[str, Any]]]:
    """The database, and asyncpg.connect arguments of the owner; raises Unavailable when it does not answer."""
    database = Database(settings, _tell)
    try:
        yield database, await _owner(database)
    except DATABASE_FAILURES as error:
        raise Unavailable(f"The database cannot be used: {error}. `bmad-mcp doctor` checks it.") from error
    finally:
        await asyncio.shield(database.close())


async def _citus(settings: Settings) -> list[str]:
    async with _connected(settings) as (database, _):
        connection = await asyncpg.connect(**(await database.migrated()).owner)
        try:
            return list(statements(await read_schema(connection)))
        finally:
            await connection.close()


async def _owner(database: Database) -> dict[str, Any]:
    if database.cluster is not None:
        return (await database.connections()).owner
    # connections() refuses a superuser without the app role, which is what an upgrade mends.
    settings = database.settings
    url = settings.database_direct_url or settings.database_url
    assert url is not None
    return {"dsn": url.get_secret_value()}


async def _upgrade(settings: Settings) -> str:
    async with _connected(settings) as (database, owner):
        return await _bring_up(database, owner)


async def _bring_up(database: Database, owner: dict[str, Any]) -> str:
    connection = await asyncpg.connect(**owner)
    try:
        before = await read_version(connection)
        told = "" if database.cluster is not None else await ensure_app_role(connection, *await _app_users(database))
    finally:
        await connection.close()
    try:
        await upgrade(owner, _tell)
    except CommandError as error:
        raise Conflict(
            f"The database is at revision {before.revision}, which this version of bmad-mcp does not know ({error})."
            " Upgrade bmad-mcp."
        ) from error
    except DBAPIError as error:
        cause = error.orig.__cause__ if error.orig is not None else None
        left = "nothing was changed" if before.revision is None else "what was done before that is kept; run it again"
        raise Unavailable(f"The schema could not be upgraded, and {left}: {cause or error.orig}.") from error
    return "\n".join(part for part in (told, await _came(owner, before)) if part)


async def _came(owner: dict[str, Any], before: SchemaVersion) -> str:
    """Where the schema is now, and where it was."""
    connection = await asyncpg.connect(**owner)
    try:
        now = await read_version(connection)
    finally:
        await connection.close()
    if before.revision == now.revision:
        return now.sentence()
    return f"{now.sentence().removesuffix('.')} (it was {before.revision or 'empty'})."


async def _app_users(database: Database) -> list[str]:
    """The role of BMAD_DATABASE_URL, when another one upgrades the schema."""
    settings = database.settings
    if settings.database_direct_url is None or settings.database_url is None:
        return []
    connection = await asyncpg.connect(settings.database_url.get_secret_value(), **THROUGH_POOLER)
    try:
        return [await connection.fetchval("SELECT current_user")]
    finally:
        await connection.close()


async def _url(settings: Settings, *, owner: bool, hold: bool) -> None:
    async with _connected(settings) as (database, _):
        connections = await database.migrated()
        address = await _address(database, connections, owner=owner)
        is_there = await _project_id(connections.app, settings.project) is not None
        warning = "" if is_there else await _no_project(database, settings.project)
        click.echo(address)
        if warning:
            _tell(warning)
        if database.cluster is None:
            return
        if hold:
            _tell("The embedded PostgreSQL stays up until Ctrl-C.")
            ended = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, ended.set)
            await ended.wait()
        else:
            _tell("It answers while a server or `bmad-mcp db url --hold` runs.")


async def _address(database: Database, connections: Connections, *, owner: bool) -> str:
    project_id = await _project_id(connections.app, database.settings.project)
    options = [f"-c app.project={project_id}"] if project_id else []
    if database.cluster is not None:
        endpoints = await asyncio.to_thread(database.cluster.start)
        url = endpoints.libpq_url(OWNER_ROLE if owner else APP_ROLE)
    else:
        url = str(connections.owner["dsn"])
        role = (await database.direct()).get("server_settings", {}).get("role")
        if role and not owner:
            options.append(f"-c role={role}")
    if not options:
        return url
    return f"{url}{'&' if '?' in url else '?'}options={quote(' '.join(options))}"


async def _no_project(database: Database, key: str) -> str:
    """What is to be said of an address that names no project."""
    keys = await _project_keys(database)
    listed = ", ".join(keys[:PROJECTS_SHOWN]) + (
        f" and {len(keys) - PROJECTS_SHOWN} more" if len(keys) > PROJECTS_SHOWN else ""
    )
    there = f" There are: {listed}." if keys else ""
    return (
        f"There is no project {key!r}, so the address names none, and row-level security hides every row from psql."
        f"{there} Choose one with --project."
    )


async def _project_keys(database: Database) -> list[str]:
    """The projects, as far as this process may see past row-level security."""
    if database.cluster is not None:
        connect = (await asyncio.to_thread(database.cluster.start)).connect_args(ADMIN_ROLE)
    else:
        connect = await _owner(database)
    connection = await asyncpg.connect(**connect)
    try:
        return [row["key"] for row in await connection.fetch(PROJECT_KEYS)]
    finally:
        await connection.close()


async def _project_id(connect: dict[str, Any], key: str) -> str | None:
    connection = await asyncpg.connect(**connect)
    try:
        async with connection.transaction():
            await connection.execute(SEEK, key)
            found = await connection.fetchval(FIND, key)
        return str(found) if found else None
    finally:
        await connection.close()
