"""Gives a new project the definitions that come with this program, by the same way as an import."""

import asyncio
from functools import cache
from typing import Any
from uuid import UUID

from bmad_mcp.bmad_files.importing import carry_out
from bmad_mcp.bmad_files.plan import Stored
from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.rows import Row, Wanted, wanted_rows
from bmad_mcp.builtin import FOLDER
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.progress import untold

# Definitions have no rows whose ids come from the project's.
_NO_PROJECT = UUID(int=0)


@cache
def builtin_rows() -> Wanted:
    """The rows of the built-in agents, workflows, templates and checklists; read once in a process."""
    return wanted_rows(read_project(FOLDER), _NO_PROJECT, "builtin")


def stored_builtins() -> Stored:
    """What a project that was just made will hold, for a plan of what an import into it would do."""

    def of(rows: tuple[Row, ...]) -> dict[str, dict[str, Any]]:
        return {row.key: {**row.values, "id": _NO_PROJECT, "version": 1} for row in rows}

    rows = builtin_rows()
    return Stored(agents=of(rows.agents), templates=of(rows.templates), checklists=of(rows.checklists))


async def seed_builtins(opened: OpenProject) -> None:
    """Add the built-in definitions that the project lacks, in one transaction; what was imported is left alone."""
    wanted = await asyncio.to_thread(builtin_rows)
    await carry_out(opened, wanted, dry_run=False, progress=untold, caller=Caller())
