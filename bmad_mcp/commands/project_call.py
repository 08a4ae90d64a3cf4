"""A call on the project that a command works on, as the person at the terminal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bmad_mcp.app import find_project, opened_project
from bmad_mcp.call import Call, Caller, OneProject, open_call
from bmad_mcp.errors import NotFound
from bmad_mcp.settings import Settings
from bmad_mcp.told_commands import ANY_FOLDER, in_project, on_folder

CALLER = Caller("local", "command line", "human")


def no_project(key: str) -> NotFound:
    """The error where nobody made the project yet."""
    return NotFound(
        f"There is no project {key!r}. `{on_folder('import', ANY_FOLDER, key)}` makes it from a folder and"
        f" `{in_project('serve', key)}` an empty one; or choose another with --project."
    )


@asynccontextmanager
async def project_call(settings: Settings, operation: str) -> AsyncIterator[Call]:
    """A call that commits at the end of the block; raises NotFound when nobody made the project yet."""
    async with find_project(settings) as (pool, project_id):
        if project_id is None:
            raise no_project(settings.project)
        workspace = OneProject(await opened_project(settings, pool, project_id))
        async with open_call(workspace, CALLER, operation) as call:
            yield call
