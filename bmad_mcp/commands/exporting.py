"""`export`: what changed in the database, written into a BMad project folder, with a report of each file."""

import asyncio
import json
from pathlib import Path

import click

from bmad_mcp.app import find_project
from bmad_mcp.bmad_files.exporting import export_folder
from bmad_mcp.bmad_files.writing.report import ExportReport
from bmad_mcp.call import OpenProject
from bmad_mcp.commands.failures import Failure
from bmad_mcp.commands.options import with_settings
from bmad_mcp.settings import Settings, slug


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)


@click.command("export")
@click.argument("folder", metavar="PATH", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show the diffs.")
@click.option("--mend", is_flag=True, help="Also set trackers that differ from their stories' files.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@with_settings
def command(settings: Settings, folder: Path, dry_run: bool, mend: bool, as_json: bool) -> None:
    """Write what changed in the database into the BMad project in PATH.

    Only the changed line or section of a file is touched. What was edited in a file since the last import stays; what
    both sides changed is reported and left alone.
    """
    folder = folder.resolve()
    if "project" not in settings.model_fields_set:
        settings = settings.model_copy(update={"project": slug(folder.name)})
    report = asyncio.run(_export(settings, folder, dry_run, mend))
    click.echo(json.dumps(report.as_json(), indent=2) if as_json else report.render(), nl=as_json)


async def _export(settings: Settings, folder: Path, dry_run: bool, mend: bool) -> ExportReport:
    async with find_project(settings, _tell) as (pool, project_id):
        if project_id is None:
            raise Failure(
                f"There is no project {settings.project!r} in the database. Name one with --project, or bring the"
                f" folder in first: bmad-mcp import {folder}"
            )
        opened = OpenProject(project_id, settings.project, pool)
        return await export_folder(opened, folder, dry_run=dry_run, mend=mend, progress=_tell)
