"""The archive: rows go there before retention deletes them, people can take it out, and what is forgotten leaves it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from bmad_mcp.activity.record import record
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.db import Transaction, rows_of
from bmad_mcp.errors import Unavailable
from bmad_mcp.jobs import archive_queries as queries
from bmad_mcp.jobs.job import CALLER
from bmad_mcp.memory.keeping import Selection, call_on

Kind = Literal["activity", "integrations", "memories"]

# Short transactions: nobody waits for one, and what stops the job loses little.
AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Statements:
    """How rows of a kind are found, copied, compared and deleted."""

    old: str
    copy: str
    same: str
    delete: str


TRAIL = Statements(queries.OLD_ACTIVITY, queries.COPY_ACTIVITY, queries.SAME_ACTIVITY, queries.DELETE_ACTIVITY)
INTEGRATIONS = Statements(
    queries.OLD_INTEGRATIONS, queries.COPY_INTEGRATIONS, queries.SAME_INTEGRATIONS, queries.DELETE_INTEGRATIONS
)


async def archive_old(
    opened: OpenProject, kind: Kind, statements: Statements, before: datetime, below: UUID, *, at_once: int = AT_ONCE
) -> int:
    """Move rows older than `before` with ids below `below` into the archive; how many that were.

    Each batch is copied, compared by count and checksum, and deleted in one transaction: when anything of it fails,
    nothing of the batch is deleted. Raises Unavailable when copies and rows differ.
    """
    total = 0
    while True:
        async with call_on(opened, CALLER, "retention") as call:
            ids = [row["id"] for row in await call.db.fetch(statements.old, before, below, at_once)]
            if not ids:
                return total
            await call.db.execute(statements.copy, ids)
            await _compare(call.db, kind, statements.same, ids)
            await call.db.execute(queries.LET_GO, before.isoformat())
            deleted = rows_of(await call.db.execute(statements.delete, ids, before))
            if deleted != len(ids):
                raise Unavailable(
                    f"{deleted:,} of {len(ids):,} archived rows of {kind} could be deleted; nothing was. The job tries again."
                )
            await record(call, f"{kind} archived", count=len(ids), before=before.isoformat())
        total += len(ids)


async def archive_memories(opened: OpenProject, ids: Sequence[UUID]) -> None:
    """Copy these memories into the archive; raises Unavailable when the copies are not the same."""
    for start in range(0, len(ids), AT_ONCE):
        batch = list(ids[start : start + AT_ONCE])
        async with call_on(opened, CALLER, "retention") as call:
            there = [row["id"] for row in await call.db.fetch(queries.THERE, batch)]
            await call.db.execute(queries.COPY_MEMORIES, there)
            await _compare(call.db, "memories", queries.SAME_MEMORIES, there)


async def _compare(db: Transaction, kind: Kind, statement: str, ids: list[UUID]) -> None:
    same = await db.fetchval(statement, ids)
    if same != len(ids):
        raise Unavailable(
            f"{len(ids) - same:,} of {len(ids):,} rows of {kind} are not in the archive as they are in their table;"
            " nothing was deleted. The job tries again; if it stays so, look into the log of PostgreSQL."
        )


async def remove_old(opened: OpenProject, before: datetime) -> int:
    """Delete what was archived before that; how many rows that were."""
    async with call_on(opened, CALLER, "retention") as call:
        removed = rows_of(await call.db.execute(queries.REMOVE_OLD, before))
        if removed:
            await record(call, "archive", count=removed, before=before.isoformat())
        return removed


async def contents(opened: OpenProject, caller: Caller) -> list[dict[str, Any]]:
    """What the archive holds: for each kind the number of rows, the oldest and the newest moment."""
    async with call_on(opened, caller, "archive_list") as call:
        return [dict(row) for row in await call.db.fetch(queries.HOW_MANY)]


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of the archive: their keys, and a JSON text for each."""

    keys: list[tuple[str, UUID]]
    lines: list[str]


async def pages(opened: OpenProject, caller: Caller) -> AsyncIterator[Page]:
    """All that is in the archive, by kind and id; raises Unavailable for a row that its checksum does not fit."""
    kind, last = "", UUID(int=0)
    while True:
        async with call_on(opened, caller, "archive_export") as call:
            rows = await call.db.fetch(queries.NEXT_PAGE, kind, last, AT_ONCE)
        if not rows:
            return
        if broken := [row for row in rows if not row["is_whole"]]:
            raise Unavailable(
                f"The archived row {broken[0]['id']} of {broken[0]['kind']} is not what was archived: its checksum differs."
                " Nothing was removed; take the row from a backup of the database."
            )
        kind, last = rows[-1]["kind"], rows[-1]["id"]
        yield Page([(row["kind"], row["id"]) for row in rows], [row["line"] for row in rows])


async def remove(opened: OpenProject, keys: Sequence[tuple[str, UUID]], caller: Caller) -> int:
    """Delete these rows from the archive, with a row in the trail; how many that were."""
    removed = 0
    for start in range(0, len(keys), AT_ONCE):
        batch = keys[start : start + AT_ONCE]
        async with call_on(opened, caller, "archive_remove") as call:
            kinds, ids = [kind for kind, _ in batch], [key for _, key in batch]
            count = rows_of(await call.db.execute(queries.REMOVE, kinds, ids))
            await record(call, "archive", count=count)
        removed += count
    return removed


@dataclass(frozen=True, slots=True)
class Archived:
    """How many memories of the archive fit a selection, and the references that they are known by, in lower case."""

    count: int
    refs: frozenset[str]


async def archived_memories(opened: OpenProject, selection: Selection, caller: Caller) -> Archived:
    """The memories of the archive that fit a selection."""
    async with call_on(opened, caller, "memory_forget") as call:
        rows = await call.db.fetch(queries.MEMORIES_THERE, *selection.values)
    refs = {str(row["id"]) for row in rows} | {row["service_ref"].lower() for row in rows if row["service_ref"]}
    return Archived(len(rows), frozenset(refs))


async def forget_archived(opened: OpenProject, selection: Selection, caller: Caller) -> int:
    """Delete the memories from the archive that fit a selection; how many that were."""
    async with call_on(opened, caller, "memory_forget") as call:
        removed = rows_of(await call.db.execute(queries.REMOVE_MEMORIES, *selection.values))
        if removed:
            await record(call, "archive", count=removed)
        return removed
