"""`doctor`: checks everything the server needs and says how to mend each."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict

import click

from bmad_mcp.commands.checks import findings
from bmad_mcp.commands.finding import Finding
from bmad_mcp.commands.options import with_settings
from bmad_mcp.counts import counted
from bmad_mcp.settings import Settings

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
INDENT = " " * 6


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@with_settings
def command(settings: Settings, as_json: bool) -> None:
    """Check Python, folders, PostgreSQL, schema, role and memory service, and say how to mend what is not well.

    Exit code 1 when something fails. Starts the embedded PostgreSQL if it does not run, and changes nothing else.
    """
    found = asyncio.run(_examine(settings, is_shown=not as_json))
    failed, warned = (sum(one.level == level for one in found) for level in ("fail", "warn"))
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
    elif failed:
        click.echo(f"\n{counted(failed, 'check')} failed.")
    elif warned:
        click.echo(f"\nIt works; {counted(warned, 'thing is', 'things are')} worth a look.")
    else:
        click.echo("\nAll is well.")
    click.get_current_context().exit(1 if failed else 0)


async def _examine(settings: Settings, *, is_shown: bool) -> list[Finding]:
    found = []
    async for one in findings(settings):
        found.append(one)
        if is_shown:
            for line in _lines(one):
                click.echo(line)
    return found


def _lines(one: Finding) -> Iterator[str]:
    text = " ".join(one.text.split())
    yield f"{click.style(f'{one.level:<4}', fg=COLOURS[one.level])}  {one.name:<12}  {text}"
    if one.mend:
        yield f"{INDENT}{'':<12}  → {one.mend}"
