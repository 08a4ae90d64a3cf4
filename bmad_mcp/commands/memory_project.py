"""What the memory commands share: the project with its memory service, points in time, and the question before harm."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import click

from bmad_mcp.activity.since import moment_of
from bmad_mcp.app import find_project, memory_services, opened_project
from bmad_mcp.call import OpenProject
from bmad_mcp.commands.failures import Failure
from bmad_mcp.commands.project_call import no_project
from bmad_mcp.memory.categories import MemoryCategory
from bmad_mcp.settings import Settings

CATEGORY = click.Choice([str(one) for one in MemoryCategory], case_sensitive=False)


def tell(sentence: str) -> None:
    """Progress, beside what the command prints."""
    click.echo(sentence, err=True)


@asynccontextmanager
async def memory_project(settings: Settings) -> AsyncIterator[OpenProject]:
    """The project with its memory service, which is not asked yet; raises NotFound when nobody made the project."""
    async with find_project(settings, tell) as (pool, project_id):
        if project_id is None:
            raise no_project(settings.project)
        services = memory_services(settings)
        try:
            yield await opened_project(settings, pool, project_id, services)
        finally:
            if services is not None:
                await services.aclose()


class Moment(click.ParamType[datetime]):
    """A date, or how long ago."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return moment_of(str(value))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no date such as 2026-11-20, nor how long ago: 30m, 24h, 7d, 2w", param, ctx)


def confirm(question: str, *, yes: bool, undone: str) -> None:
    """Go on only when a person or --yes says so; `undone` tells what was not done otherwise."""
    if yes:
        return
    try:
        is_agreed = click.confirm(question, err=True)
    except click.Abort:
        is_agreed = False
        click.echo(err=True)
    if not is_agreed:
        raise Failure(f"Nobody confirmed it, so {undone}. --yes goes on without asking.")
