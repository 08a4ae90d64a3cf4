"""`status`: a project at a glance, as plain text."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass

import click

from bmad_mcp.analytics.schemas import ProjectStatus
from bmad_mcp.app import find_project
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.commands.options import with_settings
from bmad_mcp.errors import NotFound, Unavailable
from bmad_mcp.operation import perform
from bmad_mcp.settings import Settings

CALLER = Caller("local", "command line", "human")


@dataclass(frozen=True, slots=True)
class OneProject:
    """A workspace for one command, which ends when its connection is lost."""

    opened: OpenProject

    async def project(self) -> OpenProject:
        return self.opened

    async def mend(self) -> bool:
        return False


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@with_settings
def command(settings: Settings, as_json: bool) -> None:
    """Show the project at a glance: counts, what comes next, and where files and database differ."""
    status = asyncio.run(_status(settings))
    if as_json:
        click.echo(json.dumps(status.model_dump(mode="json", exclude_unset=True), indent=2, ensure_ascii=False))
    else:
        click.echo(render(status), nl=False)


async def _status(settings: Settings) -> ProjectStatus:
    async with find_project(settings) as (pool, project_id):
        if project_id is None:
            raise NotFound(
                f"There is no project {settings.project!r}. `bmad-mcp import PATH` makes it from a folder,"
                " or choose another with --project."
            )
        workspace = OneProject(OpenProject(project_id, settings.project, pool))
        status = await perform(BY_NAME["project_status"], {}, CALLER, workspace)
    if not isinstance(status, ProjectStatus):
        raise Unavailable("The state of the project cannot be shown.")
    return status


def render(status: ProjectStatus) -> str:
    """The status as lines for a terminal; control characters in names are shown as `?`."""
    lines = [f"{status.project.name} ({status.project.key})", ""]
    for name, counts in (
        ("stories", status.stories),
        ("tasks", status.tasks),
        ("workflows", status.workflows),
        ("agents", status.agents),
    ):
        lines.append(f"  {name:<11}{sum(counts.values()):>5}   {_counts(counts)}".rstrip())
    if status.next:
        lines += ["", "Next", *(f"  {action}" for action in status.next)]
    if status.drift.count:
        lines += ["", f"Drift: {status.drift.count}"]
        for item in status.drift.items:
            more = f" and {item.count - 1} more" if item.count > 1 else ""
            field = f", {item.field}" if item.field else ""
            lines += [f"  {item.between}: {item.first}{field}{more}{_words(item)}", f"    {item.mend}"]
    if status.drift.sync is not None:
        reason = f": {status.drift.sync.reason}" if status.drift.sync.reason else ""
        lines += ["", f"Sync is {status.drift.sync.state}{reason}"]
    return "\n".join(_printable(line) for line in lines) + "\n"


def _words(item: object) -> str:
    said = {name: getattr(item, name, None) for name in ("file", "tracker", "database")}
    return " (" + ", ".join(f"{name} {word}" for name, word in said.items() if word) + ")"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts.items())


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in line)
