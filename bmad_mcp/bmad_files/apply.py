"""Carries out a plan in one transaction, one statement for all rows of a kind."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from bmad_mcp.bmad_files import queries
from bmad_mcp.bmad_files.plan import Stored
from bmad_mcp.bmad_files.queries import Bulk
from bmad_mcp.bmad_files.rows import TEMPLATE_KINDS
from bmad_mcp.bmad_files.steps import Create, Kind, Step, Update
from bmad_mcp.bmad_files.story_rows import OPEN_FOR_WORK
from bmad_mcp.db import Transaction, uuid7
from bmad_mcp.lifecycles import TaskStatus
from bmad_mcp.memory.marking import as_kept
from bmad_mcp.progress import Progress, untold

ROWS_AT_ONCE = 1000
CHARACTERS_AT_ONCE = 8_000_000

Values = Mapping[str, Any]

_DEFINITIONS: tuple[tuple[tuple[Kind, ...], Bulk, str, str], ...] = (
    (("agent",), queries.AGENTS, queries.ADD_AGENTS, queries.CHANGE_AGENTS),
    (tuple(TEMPLATE_KINDS.values()), queries.TEMPLATES, queries.ADD_TEMPLATES, queries.CHANGE_TEMPLATES),
    (("checklist",), queries.CHECKLISTS, queries.ADD_CHECKLISTS, queries.CHANGE_CHECKLISTS),
)


class Overtaken(Exception):
    """A tool changed a row between the reading and the writing; plan again."""


def is_write(step: Step) -> bool:
    """Whether the step changes the database."""
    return isinstance(step, Create | Update)


async def apply(db: Transaction, steps: Sequence[Step], stored: Stored, tell: Progress = untold) -> None:
    """Write every Create and Update; raises Overtaken when a row is not at the version that was planned from.

    `tell` hears how far it is where one statement is not enough for all rows of a kind.
    """
    todo = _Todo(steps)
    # Tasks before their stories and stories before their epics: the order in which tools lock them.
    await _change(db, tell, queries.TASKS, queries.CHANGE_TASKS, todo.updates("task"))
    followers = [(step.id, step.values["status"] in OPEN_FOR_WORK) for step in todo.updates("story")]
    follow = [one[0] for one in followers], [one[1] for one in followers]
    if followers:
        await db.execute(queries.TASKS_FOLLOW, *follow)
    await _change(db, tell, queries.STORIES, queries.CHANGE_STORIES, todo.updates("story"))
    if followers:
        # Once more for tasks that were added while a story's row was waited for.
        await db.execute(queries.TASKS_FOLLOW, *follow)
    await _change(db, tell, queries.EPICS, queries.CHANGE_EPICS, todo.updates("epic"))
    stories = await _add_stories(db, tell, todo, stored)
    await _add_tasks(db, tell, todo, stories)
    for kinds, bulk, add, change in _DEFINITIONS:
        await _change(db, tell, bulk, change, todo.updates(*kinds))
        await _add(db, tell, bulk, add, [step.values for step in todo.creates(*kinds)])
    await _write_files(db, tell, todo, stories)
    memories = await _sealed(db, [step.values for step in todo.creates("memory")])
    await _add(db, tell, queries.MEMORIES, queries.ADD_MEMORIES, memories)


async def _sealed(db: Transaction, rows: Sequence[Values]) -> list[Values]:
    """Memories as they are stored: encrypted where the project is."""
    kept = await as_kept(db, {str(row["id"]): row["text"] for row in rows})
    return [
        {**row, "text": one.text, "identifiers": one.identifiers, "search": one.search, "text_mark": one.mark}
        for row, one in zip(rows, kept, strict=True)
    ]


class _Todo:
    """The writing steps by kind."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._creates: dict[Kind, list[Create]] = {}
        self._updates: dict[Kind, list[Update]] = {}
        for step in steps:
            if isinstance(step, Create):
                self._creates.setdefault(step.kind, []).append(step)
            elif isinstance(step, Update):
                self._updates.setdefault(step.kind, []).append(step)

    def creates(self, *kinds: Kind) -> list[Create]:
        return [step for kind in kinds for step in self._creates.get(kind, ())]

    def updates(self, *kinds: Kind) -> list[Update]:
        return [step for kind in kinds for step in self._updates.get(kind, ())]


async def _add_stories(db: Transaction, tell: Progress, todo: _Todo, stored: Stored) -> dict[str, UUID]:
    """Add epics and stories; the ids of all stories by their keys."""
    epics = {key: known["id"] for key, known in stored.epics.items()}
    stories = {key: known["id"] for key, known in stored.stories.items()}
    rows = [{**step.values, "id": epics.setdefault(step.key, uuid7())} for step in todo.creates("epic")]
    await _add(db, tell, queries.EPICS, queries.ADD_EPICS, rows)
    rows = [
        {**step.values, "id": stories.setdefault(step.key, uuid7()), "epic_id": epics[step.values["epic"]]}
        for step in todo.creates("story")
    ]
    await _add(db, tell, queries.STORIES, queries.ADD_STORIES, rows)
    return stories


async def _add_tasks(db: Transaction, tell: Progress, todo: _Todo, stories: Mapping[str, UUID]) -> None:
    creates = todo.creates("task")
    ids: dict[Any, UUID] = {step.key: uuid7() for step in creates}
    if creates:
        first = await db.fetchval(queries.NEXT_NUMBERS, "task", len(creates))
        rows = [
            {**step.values, "id": ids[step.key], "number": number, "story_id": stories[step.values["story"]]}
            for number, step in enumerate(creates, start=first)
        ]
        await _add(db, tell, queries.TASKS, queries.ADD_TASKS, rows)
    waiting, awaited = [], []
    parents: set[UUID] = set()
    for step in creates:
        for one in step.values["waits_for"]:
            waiting.append(ids[step.key])
            awaited.append(ids.get(one, one))
        if (parent := step.values["awaited_by"]) is not None:
            waiting.append(parent)
            awaited.append(ids[step.key])
            parents.add(parent)
    if waiting:
        await db.execute(queries.ADD_WAITING, waiting, awaited)
    closed = [step.id for step in todo.updates("task") if "status" in step.changed and _is_closed(step.values)]
    if parents or closed:
        await db.execute(queries.COUNT_WAITING, list(parents), closed)


def _is_closed(values: Values) -> bool:
    return values["status"] in (TaskStatus.COMPLETED, TaskStatus.CANCELLED)


async def _write_files(db: Transaction, tell: Progress, todo: _Todo, stories: Mapping[str, UUID]) -> None:
    await _change(db, tell, queries.ARTIFACTS, queries.CHANGE_ARTIFACTS, todo.updates("file"))
    creates = todo.creates("file")
    if not creates:
        return
    first = await db.fetchval(queries.NEXT_NUMBERS, "artifact", len(creates))
    rows = [
        {**step.values, "number": number, "story_id": stories.get(step.values["story"])}
        for number, step in enumerate(creates, start=first)
    ]
    await _add(db, tell, queries.ARTIFACTS, queries.ADD_ARTIFACTS, rows)


async def _add(db: Transaction, tell: Progress, bulk: Bulk, sql: str, rows: Sequence[Values]) -> None:
    done = 0
    for part in _parts(rows):
        await db.execute(sql, *(_column(part, name, kind) for name, kind in bulk.columns.items()))
        done += len(part)
        _tell_part(tell, bulk, done, len(rows))


async def _change(db: Transaction, tell: Progress, bulk: Bulk, sql: str, steps: Sequence[Update]) -> None:
    # In the order of ids, so that two writers of many rows take turns.
    ordered = sorted(steps, key=lambda step: step.id)
    done = 0
    for part in _parts(ordered):
        rows = [step.values for step in part]
        arrays = [_column(rows, name, bulk.columns[name]) for name in bulk.changing]
        done += len(await db.fetch(sql, [step.id for step in part], [step.version for step in part], *arrays))
        _tell_part(tell, bulk, done, len(steps))
    if done != len(steps):
        raise Overtaken


def _tell_part(tell: Progress, bulk: Bulk, done: int, rows: int) -> None:
    if done < rows:
        tell(f"{done} of {rows} {bulk.table.partition('_')[2]} written")


def _parts(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The rows in parts that are neither too many nor too large for one statement."""
    part: list[Any] = []
    size = 0
    for row in rows:
        values = row.values if isinstance(row, Update) else row
        length = len(values.get("content") or "")
        if part and (len(part) >= ROWS_AT_ONCE or size + length > CHARACTERS_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(row)
        size += length
    if part:
        yield part


def _column(rows: Sequence[Values], name: str, kind: str) -> list[Any]:
    if kind not in ("jsonb", "names"):
        return [row[name] for row in rows]
    return [None if row[name] is None else to_json(row[name]).decode() for row in rows]
