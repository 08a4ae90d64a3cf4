"""`status`: a project at a glance, drawn for a terminal or as JSON."""

import asyncio
import json

import click
from rich.console import Console

from bmad_mcp.analytics.figures import AnalyticsOverview
from bmad_mcp.analytics.schemas import ProjectStatus
from bmad_mcp.app import find_project, opened_project
from bmad_mcp.call import OneProject
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.commands.options import with_settings
from bmad_mcp.commands.project_call import CALLER, no_project
from bmad_mcp.commands.status_screen import draw
from bmad_mcp.errors import Unavailable
from bmad_mcp.operation import perform
from bmad_mcp.settings import Settings


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@with_settings
def command(settings: Settings, as_json: bool) -> None:
    """Show the project at a glance: counts, what comes next, and the numbers of the last 30 days."""
    status, overview = asyncio.run(_status(settings))
    if as_json:
        told = status.model_dump(mode="json", exclude_unset=True)
        told["analytics"] = overview.model_dump(mode="json", exclude_unset=True)
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        draw(Console(highlight=False), status, overview)


async def _status(settings: Settings) -> tuple[ProjectStatus, AnalyticsOverview]:
    async with find_project(settings) as (pool, project_id):
        if project_id is None:
            raise no_project(settings.project)
        workspace = OneProject(await opened_project(settings, pool, project_id))
        status = await perform(BY_NAME["project_status"], {}, CALLER, workspace)
        overview = await perform(BY_NAME["analytics_overview"], {}, CALLER, workspace)
    if not isinstance(status, ProjectStatus) or not isinstance(overview, AnalyticsOverview):
        raise Unavailable("The state of the project cannot be shown.")
    return status, overview
