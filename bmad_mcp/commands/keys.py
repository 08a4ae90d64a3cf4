"""`keys`: the keys that memories and summaries are encrypted with, and changing them while servers run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import click

from bmad_mcp.call import OpenProject
from bmad_mcp.commands.failures import Failure
from bmad_mcp.commands.memory_project import tell
from bmad_mcp.commands.options import CommandGroup, with_settings
from bmad_mcp.commands.project_call import CALLER
from bmad_mcp.commands.tables import lines
from bmad_mcp.counts import counted
from bmad_mcp.database import Database
from bmad_mcp.db import open_pool, project_transaction
from bmad_mcp.encryption.master_keys import new_key
from bmad_mcp.encryption.vaults import Vaults
from bmad_mcp.jobs import queries
from bmad_mcp.rekeying.rotating import Rekeyed, State, encrypt, rotate, state_of
from bmad_mcp.settings import Settings

STATES = {False: "in use", True: "retired"}


@click.group("keys", cls=CommandGroup)
def command() -> None:
    """Make, list and change the keys that memories and summaries are encrypted with."""


@command.command("new", short_help="Print a new key.")
@click.option("--id", "name", metavar="ID", help="What the key is called (default: the date).")
@with_settings
def new_command(settings: Settings, name: str | None) -> None:
    """Print a new key; the database does not get it.

    Put it into BMAD_ENCRYPTION_KEYS of every server, keep a copy apart from the backups: what is encrypted with it can
    be read with it only.
    """
    try:
        made = new_key(f"k{datetime.now(UTC):%Y%m%d}" if name is None else name)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--id") from None
    if made.partition("=")[0] in (settings.read_master_keys() or {}):
        raise Failure("There is a key with that id already. Name the new one with --id.")
    click.echo(made)


@command.command("list", short_help="List the keys of every project.")
@with_settings
def list_command(settings: Settings) -> None:
    """List the keys of every project of the database, and how many texts each one seals."""
    masters = settings.read_master_keys() or {}
    tell(f"Keys of this process: {', '.join(masters) or 'none'}.")
    found = asyncio.run(_states(settings))
    rows = [
        (project, one.name, one.master, STATES[one.is_retired], f"{one.texts:,}")
        for project, state in found.items()
        for one in state.keys
    ]
    for line in lines(("PROJECT", "KEY", "WRAPPED BY", "STATE", "TEXTS"), rows, empty="No project is encrypted."):
        click.echo(line)
    for project, state in found.items():
        if state.keys and state.in_the_clear:
            click.echo(
                f"{project}: {counted(state.in_the_clear, 'text is', 'texts are')} in the clear. `bmad-mcp keys encrypt` seals what is."
            )
        if state.keys and state.naming:
            click.echo(
                f"{project}: {counted(state.naming, 'row names', 'rows name')} people. `bmad-mcp keys encrypt` gives them pseudonyms."
            )


@command.command("rotate", short_help="Change keys while servers run.")
@with_settings
def rotate_command(settings: Settings) -> None:
    """Give every project of the database a new key and seal all texts with it, while servers run.

    The new keys are wrapped by the first key of BMAD_ENCRYPTION_KEYS, and the old ones go when nothing is sealed with
    them any more. When it is broken off, run it again: it goes on.
    """
    asyncio.run(_each(settings, lambda opened, owner: rotate(opened, CALLER, progress=tell, owner=owner)))


@command.command("encrypt", short_help="Encrypt what was stored before.")
@with_settings
def encrypt_command(settings: Settings) -> None:
    """Encrypt what was stored in the clear before there were keys, in every project of the database.

    People get pseudonyms in the place of their names, also in the trail where the schema's owner runs this.
    Copies that PostgreSQL keeps of it stay until they are overwritten: in its log of changes, in free space, in backups.
    """
    asyncio.run(_each(settings, lambda opened, owner: encrypt(opened, CALLER, progress=tell, owner=owner)))


@asynccontextmanager
async def _projects(settings: Settings) -> AsyncIterator[tuple[Database, asyncpg.Pool, list[asyncpg.Record]]]:
    """The database, and every project of it: {id, key}."""
    database = Database(settings, tell)
    try:
        pool = await database.open_pool()
        try:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(queries.SEE_ALL)
                found = await connection.fetch(queries.PROJECTS)
            yield database, pool, found
        finally:
            await pool.close()
    finally:
        await asyncio.shield(database.close())


async def _states(settings: Settings) -> dict[str, State]:
    found = {}
    async with _projects(settings) as (_, pool, projects):
        for project in projects:
            async with project_transaction(pool, project["id"]) as db:
                found[project["key"]] = await state_of(db)
    return found


async def _each(settings: Settings, work: Callable[[OpenProject, asyncpg.Pool | None], Awaitable[Rekeyed]]) -> None:
    if settings.read_master_keys() is None:
        raise Failure("No key is set. `bmad-mcp keys new` makes one; put it into BMAD_ENCRYPTION_KEYS.")
    vaults = Vaults(settings.read_master_keys)
    async with _projects(settings) as (database, pool, projects), _owner(database) as owner:
        if not projects:
            click.echo("There is no project in the database.")
        # A key that is missing for the last project is told before the first one is changed.
        opened = [
            OpenProject(one["id"], one["key"], pool, vault=await vaults.of_project(pool, one["id"])) for one in projects
        ]
        for one in opened:
            click.echo(f"{one.key}: {_in_words(await work(one, owner))}")


def _in_words(done: Rekeyed) -> str:
    told = [f"{counted(done.changed, 'text was', 'texts were')} sealed"]
    if done.dropped:
        told.append(f"the old key is gone ({', '.join(done.dropped)})")
    if done.kept:
        told.append(f"texts are left that only {', '.join(done.kept)} seals, so it stays")
    if done.unreadable:
        told.append(
            f"{done.unreadable:,} cannot be decrypted and {'was' if done.unreadable == 1 else 'were'} left in place"
        )
    if done.named:
        told.append(f"{counted(done.named, 'row has', 'rows have')} pseudonyms in the place of names")
    if done.in_trail:
        told.append(
            f"{counted(done.in_trail, 'row of the trail names', 'rows of the trail name')} people, and only the schema's"
            " owner may change the trail: run"
            " `bmad-mcp keys encrypt` with its BMAD_DATABASE_URL"
        )
    return f"{'; '.join(told)}."


@asynccontextmanager
async def _owner(database: Database) -> AsyncIterator[asyncpg.Pool | None]:
    """Connections of the schema's owner; None where this process cannot work as that."""
    pool = await open_pool(**(await database.connections()).owner)
    try:
        yield pool if await pool.fetchval(queries.IS_OWNER) else None
    finally:
        await pool.close()
