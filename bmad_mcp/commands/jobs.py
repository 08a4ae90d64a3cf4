"""`jobs`: what runs by itself, running it now, how long things are kept, and taking out what was archived."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from bmad_mcp.app import memory_embedder, memory_services
from bmad_mcp.call import OpenProject
from bmad_mcp.commands.failures import Failure
from bmad_mcp.commands.memory_project import memory_project, tell
from bmad_mcp.commands.options import CommandGroup, with_settings
from bmad_mcp.commands.project_call import CALLER
from bmad_mcp.commands.running_jobs import job_context
from bmad_mcp.commands.tables import lines
from bmad_mcp.counts import counted
from bmad_mcp.database import Database
from bmad_mcp.errors import NotFound
from bmad_mcp.interchange.target import file_target
from bmad_mcp.jobs.archive import contents, pages, remove
from bmad_mcp.jobs.job import JobContext, Outcome
from bmad_mcp.jobs.known import BY_NAME, JOBS
from bmad_mcp.jobs.policies import KINDS, change_policies, read_policies
from bmad_mcp.jobs.schedule import Ran, Schedule, State, states
from bmad_mcp.memory.elapsed import ago, in_words
from bmad_mcp.settings import Settings
from bmad_mcp.told_commands import in_project

ALL_PROJECTS = click.option("--all-projects", "all_projects", is_flag=True, help="Of every project of the database.")


@click.group("jobs", cls=CommandGroup)
def command() -> None:
    """Show and run what a server does by itself, and say how long things are kept."""


@asynccontextmanager
async def _here(settings: Settings) -> AsyncIterator[tuple[Database, JobContext]]:
    """The database, and what jobs work with."""
    database = Database(settings, tell)
    services = memory_services(settings)
    try:
        async with job_context(database, services, memory_embedder(settings)) as context:
            yield database, context
    finally:
        if services is not None:
            await services.aclose()
        await asyncio.shield(database.close())


@command.command("list")
@ALL_PROJECTS
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@with_settings
def list_command(settings: Settings, all_projects: bool, as_json: bool) -> None:
    """List the jobs of the project and of the database: when they ran, when they run next, and what failed."""
    found, left = asyncio.run(_states(settings, all_projects))
    if as_json:
        click.echo(json.dumps([_as_data(one) for one in found], indent=2, ensure_ascii=False))
        return
    for line in lines(
        ("JOB", "PROJECT", "LAST RUN", "TOOK", "NEXT RUN", "STATE"), [_row(one, left) for one in found], empty=""
    ):
        click.echo(line)
    if failed := [(one.unit.name, one.error) for one in found if one.error]:
        click.echo()
        for line in lines(("FAILED", "WHY"), failed, empty=""):
            click.echo(line)


async def _states(settings: Settings, all_projects: bool) -> tuple[list[State], dict[str, str]]:
    """The jobs, and what a process with these settings lacks for those that it leaves to others."""
    async with _here(settings) as (_, context):
        left = {job.name: job.need.missing for job in JOBS if job.need and not await job.can_run(context)}
        found = await states(context.pool, JOBS, None if all_projects else settings.project)
        return found, left


def _row(one: State, left: Mapping[str, str]) -> tuple[str, ...]:
    return (
        one.unit.job.name,
        one.unit.key or "",
        ago(one.ended_at) if one.ended_at else "never",
        f"{one.seconds:.1f} s" if one.seconds is not None else "",
        left.get(one.unit.job.name) or _next(one),
        _state(one),
    )


def _state(one: State) -> str:
    if one.is_running:
        return "runs now"
    if one.failures:
        return "failed" if one.failures == 1 else f"failed {one.failures:,} times"
    return _in_words(one.result) or ("ok" if one.ended_at else "")


def _in_words(outcome: Outcome) -> str:
    return ", ".join(f"{what} {value}" for what, value in outcome.items() if what != "service")


def _next(one: State) -> str:
    if one.next_run is None or one.next_run <= datetime.now(UTC):
        return "due"
    return f"in {in_words((one.next_run - datetime.now(UTC)).total_seconds()) or 'a moment'}"


def _as_data(one: State) -> dict[str, Any]:
    return {
        "job": one.unit.job.name,
        "told": one.unit.job.told,
        "project": one.unit.key,
        "every_seconds": int(one.unit.job.every.total_seconds()),
        "last_run": one.ended_at.isoformat() if one.ended_at else None,
        "seconds": one.seconds,
        "next_run": one.next_run.isoformat() if one.next_run else None,
        "is_running": one.is_running,
        "failures": one.failures,
        "error": one.error,
        "result": dict(one.result),
    }


@command.command("run")
@click.argument("name", metavar="NAME", type=click.Choice(sorted(BY_NAME)))
@ALL_PROJECTS
@with_settings
def run_command(settings: Settings, name: str, all_projects: bool) -> None:
    """Run the job NAME now, whether it is due or not.

    Exit code 1 when it fails; a server tries it again later. NAME is one that `jobs list` shows.
    """
    ran = asyncio.run(_run(settings, name, all_projects))
    for one in ran:
        if one.error is None:
            click.echo(f"{one.unit.name}: {_in_words(one.outcome) or 'nothing to do'}.")
    if failed := [one for one in ran if one.error is not None]:
        raise Failure(" ".join(f"{one.unit.name} failed: {one.error}" for one in failed))


async def _run(settings: Settings, name: str, all_projects: bool) -> list[Ran]:
    job = BY_NAME[name]
    async with _here(settings) as (database, context):
        if job.need is not None and not await job.can_run(context):
            raise Failure(f"{name} has nothing to work on: {job.need.why}")
        found = await states(context.pool, [job], None if all_projects else settings.project)
        if not found and not all_projects:
            raise NotFound(
                f"There is no project {settings.project!r}. Choose another with --project, or --all-projects."
            )
        schedule = Schedule(context, database.open_listener, [job])
        ran = []
        for one in found:
            done = await schedule.run_now(one.unit)
            if done is None:
                raise Failure(
                    f"Another process runs {one.unit.name} just now. `{in_project('jobs list', settings.project)}` says when"
                    " it is done."
                )
            ran.append(done)
        return ran


@command.command("retention")
@click.option("--set", "limits", metavar="KIND=DAYS", multiple=True, help="How many days a kind is kept.")
@click.option("--clear", multiple=True, type=click.Choice(list(KINDS)), metavar="KIND", help="Keep it as by default.")
@with_settings
def retention_command(settings: Settings, limits: tuple[str, ...], clear: tuple[str, ...]) -> None:
    """Show and set how long the project keeps its trail, its records and its archive.

    KIND is activity, integrations, results or archive. The job `retention` archives and deletes what is older; for
    memories there is `bmad-mcp memory retention`.
    """
    days = dict(_limit(one) for one in limits)
    if both := sorted(set(days) & set(clear)):
        raise click.UsageError(f"{both[0]} is in --set and in --clear.")
    asyncio.run(_retention(settings, days, frozenset(clear)))


def _limit(text: str) -> tuple[str, int]:
    kind, _, days = text.partition("=")
    if not (days.isascii() and days.isdecimal() and len(days) < 9):
        raise click.BadParameter(f"{text!r} needs whole days, such as activity=365.", param_hint="--set")
    return kind.strip().lower(), int(days)


async def _retention(settings: Settings, days: dict[str, int], clear: frozenset[str]) -> None:
    async with memory_project(settings) as opened:
        if days or clear:
            limits = await change_policies(opened, CALLER, limits=days, cleared=clear)
        else:
            limits = await read_policies(opened, CALLER)
        archived = {one["kind"]: one for one in await contents(opened, CALLER)}
    rows = [
        (kind, counted(limits[kind], "day") if kind in limits else "for ever", told) for kind, told in KINDS.items()
    ]
    for line in lines(("KIND", "KEPT", "WHAT IT IS"), rows, empty=""):
        click.echo(line)
    for kind, one in archived.items():
        click.echo(f"In the archive: {one['rows']:,} of {kind}, {one['oldest']:%Y-%m-%d} to {one['newest']:%Y-%m-%d}.")


@command.command("archive")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
@click.option("--remove", "is_removed", is_flag=True, help="Delete from the database what is in FILE then.")
@with_settings
def archive_command(settings: Settings, file: Path, overwrite: bool, is_removed: bool) -> None:
    """Write what the job `retention` archived to FILE: JSON Lines, compressed with gzip.

    Each line has the row, its kind and its checksum. With --remove the file is read again before anything is deleted.
    """
    click.echo(asyncio.run(_archive(settings, file, overwrite, is_removed)))


async def _archive(settings: Settings, file: Path, overwrite: bool, is_removed: bool) -> str:
    async with memory_project(settings) as opened:
        with file_target(file, overwrite=overwrite) as at:
            keys = await _write(opened, at)
            if await asyncio.to_thread(_keys_in, at) != keys:
                raise Failure(f"{file} does not read as it was written. Nothing was removed; look at the disk.")
        told = f"{counted(len(keys), 'row')} of {opened.key} written to {file}."
        if is_removed:
            told += f" {await remove(opened, keys, CALLER):,} removed from the database."
    return told


async def _write(opened: OpenProject, at: Path) -> list[tuple[str, UUID]]:
    keys: list[tuple[str, UUID]] = []
    with gzip.open(at, "wt", encoding="utf-8") as file:
        async for page in pages(opened, CALLER):
            file.write("".join(f"{line}\n" for line in page.lines))
            keys += page.keys
    return keys


def _keys_in(at: Path) -> list[tuple[str, UUID]]:
    with gzip.open(at, "rt", encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    return [(one["kind"], UUID(one["row"]["id"])) for one in found]
