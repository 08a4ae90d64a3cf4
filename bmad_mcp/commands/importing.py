"""`import`: a BMad project folder into the database, with a report of each step and each deviation."""

import asyncio
import json
from pathlib import Path

import click

from bmad_mcp.app import find_project, open_workspace, opened_project
from bmad_mcp.bmad_files.belonging import other_folder, told_apart
from bmad_mcp.bmad_files.builtins import stored_builtins
from bmad_mcp.bmad_files.importing import import_read, read_bmad
from bmad_mcp.bmad_files.plan import plan
from bmad_mcp.bmad_files.report import ImportReport
from bmad_mcp.bmad_files.rows import wanted_rows
from bmad_mcp.bmad_files.values import BmadProject
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.commands.failures import Failure
from bmad_mcp.commands.options import with_settings
from bmad_mcp.db import uuid7
from bmad_mcp.errors import NotFound
from bmad_mcp.interchange.importing import Source, boards_in, import_from
from bmad_mcp.interchange.report import BoardReport
from bmad_mcp.settings import Settings
from bmad_mcp.told_commands import on_folder, slug


def _tell(sentence: str) -> None:
    click.echo(f"{sentence}", err=True)


@click.command("import")
@click.argument("folder", metavar="PATH", type=click.Path(exists=True, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show what would be written.")
@click.option(
    "--from",
    "source",
    type=click.Choice(["taskmaster", "backlog", "beads"]),
    help="PATH holds the board of another tool: Task Master, Backlog.md or beads.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@with_settings
def command(settings: Settings, folder: Path, dry_run: bool, source: Source | None, as_json: bool) -> None:
    """Bring the BMad project in PATH into the database.

    The project's key is the folder's name, unless --project or BMAD_PROJECT says otherwise. Nothing in the folder is
    changed. Importing again writes only what changed.
    """
    folder = folder.resolve()
    is_named = "project" in settings.model_fields_set
    home = folder if folder.is_dir() else folder.parent
    if source is None and home != folder:
        raise click.UsageError(f"{str(folder)!r} is a file. Give the project's folder.")
    if not is_named:
        settings = settings.model_copy(update={"project": slug(home.name)})
    report: ImportReport | BoardReport
    if source is not None:
        report = asyncio.run(_import_board(settings, source, folder, dry_run))
    else:
        report = asyncio.run((_plan if dry_run else _import)(settings, folder, is_named))
    click.echo(json.dumps(report.as_json(), indent=2) if as_json else report.render(), nl=as_json)


def _read(settings: Settings, folder: Path) -> BmadProject:
    """What the folder says; raises NotFound where nothing in it is of BMad, naming the boards of other tools."""
    try:
        return read_bmad(folder, _tell)
    except NotFound as error:
        command = on_folder("import", str(folder), settings.project)
        hints = [f" It has a board in {home}: {command} --from {source}" for source, home in boards_in(folder)]
        raise NotFound(f"{error.message}{''.join(hints)}") from None


async def _check_folder(opened: OpenProject, folder: Path, values: BmadProject, is_named: bool) -> None:
    """Two folders of one name are two projects, unless somebody says otherwise."""
    if not is_named and (other := await other_folder(opened, folder, values)) is not None:
        raise Failure(
            f"{told_apart(opened.key, folder, other)}. Nothing was written. Make a project of its own with --project NAME, or"
            f" say --project {opened.key} to take this folder into it."
        )


async def _import(settings: Settings, folder: Path, is_named: bool) -> ImportReport:
    # Before the project is made: a folder without BMad leaves nothing.
    values = await asyncio.to_thread(_read, settings, folder)
    async with open_workspace(settings, _tell) as workspace:
        opened = await workspace.project()
        await _check_folder(opened, folder, values, is_named)
        return await import_read(opened, folder, values, dry_run=False, progress=_tell, caller=Caller())


async def _import_board(settings: Settings, source: Source, path: Path, dry_run: bool) -> BoardReport:
    if not dry_run:
        async with open_workspace(settings, _tell) as workspace:
            return await import_from(await workspace.project(), source, path, progress=_tell)
    async with find_project(settings, _tell) as (pool, project_id):
        # A dry run makes no project: one that is not there holds nothing.
        opened = OpenProject(project_id or uuid7(), settings.project, pool)
        return await import_from(opened, source, path, dry_run=True, progress=_tell)


async def _plan(settings: Settings, folder: Path, is_named: bool) -> ImportReport:
    values = await asyncio.to_thread(_read, settings, folder)
    async with find_project(settings, _tell) as (pool, project_id):
        if project_id is not None:
            opened = await opened_project(settings, pool, project_id)
            await _check_folder(opened, folder, values, is_named)
            return await import_read(opened, folder, values, dry_run=True, progress=_tell, caller=Caller())
    # A dry run makes no project either: beside the built-in definitions, what it would write is new.
    wanted = wanted_rows(values, uuid7(), "import")
    steps = plan(wanted, stored_builtins())
    return ImportReport.of(wanted, steps, project=settings.project, folder=str(folder), dry_run=True)
