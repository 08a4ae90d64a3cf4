"""Imports a folder of BMad files into a project: gather, decide, apply, all or nothing."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import asyncpg

from bmad_mcp.bmad_files import queries
from bmad_mcp.bmad_files import steps as planned
from bmad_mcp.bmad_files.apply import Overtaken, apply, is_write
from bmad_mcp.bmad_files.git_state import git_origin, git_state
from bmad_mcp.bmad_files.plan import Stored, plan
from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.report import ImportReport
from bmad_mcp.bmad_files.rows import Wanted, wanted_rows
from bmad_mcp.bmad_files.steps import Create, Step
from bmad_mcp.bmad_files.stored import read_stored
from bmad_mcp.bmad_files.values import BmadProject
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.counts import counted
from bmad_mcp.db import DATABASE_FAILURES, Transaction, uuid7
from bmad_mcp.errors import BmadError, Conflict, NotFound, Unavailable
from bmad_mcp.progress import Progress, untold
from bmad_mcp.undisturbed import undisturbed

ATTEMPTS = 8
IMPORT = "project_import"
LOOKED_FOR = (
    "Looked for: .bmad-core, _bmad and other installations; _bmad-output, docs with Markdown files, sprint-status.yaml"
    " and initiative-* folders."
)
KEPT_CONFLICTS = 20
KEPT_CHARACTERS = 200


async def import_folder(
    opened: OpenProject,
    folder: Path,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    caller: Caller | None = None,
) -> ImportReport:
    """Bring a project folder into the database, in one transaction; with `dry_run` only say what would happen.

    `progress` is told what is being done, also from another thread. Raises NotFound when there is no such folder,
    Conflict or Unavailable when the database does not take it; then nothing was written.
    """
    with undisturbed():
        return await _import_folder(opened, folder, dry_run, progress or untold, caller or Caller())


async def _import_folder(
    opened: OpenProject, folder: Path, dry_run: bool, progress: Progress, caller: Caller
) -> ImportReport:
    values = await asyncio.to_thread(read_project, folder, progress=progress)
    progress(f"{counted(len(values.files), 'file')} read")
    return await import_read(opened, folder, values, dry_run=dry_run, progress=progress, caller=caller)


def read_bmad(folder: Path, progress: Progress) -> BmadProject:
    """What a folder says; raises NotFound with what was looked for when nothing in it is of BMad."""
    with undisturbed():
        values = read_project(folder, progress=progress)
    if values.generations:
        return values
    nested = [one.path for one in values.deviations if one.code == "nested-project"]
    mend = f"One is in {nested[0]}: import that folder." if nested else "Give the root of the project."
    raise NotFound(f"There is no BMad project in {folder}, and nothing was written. {LOOKED_FOR} {mend}")


async def import_read(
    opened: OpenProject,
    folder: Path,
    values: BmadProject,
    *,
    dry_run: bool,
    progress: Progress,
    caller: Caller,
    agreed: Callable[[Stored], Stored] = lambda stored: stored,
    keep: bool = True,
) -> ImportReport:
    """The same for a folder that was read just now; for `agreed` see `carry_out`.

    `keep` says whether its conflicts are remembered: those of an export that follows tell more.
    """
    git = await asyncio.to_thread(git_state, folder)
    with undisturbed():
        wanted = await asyncio.to_thread(wanted_rows, values, opened.id, "import")
    place = {"folder": str(folder), "head": git.head, "origin": await asyncio.to_thread(git_origin, folder)}
    steps = await carry_out(
        opened, wanted, dry_run=dry_run, progress=progress, caller=caller, agreed=agreed, place=place, keep=keep
    )
    return ImportReport.of(wanted, steps, project=opened.key, folder=str(folder), dry_run=dry_run)


async def carry_out(
    opened: OpenProject,
    wanted: Wanted,
    *,
    dry_run: bool,
    progress: Progress,
    caller: Caller,
    agreed: Callable[[Stored], Stored] = lambda stored: stored,
    operation: str = IMPORT,
    place: Mapping[str, Any] | None = None,
    keep: bool = True,
) -> list[Step]:
    """Plan and apply in one transaction; planned anew when tools changed the same rows meanwhile.

    `agreed` may say that more is agreed between files and database than the stored rows tell; `operation` is the
    name under which the trail has it; `place` tells of a whole folder {folder, head}, whose conflicts are kept.
    """
    for attempt in range(1, ATTEMPTS + 1):
        db = Transaction(opened.pool, opened.id, opened.vault)
        try:
            steps = await _once(db, wanted, dry_run, progress, caller, agreed, operation)
            if place is not None and not dry_run:
                conflicts = [one for one in steps if isinstance(one, planned.Conflict)] if keep else None
                await keep_conflicts(db, conflicts, place)
            await db.end("ROLLBACK" if dry_run else "COMMIT")
            return steps
        except (
            Overtaken,
            asyncpg.DeadlockDetectedError,
            asyncpg.SerializationError,
            asyncpg.UniqueViolationError,
        ) as error:
            await db.end("ROLLBACK")
            if attempt == ATTEMPTS:
                raise _refusal(error) from error
            await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311
        except BaseException as error:
            await _roll_back(db)
            if isinstance(error, DATABASE_FAILURES):
                raise _refusal(error) from error
            raise
    raise AssertionError("unreachable")


async def _once(
    db: Transaction,
    wanted: Wanted,
    dry_run: bool,
    progress: Progress,
    caller: Caller,
    agreed: Callable[[Stored], Stored],
    operation: str,
) -> list[Step]:
    await db.may_pause()
    if not dry_run:
        await db.execute(queries.LOCK)
    stored = agreed(await read_stored(db, wanted))
    steps = await asyncio.to_thread(plan, wanted, stored, progress)
    writes = [step for step in steps if is_write(step)]
    if dry_run or not writes:
        return steps
    progress(f"writing {counted(len(writes), 'row')}")
    await apply(db, writes, stored, progress)
    if wanted.source == "import":
        if operation == IMPORT or any(step.kind == "project" for step in writes):
            await db.execute(queries.SET_PROJECT, wanted.settings)
        await db.execute(queries.RECORD, operation, caller.principal, uuid7().hex, _detail(wanted, steps))
    return steps


async def keep_conflicts(
    db: Transaction, conflicts: Sequence[planned.Conflict] | None, place: Mapping[str, Any]
) -> None:
    """Remember what is not settled between a folder and the database, for everybody who asks how the project is.

    With None the conflicts stay as they are remembered.
    """
    if conflicts is None:
        await db.execute(queries.SET_FILES, dict(place))
        return
    listed = [
        {**asdict(one), "file": one.file[:KEPT_CHARACTERS], "database": one.database[:KEPT_CHARACTERS]}
        for one in conflicts[:KEPT_CONFLICTS]
    ]
    await db.execute(queries.SET_FILES, {**place, "conflicts": listed, "conflict_count": len(conflicts)})


def _detail(wanted: Wanted, steps: list[Step]) -> dict[str, object]:
    """The counts for the trail: {agent: {created: 3, …}}."""
    counts: dict[str, dict[str, int]] = {}
    for step in steps:
        verb = "created" if isinstance(step, Create) else "updated"
        if is_write(step) and step.kind != "project":
            counts.setdefault(step.kind, {}).setdefault(verb, 0)
            counts[step.kind][verb] += 1
    return {"generations": list(wanted.generations), "counts": counts, "deviations": len(wanted.deviations)}


async def _roll_back(db: Transaction) -> None:
    try:
        await db.end("ROLLBACK")
    except DATABASE_FAILURES:
        # The connection is gone, and the transaction with it.
        return


def _refusal(error: BaseException) -> BmadError:
    match error:
        case Overtaken() | asyncpg.DeadlockDetectedError() | asyncpg.SerializationError():
            return Conflict("Tools changed the project at the same time. Nothing was written; import again.")
        case asyncpg.LockNotAvailableError():
            return Conflict(
                "Another import of this project is under way. Nothing was written; import again when it is done."
            )
        case asyncpg.IntegrityConstraintViolationError() | asyncpg.DataError():
            return Conflict(
                f"The database refused what the files say ({_first_line(error)}). Nothing was written;"
                " `bmad-mcp import PATH --dry-run` shows what would be written. Please report this."
            )
        case asyncpg.DiskFullError() | asyncpg.OutOfMemoryError():
            return Unavailable(
                "The database has no room left. Nothing was written; free disk space, then import again."
            )
        case _:
            return Unavailable(
                f"The import was rolled back and nothing was written ({_first_line(error)})."
                " `bmad-mcp doctor` checks the database."
            )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
