"""The sync that runs beside a server, when the operator asked for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

import click

from bmad_mcp.app import ProjectWorkspace
from bmad_mcp.progress import Progress
from bmad_mcp.settings import Settings
from bmad_mcp.told_commands import slug


def checked(settings: Settings) -> Settings:
    """The settings of a server with a sync: its folder is there, and names the project where nothing else does.

    Raises UsageError for what cannot be.
    """
    if settings.sync is None:
        return settings
    folder = settings.sync.expanduser().absolute()
    if not folder.is_dir():
        raise click.UsageError(f"--sync: there is no folder {str(folder)!r}.")
    if settings.read_only:
        raise click.UsageError("--sync takes the files' edits into the database, which --read-only forbids.")
    update: dict[str, object] = {"sync": folder.resolve()}
    if "project" not in settings.model_fields_set:
        update["project"] = slug(folder.resolve().name)
    return settings.model_copy(update=update)


@asynccontextmanager
async def syncing(workspace: ProjectWorkspace, settings: Settings, tell: Progress) -> AsyncIterator[None]:
    """Sync the folder of the settings while the block runs; nothing when there is none."""
    if settings.sync is None:
        yield
        return
    # Nobody who does not sync waits for the reader of files.
    module = import_module("bmad_mcp.bmad_files.sync.folder_sync")
    sync = module.FolderSync(workspace, settings.sync, workspace.database.open_listener, tell)
    task = asyncio.create_task(sync.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await asyncio.wait_for(task, 3)
