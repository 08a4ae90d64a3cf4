"""Whether a folder is the one that a project was imported from, moved or not: two projects must not become one."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bmad_mcp.bmad_files import queries
from bmad_mcp.bmad_files.git_state import git_origin
from bmad_mcp.bmad_files.values import BmadProject
from bmad_mcp.bmad_files.writing.places import DEFINING
from bmad_mcp.call import OpenProject
from bmad_mcp.db import Transaction
from bmad_mcp.errors import Conflict

# What BMad ships is the same in every project.
SHIPPED = (".", "_bmad/", "bmad/")


async def other_folder(opened: OpenProject, folder: Path, project: BmadProject) -> str | None:
    """The folder whose files the project holds, when this is another project's; None where it may go on.

    A folder is the same one elsewhere when it has the same git origin, or most of its files are the same.
    """
    db = Transaction(opened.pool, opened.id)
    try:
        kept: Mapping[str, Any] = await db.fetchval(queries.FILES) or {}
        known = str(kept.get("folder") or "")
        if not known and (board := kept.get("board")):
            # Only the board of another tool came in so far; a folder that tells of no work cannot be another project's.
            tells = project.stories or project.epics
            return board if tells and not await asyncio.to_thread(_is_beside, folder, Path(board)) else None
        if not known or known == str(folder):
            return None
        held = {
            row["path"]: row["hash"] for row in await db.fetch(queries.OWN_FILES) if _is_own(row["path"], row["kind"])
        }
    finally:
        await db.end("ROLLBACK")
    origin = await asyncio.to_thread(git_origin, folder)
    was = kept.get("origin") or await asyncio.to_thread(git_origin, Path(known))
    if origin is not None and origin == was:
        return None
    files = {file.path: file.sha256 for file in project.files if _is_own(file.path, file.kind)}
    same = sum(files.get(path) == content for path, content in held.items())
    if not held or (same and same * 2 >= min(len(held), len(files))):
        return None
    return known


def _is_beside(folder: Path, board: Path) -> bool:
    """Whether the board lies in the folder, or in another checkout of it."""
    origin = git_origin(folder)
    return board.is_relative_to(folder) or (
        origin is not None and any(git_origin(one) == origin for one in (board, *board.parents))
    )


def told_apart(key: str, folder: Path, other: str) -> str:
    """The beginning of a sentence for one whose folder is another project's."""
    return f"Project {key} holds the files of {other}, and {folder} has others"


def refuse_to_mix(key: str, folder: Path, other: str, project: BmadProject) -> None:
    """Raises Conflict where an export would go between another project's files; an empty folder takes any project."""
    if any(_is_own(file.path, file.kind) for file in project.files):
        raise Conflict(
            f"{told_apart(key, folder, other)}: two projects would become one. Nothing was written. Name this folder's project"
            f" with --project, or export {key} into {other}. To take this folder into {key}, import it first: bmad-mcp"
            f" import {folder} --project {key}"
        )


def _is_own(path: str, kind: str) -> bool:
    return kind not in DEFINING and not path.startswith(SHIPPED)
