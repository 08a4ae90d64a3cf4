"""`audit`: the trail for auditors, in a file whose checksum is told."""

import asyncio
import sys
from datetime import datetime
from pathlib import Path

import click

from bmad_mcp.commands.memory_project import Moment, memory_project, tell
from bmad_mcp.commands.options import CommandGroup, with_settings
from bmad_mcp.counts import counted
from bmad_mcp.interchange.target import file_target
from bmad_mcp.jobs.audit import Exported, Format, export_trail
from bmad_mcp.settings import Settings

STDOUT = Path("-")


@click.group("audit", cls=CommandGroup)
def command() -> None:
    """Export who did what, when, and what was refused."""


@command.command("export")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--since", type=Moment(), help="From then on: a date, or how long ago (24h, 7d).")
@click.option("--until", type=Moment(), help="Up to then.")
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("--archived", is_flag=True, help="With what the job `retention` archived.")
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
@with_settings
def export_command(
    settings: Settings,
    file: Path | None,
    since: datetime | None,
    until: datetime | None,
    form: Format,
    archived: bool,
    overwrite: bool,
) -> None:
    """Write the project's trail to FILE or to stdout (also `-`), oldest row first.

    Each row has the time, the outcome (done or refused), the operation and its subject, the agent, the principal, the
    trace and the call. The number of rows and the SHA-256 of what was written are told at the end, on stderr.
    """
    file = None if file == STDOUT else file
    done = asyncio.run(_export(settings, file, since, until, form, archived=archived, overwrite=overwrite))
    click.echo(f"{counted(done.rows, 'row')}, sha256 {done.sha256}", err=True)


async def _export(
    settings: Settings,
    file: Path | None,
    since: datetime | None,
    until: datetime | None,
    form: Format,
    *,
    archived: bool,
    overwrite: bool,
) -> Exported:
    async with memory_project(settings) as opened:
        if file is None:
            return await export_trail(
                opened, sys.stdout.buffer, form, since=since, until=until, archived=archived, progress=tell
            )
        with file_target(file, overwrite=overwrite) as at, at.open("xb") as target:
            return await export_trail(opened, target, form, since=since, until=until, archived=archived, progress=tell)
