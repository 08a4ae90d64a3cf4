"""What is kept of a project's memories: chosen, counted, and read page after page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from bmad_mcp.call import Call, Caller, OneProject, OpenProject, open_call
from bmad_mcp.db import Transaction
from bmad_mcp.encryption import columns
from bmad_mcp.memory import keeping_queries
from bmad_mcp.memory.identifiers import identifiers_of
from bmad_mcp.memory.invisible import flags_of

PAGE = 1_000
# Smaller than the id of any memory.
FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which memories; all that is given has to fit, and nothing given is all of the project.

    `refs` are ids here or in the service, `before` and `since` are about when a memory was stored here.
    """

    refs: tuple[str, ...] | None = None
    principal: str | None = None
    category: str | None = None
    agent: str | None = None
    before: datetime | None = None
    since: datetime | None = None
    # What the rows may have in the place of the principal's name; `of_person` finds it.
    known_as: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether it is the whole project, also what the service keeps of it for other databases."""
        return self == Selection()

    @property
    def principals(self) -> list[str] | None:
        """The principal as rows may name it; None for any."""
        return [one for one in (self.principal, self.known_as) if one is not None] or None

    @property
    def values(self) -> tuple[Any, ...]:
        """The first six values of the statements that choose."""
        refs = None if self.refs is None else [ref.lower() for ref in self.refs]
        return refs, self.principals, self.category, self.agent, self.before, self.since


@asynccontextmanager
async def call_on(opened: OpenProject, caller: Caller, operation: str) -> AsyncIterator[Call]:
    """A call on an open project that commits when the block ends well."""
    async with open_call(OneProject(opened), caller, operation) as call:
        yield call


async def of_person(opened: OpenProject, selection: Selection, caller: Caller) -> Selection:
    """The selection with the pseudonym that its principal has in the project."""
    vault = opened.vault
    if vault is None or selection.principal is None:
        return selection
    async with call_on(opened, caller, "memory_list") as call:
        return replace(selection, known_as=await vault.find_person(call.db, selection.principal))


async def count(opened: OpenProject, selection: Selection, caller: Caller) -> int:
    """How many memories fit."""
    async with call_on(opened, caller, "memory_list") as call:
        found: int = await call.db.fetchval(keeping_queries.HOW_MANY, *selection.values)
        return found


async def latest(opened: OpenProject, selection: Selection, limit: int, caller: Caller) -> list[dict[str, Any]]:
    """The newest memories that fit, in the shape of `as_data`."""
    async with call_on(opened, caller, "memory_list") as call:
        rows = await readable(call.db, await call.db.fetch(keeping_queries.LATEST, *selection.values, limit))
    return [as_data(row, opened.key) for row in rows]


async def every(opened: OpenProject, selection: Selection, caller: Caller) -> AsyncIterator[list[dict[str, Any]]]:
    """All memories that fit, oldest id first, a page at a time, in the shape of `as_data`.

    Each page is a transaction of its own: what is stored or erased meanwhile may be in it or not.
    """
    async for rows in in_pages(opened, keeping_queries.NEXT_PAGE, "memory_export", selection, caller):
        yield [as_data(row, opened.key) for row in rows]


async def in_pages(
    opened: OpenProject, statement: str, operation: str, selection: Selection, caller: Caller, *, size: int = PAGE
) -> AsyncIterator[list[Any]]:
    """The rows of a statement that takes a selection, the last id and a number; each page in a call of its own."""
    last = FIRST
    while True:
        async with call_on(opened, caller, operation) as call:
            await call.db.execute(keeping_queries.IN_ORDER)
            rows = await readable(call.db, await call.db.fetch(statement, *selection.values, last, size))
        if not rows:
            return
        last = rows[-1]["id"]
        yield rows


async def readable(db: Transaction, rows: list[Any]) -> list[Any]:
    """Rows of memories with their texts and names as they were stored, and who stored them."""
    if db.vault is None or not rows or "text" not in rows[0]:
        return rows
    found = []
    for row in rows:
        text = await db.reveal(columns.MEMORY, str(row["id"]), row["text"])
        names = {"identifiers": identifiers_of(text)} if "identifiers" in row and text != row["text"] else {}
        who = {"principal": await db.person(row["principal"])} if "principal" in row else {}
        found.append({**row, "text": text, **names, **who})
    return found


def as_data(row: Any, project: str) -> dict[str, Any]:
    """A memory with all of its provenance as plain JSON; `flags` names characters that people do not see."""
    return {
        "id": str(row["id"]),
        "project": project,
        "source": "here",
        "text": row["text"],
        "category": row["category"],
        "agent": row["agent"],
        "author": row["author_kind"],
        "principal": row["principal"],
        "confidence": row["confidence"],
        "identifiers": list(row["identifiers"]),
        "created_at": row["created_at"].isoformat(),
        "delivery": row["delivery"],
        "provider": row["provider"],
        "service_ref": row["service_ref"],
        "attempts": row["attempts"],
        "attempted_at": row["attempted_at"].isoformat() if row["attempted_at"] else None,
        "failure": row["failure"],
        "flags": flags_of(row["text"]),
    }
