"""All that a server does beside answering: the sync of a folder, the delivery of memories, and the jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bmad_mcp.app import ProjectWorkspace
from bmad_mcp.commands.delivering import delivering
from bmad_mcp.commands.running_jobs import running_jobs
from bmad_mcp.commands.syncing import syncing
from bmad_mcp.progress import Progress


@asynccontextmanager
async def in_background(workspace: ProjectWorkspace, tell: Progress) -> AsyncIterator[None]:
    """Do what the workspace's settings ask for while the block runs."""
    may_write = not workspace.settings.read_only
    async with (
        syncing(workspace, workspace.settings, tell),
        delivering(workspace, may_write=may_write),
        running_jobs(workspace, may_write=may_write),
    ):
        yield
