"""One round of a sync: take the files' edits in, settle what a rule decides, write the tools' changes back."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bmad_mcp.bmad_files import queries
from bmad_mcp.bmad_files.belonging import other_folder, told_apart
from bmad_mcp.bmad_files.exporting import export_read
from bmad_mcp.bmad_files.git_state import git_state, switched_in_place
from bmad_mcp.bmad_files.importing import import_read
from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.report import ImportReport
from bmad_mcp.bmad_files.rows import wanted_rows
from bmad_mcp.bmad_files.steps import Conflict
from bmad_mcp.bmad_files.sync.settling import Settled, decided, settle
from bmad_mcp.bmad_files.values import BmadProject
from bmad_mcp.bmad_files.writing.report import Refused, WrittenFile
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.counts import counted
from bmad_mcp.db import Transaction
from bmad_mcp.progress import untold
from bmad_mcp.told_commands import on_folder

CALLER = Caller("local", "sync", "human")
State = Literal["running", "waiting", "paused", "off"]


@dataclass(frozen=True, slots=True)
class Round:
    """What a round did. `hashes` are the files as they are now (path → sha256), None where it did not come to that."""

    state: State
    reason: str = ""
    taken_in: int = 0
    stories: tuple[str, ...] = ()
    written: tuple[WrittenFile, ...] = ()
    settled: tuple[Settled, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    refused: tuple[Refused, ...] = ()
    hashes: Mapping[str, str] | None = None
    generations: Sequence[str] = field(default=())


async def reconcile(opened: OpenProject, folder: Path) -> Round:
    """Bring folder and database together; raises as import and export do.

    Waits while git is in the middle of something. After a switch to a branch that says something else, nothing is
    changed on either side until the branch is imported, or the folder is back on the one that the database holds. The same
    where the project's files are those of another folder.
    """
    state = await asyncio.to_thread(git_state, folder)
    if state.busy is not None:
        return await _told(opened, Round("waiting", state.busy))
    kept = await _kept(opened)
    project = await asyncio.to_thread(read_project, folder)
    if (other := await other_folder(opened, folder, project)) is not None:
        return await _told(opened, Round("paused", _of_another(opened.key, folder, other)))
    known = kept.get("head")
    if known is not None and state.head is not None and known != state.head and not switched_in_place(folder, known):
        planned = await _import(opened, folder, project, dry_run=True)
        if differing := _what_differs(planned):
            return await _told(opened, Round("paused", _switched(opened.key, folder, known, state.head, differing)))
    taken = await _import(opened, folder, project)
    unsettled = taken.conflicts
    settled: list[Settled] = []
    if taken.conflicts:
        wanted = await asyncio.to_thread(wanted_rows, project, opened.id, "import")
        settled = await settle(opened, wanted, taken.conflicts)
        if settled:
            again = await import_read(
                opened,
                folder,
                project,
                dry_run=False,
                progress=untold,
                caller=CALLER,
                agreed=decided(settled, wanted),
                keep=False,
            )
            unsettled = again.conflicts
    written = await export_read(
        opened,
        folder,
        project,
        dry_run=False,
        mend="behind",
        progress=untold,
        caller=CALLER,
        now=datetime.now,
        unsettled=unsettled,
    )
    hashes = {file.path: file.sha256 for file in project.files} | {one.path: one.sha256 for one in written.files}
    return await _told(
        opened,
        Round(
            state="running",
            taken_in=taken.changes,
            stories=taken.updated.get("story", ()),
            written=written.files,
            settled=tuple(settled),
            conflicts=written.conflicts,
            refused=written.refused,
            hashes=hashes,
            generations=project.generations,
        ),
    )


async def tell_state(opened: OpenProject, state: State, reason: str) -> None:
    """Keep how the sync is for everybody who asks how the project is; written only when it changed."""
    kept = (await _kept(opened)).get("sync") or {}
    if (kept.get("state"), kept.get("reason")) == (state, reason):
        return
    since = datetime.now(UTC).isoformat(timespec="seconds")
    db = Transaction(opened.pool, opened.id)
    try:
        await db.execute(queries.SET_FILES, {"sync": {"state": state, "reason": reason, "since": since}})
        await db.end("COMMIT")
    finally:
        await db.end("ROLLBACK")


async def _told(opened: OpenProject, done: Round) -> Round:
    await tell_state(opened, done.state, done.reason)
    return done


async def _kept(opened: OpenProject) -> Mapping[str, Any]:
    db = Transaction(opened.pool, opened.id)
    try:
        return await db.fetchval(queries.FILES) or {}
    finally:
        await db.end("ROLLBACK")


async def _import(opened: OpenProject, folder: Path, project: BmadProject, *, dry_run: bool = False) -> ImportReport:
    return await import_read(opened, folder, project, dry_run=dry_run, progress=untold, caller=CALLER, keep=False)


def _what_differs(planned: ImportReport) -> str:
    """What an import would change, in words; empty when nothing that people work on."""
    counts = {
        kind: one.created + one.updated
        for kind, one in planned.counts.items()
        if kind in ("story", "epic", "task", "file") and one.created + one.updated
    }
    if not counts and not planned.conflicts and not planned.gone:
        return ""
    told = [counted(count, kind, "stories" if kind == "story" else "") for kind, count in counts.items()]
    if planned.gone:
        told.append(f"{len(planned.gone)} gone")
    if planned.conflicts:
        told.append(counted(len(planned.conflicts), "conflict"))
    return ", ".join(told)


def _of_another(key: str, folder: Path, other: str) -> str:
    return (
        f"{told_apart(key, folder, other)}: two projects would become one. Nothing is"
        f" changed on either side. Name a project of its own with --project, or take this folder in:"
        f" bmad-mcp import {folder} --project {key}"
    )


def _switched(key: str, folder: Path, known: str, head: str, differing: str) -> str:
    return (
        f"The folder is on {head}, and the database holds {known} ({differing} differ). Nothing is changed on either"
        f" side. Switch back, or take this branch in: {on_folder('import', str(folder), key)}"
    )
