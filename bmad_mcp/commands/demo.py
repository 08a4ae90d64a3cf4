"""`demo`: a sprint by four agents over real MCP connections, on a sample project of its own."""

import asyncio
import sys
from datetime import UTC, datetime

import click

from bmad_mcp import sample
from bmad_mcp.app import find_project, open_workspace
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.commands.options import with_settings
from bmad_mcp.counts import counted
from bmad_mcp.demo.player import Player, Score, player
from bmad_mcp.demo.screen import Screen
from bmad_mcp.demo.sprint import Cast, play
from bmad_mcp.errors import Conflict
from bmad_mcp.settings import Settings

PACE_SECONDS = 0.7
NAMES = ("sm", "dev 1", "dev 2", "qa")


@click.command("demo")
@click.option("--fast", is_flag=True, help="Without pauses for the reader.")
@with_settings
def command(settings: Settings, fast: bool) -> None:
    """Watch four agents play a sprint.

    Each has a server process and a connection of its own, and all share one database. The project is new
    (demo-<time>, or --project) and stays, so that you can look at it afterwards.
    """
    if "project" not in settings.model_fields_set:
        settings = settings.model_copy(update={"project": f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}"})
    asyncio.run(_show(settings, 0.0 if fast else PACE_SECONDS))


async def _show(settings: Settings, pace: float) -> None:
    screen, score = Screen(), Score()
    async with find_project(settings, screen.say) as (_, project_id):
        if project_id is not None:
            raise Conflict(
                f"There is a project {settings.project!r} already; the demo makes a new one. Leave --project out."
            )
    # This workspace stays open to the end, so that the database does not stop between two players.
    async with open_workspace(settings) as workspace:
        opened = await workspace.project()
        report = await import_folder(opened, sample.FOLDER)
        screen.say(f"The sample project is imported as {opened.key}: {counted(report.changes, 'row')}.")
        screen.say("Four assistants start a server each.")
        async with asyncio.TaskGroup() as tasks:
            over = asyncio.Event()
            seats = [asyncio.get_running_loop().create_future() for _ in NAMES]
            for name, seat in zip(NAMES, seats, strict=True):
                tasks.create_task(_sit(seat, over, _server(settings), name, screen, score, pace))
            try:
                await play(Cast(*await asyncio.gather(*seats)), screen, score)
            finally:
                over.set()
    screen.say(f"Look at it: bmad-mcp status --project {settings.project}")


def _server(settings: Settings) -> list[str]:
    command = [sys.executable, "-m", "bmad_mcp", "--data-dir", str(settings.data_dir)]
    return [*command, "serve", "--project", settings.project, "--toolsets", "all"]


async def _sit(
    seat: asyncio.Future[Player],
    over: asyncio.Event,
    server: list[str],
    name: str,
    screen: Screen,
    score: Score,
    pace: float,
) -> None:
    """One player from start to end in one task, because a connection must be closed by the task that opened it."""
    async with player(name, server, screen, score, pace) as one:
        seat.set_result(one)
        await over.wait()
