"""A call on the project that a command works on, as the person at the terminal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bmad_mcp.app import find_project, opened_project
from bmad_mcp.call import Call, Caller, OneProject, open_call
from bmad_mcp.errors import NotFound
from bmad_mcp.settings import Settings

CALLER = Caller("local", "command line", "human")


@asynccontextmanager
async def project_call(settings: Settings, operation: str) -> AsyncIterator[Call]:
    """A call that commits at the end of the block; raises NotFound when nobody made the project yet."""
    async with find_project(settings) as (pool, project_id):
        if project_id is None:
            raise NotFound(
                f"There is no project {settings.project!r}. `bmad-mcp import PATH` makes it from a folder and"
                " `bmad-mcp serve` an empty one; or choose another with --project."
            )
        workspace = OneProject(await opened_project(settings, pool, project_id))
        async with open_call(workspace, CALLER, operation) as call:
            yield call
