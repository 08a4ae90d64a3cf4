"""`memory`: what is remembered of a project, shown and exported; more of its commands are in the files beside it."""

import asyncio
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import click

from bmad_mcp.commands.memory_delivering import deliver_command, introduce_command, retry_command
from bmad_mcp.commands.memory_forgetting import forget_command, retention_command
from bmad_mcp.commands.memory_project import CATEGORY, Moment, memory_project, tell
from bmad_mcp.commands.options import CommandGroup, with_settings
from bmad_mcp.commands.project_call import CALLER
from bmad_mcp.interchange.target import file_target
from bmad_mcp.memory.exporting import Format, export_memories
from bmad_mcp.memory.forget_plan import memories
from bmad_mcp.memory.keeping import Selection, count, latest, of_person
from bmad_mcp.memory.service_pages import NAMES
from bmad_mcp.memory.showing import json_of, shortened, visible
from bmad_mcp.settings import Settings

LONGEST_SHOWN = 300


@click.group("memory", cls=CommandGroup)
def command() -> None:
    """Show, export and erase what is remembered, and send it to the memory service."""


command.add_command(forget_command)
command.add_command(retention_command)
command.add_command(retry_command)
command.add_command(deliver_command)
command.add_command(introduce_command)


@command.command("list", short_help="What is remembered, and what the service has of it.")
@click.option("--category", type=CATEGORY, metavar="CATEGORY", help="Only this category, such as TASK_COMPLETION.")
@click.option("--agent", metavar="AGENT", help="Only what this agent stored.")
@click.option("--by", "principal", metavar="PRINCIPAL", help="Only what this principal stored.")
@click.option("--since", type=Moment(), help="Only what was stored since: 2026-11-20, 24h, 7d.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON, with their whole text.")
@with_settings
def list_command(
    settings: Settings,
    category: str | None,
    agent: str | None,
    principal: str | None,
    since: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """List what this database keeps, the newest first, and whether the memory service has it.

    Characters that people do not see are flagged and written as `\\u202e`.
    """
    selection = Selection(principal=principal, category=category, agent=agent, since=since)
    found, total = asyncio.run(_list(settings, selection, limit))
    if as_json:
        click.echo(json_of(found, indent=2))
        return
    for one in found:
        for line in _lines(one):
            click.echo(line)
    more = "." if total == len(found) else f", of {total:,}. --limit shows more."
    click.echo(f"{memories(len(found))} of {settings.project}{more}" if found else "There are no such memories.")


async def _list(settings: Settings, selection: Selection, limit: int) -> tuple[list[dict[str, Any]], int]:
    async with memory_project(settings) as opened:
        selection = await of_person(opened, selection, CALLER)
        found = await latest(opened, selection, limit, CALLER)
        return found, await count(opened, selection, CALLER)


def _lines(one: dict[str, Any]) -> Iterator[str]:
    stored = datetime.fromisoformat(one["created_at"]).strftime("%Y-%m-%d %H:%M UTC")
    agent = f", for {visible(one['agent'])}" if one["agent"] else ""
    yield click.style(one["id"], bold=True)
    yield f"  {stored}  {visible(one['category'])}  by {visible(one['principal'])} ({visible(one['author'])}){agent}"
    yield f"  {_delivery(one)}"
    if one["flags"]:
        yield click.style(f"  invisible characters: {', '.join(one['flags'])}", fg="yellow")
    yield f"  {shortened(one['text'], LONGEST_SHOWN)}"
    yield ""


def _delivery(one: dict[str, Any]) -> str:
    name = NAMES.get(one["provider"] or "", "the service")
    tried = f", tried {one['attempts']} times" if one["attempts"] > 1 else ", tried once" if one["attempts"] else ""
    match one["delivery"]:
        case "delivered":
            return f"delivered to {name}" + (f" as {visible(one['service_ref'])}" if one["service_ref"] else "")
        case "queued":
            return f"queued for the memory service{tried}"
        case "dead":
            return f"dead, given up{tried}: {visible(one['failure'] or 'no reason was kept')}"
        case _:
            return "stored here only"


@command.command("export", short_help="Write all memories with their provenance.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--format", "form", type=click.Choice(["jsonl", "json", "markdown"]), default="jsonl", show_default=True)
@click.option("--by", "principal", metavar="PRINCIPAL", help="Only what this principal stored.")
@click.option("--service", "with_service", is_flag=True, help="Also what the memory service keeps of the project.")
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
@with_settings
def export_command(
    settings: Settings, file: Path | None, form: Format, principal: str | None, with_service: bool, overwrite: bool
) -> None:
    """Write all memories with who stored them, when and where they went, into FILE or to stdout (also `-`).

    FILE takes its place in one step, when all of it is written.
    """
    file = None if file == Path("-") else file
    if file is None and overwrite:
        raise click.UsageError("--overwrite belongs to FILE.")
    here, there = asyncio.run(_export(settings, file and file.absolute(), form, principal, with_service, overwrite))
    also = f" and {memories(there)} of the service" if with_service else ""
    tell(f"Exported {memories(here)} of {settings.project}{also}{f' to {file}' if file else ''}.")


async def _export(
    settings: Settings, file: Path | None, form: Format, principal: str | None, with_service: bool, overwrite: bool
) -> tuple[int, int]:
    async with memory_project(settings) as opened:
        more: dict[str, Any] = {"principal": principal, "with_service": with_service, "progress": tell}
        if file is None:
            with _utf8_stdout() as text:
                return await export_memories(opened, text, form, CALLER, **more)
        with (
            file_target(file, overwrite=overwrite) as at,
            at.open("x", encoding="utf-8", newline="") as text,
        ):
            return await export_memories(opened, text, form, CALLER, **more)


@contextmanager
def _utf8_stdout() -> Iterator[IO[str]]:
    """What is exported is UTF-8, whatever the terminal speaks."""
    text = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
    try:
        yield text
        text.flush()
    finally:
        text.detach()
