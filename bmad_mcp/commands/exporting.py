"""`export`: into a BMad project folder, only what changed; or the whole project as JSON, CSV or Markdown."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from bmad_mcp.app import find_project, opened_project
from bmad_mcp.bmad_files.exporting import export_folder
from bmad_mcp.call import OpenProject
from bmad_mcp.commands.failures import Failure
from bmad_mcp.commands.options import with_settings
from bmad_mcp.settings import Settings
from bmad_mcp.told_commands import on_folder, slug


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)


@click.command("export")
@click.argument("target", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show the diffs.")
@click.option("--mend", is_flag=True, help="Also set trackers that differ from their stories' files.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "csv", "markdown"]),
    help="Write the whole project instead: to a file (json) or a new folder (csv, markdown).",
)
@click.option("--overwrite", is_flag=True, help="With --format: replace what an earlier export wrote there.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@with_settings
def command(
    settings: Settings, target: Path, dry_run: bool, mend: bool, form: str | None, overwrite: bool, as_json: bool
) -> None:
    """Write what changed in the database into the BMad project in PATH.

    Only the changed line or section of a file is touched. What was edited in a file since the last import stays; what
    both sides changed is reported and left alone.

    With --format, write everything that the project has, so that you can leave with it.

    The exit code is 1 when a file could not be written.
    """
    if form is not None:
        if dry_run or mend:
            raise click.UsageError("--dry-run and --mend belong to an export into BMad files, without --format.")
        if target == Path("-"):
            raise click.UsageError("An export of a whole project goes to a file or a folder. Give its name.")
        report = asyncio.run(_export_as(settings, form, target.absolute(), overwrite))
    else:
        if overwrite:
            raise click.UsageError("--overwrite belongs to --format.")
        if not target.is_dir():
            raise click.UsageError(f"There is no folder {str(target)!r}. Give the path of the project's folder.")
        folder = target.resolve()
        if "project" not in settings.model_fields_set:
            settings = settings.model_copy(update={"project": slug(folder.name)})
        report = asyncio.run(_export(settings, folder, dry_run, mend))
    click.echo(json.dumps(report.as_json(), indent=2) if as_json else report.render(), nl=as_json)
    if form is None and report.refused and not dry_run:
        # A script hears that files are not as they should be; a conflict is for people, and nothing failed.
        click.get_current_context().exit(1)


@asynccontextmanager
async def _opened(settings: Settings, mend: str) -> AsyncIterator[OpenProject]:
    async with find_project(settings, _tell) as (pool, project_id):
        if project_id is None:
            raise Failure(f"There is no project {settings.project!r} in the database. Name one with --project{mend}.")
        yield await opened_project(settings, pool, project_id)


async def _export(settings: Settings, folder: Path, dry_run: bool, mend: bool) -> Any:
    async with _opened(
        settings, f", or bring the folder in first: {on_folder('import', str(folder), settings.project)}"
    ) as opened:
        return await export_folder(opened, folder, dry_run=dry_run, mend="all" if mend else "none", progress=_tell)


async def _export_as(settings: Settings, form: str, target: Path, overwrite: bool) -> Any:
    export_as = import_module("bmad_mcp.interchange.exporting").export_as
    async with _opened(settings, "") as opened:
        return await export_as(opened, form, target, _tell, overwrite=overwrite)
