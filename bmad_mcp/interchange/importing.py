"""Imports a board of another tool into a project: read, decide, write, all or nothing."""

import asyncio
import base64
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import asyncpg
from pydantic_core import from_json, to_json

from bmad_mcp.activity.record import record
from bmad_mcp.bmad_files.queries import (
    ADD_WAITING,
    COUNT_WAITING,
    LOCK,
    NEXT_NUMBERS,
    SET_FILES,
    TASKS_FOLLOW,
    Bulk,
)
from bmad_mcp.bmad_files.steps import Create, Keep, Kind, Step, Update
from bmad_mcp.call import Call, Caller, OneProject, OpenProject, open_call
from bmad_mcp.counts import counted
from bmad_mcp.db import DATABASE_FAILURES, Transaction
from bmad_mcp.errors import BmadError, Conflict, Invalid, Unavailable
from bmad_mcp.interchange import backlog, beads, queries, taskmaster
from bmad_mcp.interchange.backlog import BacklogMd
from bmad_mcp.interchange.beads import Beads
from bmad_mcp.interchange.planning import CLOSED, Plan, Stored, plan
from bmad_mcp.interchange.ports import BoardReader
from bmad_mcp.interchange.report import BoardReport
from bmad_mcp.interchange.shaping import Wanted, is_open, row_id, wanted_rows
from bmad_mcp.interchange.taskmaster import TaskMaster
from bmad_mcp.interchange.values import Board, Original
from bmad_mcp.progress import Progress, untold
from bmad_mcp.stories.queries import LOCK_EPICS
from bmad_mcp.tasks.queries import LOCK_DEPENDENCIES

Source = Literal["taskmaster", "backlog", "beads"]
READERS: Mapping[str, Callable[[Path], BoardReader]] = {"taskmaster": TaskMaster, "backlog": BacklogMd, "beads": Beads}
# The folders in a project that hold a tool's board.
HOMES: Mapping[Source, Sequence[str]] = {
    "taskmaster": taskmaster.HOMES,
    "backlog": backlog.HOMES,
    "beads": beads.HOMES,
}
SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
ATTEMPTS = 8
ROWS_AT_ONCE = 1000
STATE = "manifest"
_RETRIED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.UniqueViolationError)


class _Overtaken(Exception):
    """A tool changed a row between the reading and the writing; plan again."""


def boards_in(folder: Path) -> Iterator[tuple[Source, str]]:
    """The tools that keep a board in the folder, and where."""
    for source, homes in HOMES.items():
        home = next((one for one in homes if (folder / one).is_dir()), None)
        if home is not None:
            yield source, home


async def import_from(
    opened: OpenProject,
    source: Source,
    path: Path,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    caller: Caller | None = None,
) -> BoardReport:
    """Bring the board of another tool into the project; with `dry_run` only say what would happen.

    `path` is the project's folder, the tool's own folder or the file. Raises NotFound or Invalid when it holds
    nothing of that tool, Conflict or Unavailable when the database does not take it; then nothing was written.
    """
    if source not in READERS:
        raise Invalid(f"{source!r} is no known tool. Give one of: {', '.join(READERS)}.", field="source")
    tell = progress or untold
    board = await asyncio.to_thread(READERS[source](path).read)
    tell(f"{counted(len(board.items), 'item')} read")
    return await import_board(opened, board, place=str(path), dry_run=dry_run, progress=tell, caller=caller)


async def import_board(
    opened: OpenProject,
    board: Board,
    *,
    place: str = "",
    dry_run: bool = False,
    progress: Progress | None = None,
    caller: Caller | None = None,
) -> BoardReport:
    """The same for a board that some reader gave; `place` names where it came from: in the report, and for a sync later."""
    tell = progress or untold
    _check(board)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with open_call(OneProject(opened), caller or Caller(), "project_import") as call:
                wanted, planned = await _once(call, board, dry_run, tell)
                report = BoardReport.of(wanted, planned.steps, project=opened.key, place=place, dry_run=dry_run)
                if dry_run:
                    await call.db.end("ROLLBACK")
                elif place and report.changes:
                    await call.db.execute(SET_FILES, {"board": place})
            return report
        except (_Overtaken, *_RETRIED) as error:
            if attempt == ATTEMPTS:
                raise _refusal(error) from error
            await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311
        except DATABASE_FAILURES as error:
            raise _refusal(error) from error
    raise AssertionError("unreachable")


def _check(board: Board) -> None:
    """Refuse what would make a ref that is not its item's own, or that cannot be stored."""
    if not SOURCE_NAME.fullmatch(board.source):
        raise Invalid(f"{board.source!r} is no name for a tool. Use small letters, digits and hyphens.", field="source")
    refs = [item.ref for item in board.items]
    if len(set(refs)) != len(refs):
        raise Invalid("The board has two items with the same ref. Give each a ref of its own.", field="board")
    odd = next((one for item in board.items for one in (item.ref, item.group) if UNSTORABLE.search(one)), None)
    if odd is not None or "" in refs:
        raise Invalid(f"{odd or ''!r} is no ref that can be stored. Give each item one of plain text.", field="board")


async def _once(call: Call, board: Board, dry_run: bool, tell: Progress) -> tuple[Wanted, Plan]:
    db, project_id = call.db, call.project_id
    await db.may_pause()
    if not dry_run:
        # One import at a time; nobody else numbers an epic or closes half of a circle meanwhile.
        for lock in (LOCK, LOCK_EPICS, LOCK_DEPENDENCIES):
            await db.execute(lock)
    state_id = row_id(project_id, "state", board.source, "")
    was = _state(await db.fetchval(queries.STORED_STATE, state_id))
    stories = frozenset(name.partition(" ")[2] for name in was if name.startswith("story "))
    wanted = await asyncio.to_thread(wanted_rows, board, project_id, stories)
    stored = await _read_stored(db, wanted, was, project_id)
    planned = await asyncio.to_thread(plan, wanted, stored)
    files = [_file_row(row_id(project_id, "file", board.source, one.path), one) for one in board.originals]
    state = _state_row(state_id, board.source, planned.kept)
    steps, state_step = await _plan_files(db, files, state)
    planned.steps += steps
    has_writes = any(isinstance(step, Create | Update) for step in planned.steps) or planned.add or planned.remove
    if not dry_run and (has_writes or not isinstance(state_step, Keep)):
        tell(f"writing {counted(sum(isinstance(step, Create | Update) for step in planned.steps), 'row')}")
        await _write(db, planned, [*planned.steps, state_step], stored)
        if has_writes:
            await record(call, "project", source=board.source, counts=_counts(planned.steps))
    return wanted, planned


def _counts(steps: Iterable[Step]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for step in steps:
        if isinstance(step, Create | Update):
            of_kind = counts.setdefault(step.kind, {})
            verb = "created" if isinstance(step, Create) else "updated"
            of_kind[verb] = of_kind.get(verb, 0) + 1
    return counts


# ── what is stored ──


def _state(content: str | None) -> Mapping[str, Mapping[str, Any]]:
    rows: Mapping[str, Mapping[str, Any]] = from_json(content)["rows"] if content else {}
    return rows


async def _read_stored(db: Transaction, wanted: Wanted, was: Mapping[str, Any], project_id: UUID) -> Stored:
    ids: dict[str, UUID] = {}
    for name in was:
        kind, _, ref = name.partition(" ")
        ids[name] = row_id(project_id, kind, wanted.source, ref)
    asked: dict[str, set[UUID]] = {
        "epic": {row.id for row in wanted.epics},
        "story": {row.id for row in wanted.stories},
        "task": {row.id for row in wanted.tasks},
    }
    for name, one in ids.items():
        asked[name.partition(" ")[0]].add(one)
    epics = _by_id(await db.fetch(queries.STORED_EPICS, list(asked["epic"])))
    tasks = _by_id(await db.fetch(queries.STORED_TASKS, list(asked["task"])))
    waiting: dict[UUID, set[UUID]] = {}
    # On the first import nothing can wait for, or be waited for by, what is not there.
    for row in await db.fetch(queries.STORED_WAITING) if tasks else ():
        waiting.setdefault(row["task_id"], set()).add(row["depends_on_id"])
    last = await db.fetch(queries.LAST_STORIES, [one["number"] for one in epics.values()])
    return Stored(
        epics=epics,
        stories=_by_id(await db.fetch(queries.STORED_STORIES, list(asked["story"]))),
        tasks=tasks,
        waiting={task: frozenset(others) for task, others in waiting.items()},
        was=was,
        ids=ids,
        last_epic=await db.fetchval(queries.LAST_EPIC),
        last_stories={row["epic_number"]: row["number"] for row in last},
    )


def _by_id(rows: Iterable[Any]) -> dict[UUID, Mapping[str, Any]]:
    return {row["id"]: row for row in rows}


# ── files ──


def _file_row(file_id: UUID, file: Original) -> dict[str, Any]:
    text = _plain_text(file.raw)
    return {
        "id": file_id,
        "kind": file.kind,
        "title": file.path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
        "content": base64.b64encode(file.raw).decode() if text is None else text,
        "encoding": "base64" if text is None else "utf-8",
        "content_hash": hashlib.sha256(file.raw).hexdigest(),
        "source": "import",
    }


def _plain_text(raw: bytes) -> str | None:
    """The bytes as a text that comes back as the same bytes, or None."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _state_row(state_id: UUID, source: str, kept: Mapping[str, Any]) -> dict[str, Any]:
    # Sorted, so that the same state is the same text.
    told = json.dumps({"version": 1, "rows": kept}, sort_keys=True).encode()
    row = _file_row(state_id, Original(f"What was imported from {source}", told))
    return {**row, "kind": STATE}


async def _plan_files(
    db: Transaction, files: Sequence[dict[str, Any]], state: dict[str, Any]
) -> tuple[list[Step], Step]:
    known = _by_id(await db.fetch(queries.STORED_ARTIFACTS, [row["id"] for row in (*files, state)]))
    steps: list[Step] = []
    for row in (*files, state):
        before = known.get(row["id"])
        if before is None:
            steps.append(Create("file", row["title"], row["title"], row))
            continue
        changed = tuple(name for name in ("kind", "title", "encoding", "content_hash") if row[name] != before[name])
        if changed:
            steps.append(Update("file", row["title"], row["title"], row["id"], before["version"], row, changed))
        else:
            steps.append(Keep("file", row["title"]))
    return steps[:-1], steps[-1]


# ── writing ──


async def _write(db: Transaction, planned: Plan, steps: Sequence[Step], stored: Stored) -> None:
    creates: dict[Kind, list[dict[str, Any]]] = {}
    updates: dict[Kind, list[Update]] = {}
    for step in steps:
        if isinstance(step, Create):
            creates.setdefault(step.kind, []).append(dict(step.values))
        elif isinstance(step, Update):
            updates.setdefault(step.kind, []).append(step)
    await _add(db, queries.EPICS, queries.ADD_EPICS, creates.get("epic", ()))
    await _add(db, queries.STORIES, queries.ADD_STORIES, creates.get("story", ()))
    # Tasks before their stories and stories before their epics: the order in which tools lock them.
    await _change(db, queries.TASKS, queries.CHANGE_TASKS, updates.get("task", ()))
    moved = [step for step in updates.get("story", ()) if "status" in step.changed]
    follow = [step.id for step in moved], [is_open(step.values["status"]) for step in moved]
    if moved:
        await db.execute(TASKS_FOLLOW, *follow)
    await _change(db, queries.STORIES, queries.CHANGE_STORIES, updates.get("story", ()))
    if moved:
        # Once more for tasks that were added while a story's row was waited for.
        await db.execute(TASKS_FOLLOW, *follow)
    await _change(db, queries.EPICS, queries.CHANGE_EPICS, updates.get("epic", ()))
    await _add(db, queries.TASKS, queries.ADD_TASKS, await _numbered(db, "task", creates.get("task", ())))
    await _wait(db, planned, updates.get("task", ()), stored)
    await _change(db, queries.ARTIFACTS, queries.CHANGE_ARTIFACTS, updates.get("file", ()))
    await _add(db, queries.ARTIFACTS, queries.ADD_ARTIFACTS, await _numbered(db, "artifact", creates.get("file", ())))


async def _numbered(db: Transaction, kind: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if not rows:
        return []
    first = await db.fetchval(NEXT_NUMBERS, kind, len(rows))
    return [{**row, "number": number} for number, row in enumerate(rows, start=first)]


async def _wait(db: Transaction, planned: Plan, updates: Sequence[Update], stored: Stored) -> None:
    for sql, edges in ((queries.REMOVE_WAITING, planned.remove), (ADD_WAITING, planned.add)):
        for start in range(0, len(edges), 10 * ROWS_AT_ONCE):
            part = edges[start : start + 10 * ROWS_AT_ONCE]
            await db.execute(sql, [one for one, _ in part], [other for _, other in part])
    waiting = {one for one, _ in (*planned.add, *planned.remove) if one in stored.tasks}
    closed = [
        step.id for step in updates if (step.values["status"] in CLOSED) != (stored.tasks[step.id]["status"] in CLOSED)
    ]
    if waiting or closed:
        await db.execute(COUNT_WAITING, sorted(waiting), closed)


async def _add(db: Transaction, bulk: Bulk, sql: str, rows: Sequence[Mapping[str, Any]]) -> None:
    for part in _parts(rows):
        await db.execute(sql, *(_column(part, name, kind) for name, kind in bulk.columns.items()))


async def _change(db: Transaction, bulk: Bulk, sql: str, steps: Sequence[Update]) -> None:
    # In the order of ids, so that two writers of many rows take turns.
    ordered = sorted(steps, key=lambda step: step.id)
    versions = {step.id: step.version for step in ordered}
    for part in _parts([{**step.values, "id": step.id} for step in ordered]):
        arrays = [_column(part, name, bulk.columns[name]) for name in bulk.changing]
        ids = [row["id"] for row in part]
        if len(await db.fetch(sql, ids, [versions[one] for one in ids], *arrays)) != len(part):
            raise _Overtaken


def _parts(rows: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    return (rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE))


def _column(rows: Sequence[Mapping[str, Any]], name: str, kind: str) -> list[Any]:
    if kind != "jsonb":
        return [row[name] for row in rows]
    return [to_json(row[name]).decode() for row in rows]


def _refusal(error: BaseException) -> BmadError:
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    match error:
        case _Overtaken() | asyncpg.DeadlockDetectedError() | asyncpg.SerializationError():
            return Conflict("Tools changed the project at the same time. Nothing was written; import again.")
        case asyncpg.LockNotAvailableError():
            return Conflict(
                "Another import of this project is under way. Nothing was written; import again when it is done."
            )
        case asyncpg.IntegrityConstraintViolationError() | asyncpg.DataError():
            return Conflict(
                f"The database refused what the board says ({first_line}). Nothing was written. Please report this."
            )
        case _:
            return Unavailable(
                f"The import was rolled back and nothing was written ({first_line})."
                " `bmad-mcp doctor` checks the database."
            )
