"""Where texts are encrypted: for each place how its rows are found, opened, and sealed with the key in use."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from bmad_mcp.db import Transaction, project_transaction, rows_of
from bmad_mcp.encryption import columns
from bmad_mcp.encryption.vault import Vault
from bmad_mcp.encryption.vaults import Unreadable, row_of
from bmad_mcp.memory.marking import as_kept
from bmad_mcp.rekeying import people_queries, queries

FIRST_ID = str(UUID(int=0))


@dataclass(frozen=True, slots=True)
class Page:
    """What a page came to: how many rows were changed and could not be opened, and where the next page begins."""

    changed: int
    unreadable: int
    next_from: Any


class Place(Protocol):
    """A column that holds sealed texts."""

    name: str
    begin: Any

    async def page(self, db: Transaction, vault: Vault, start: Any, size: int) -> Page | None:
        """Seal the next rows that are not sealed with the key in use; None when there are none."""
        ...


async def pages_of(place: Place, pool: asyncpg.Pool, project_id: UUID, vault: Vault, size: int) -> AsyncIterator[Page]:
    """Every page of a place, each in a transaction of its own."""
    start = place.begin
    while True:
        try:
            async with project_transaction(pool, project_id, vault) as db:
                page = await place.page(db, vault, start, size)
        except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
            # Somebody wrote the same rows at the same time: once more, from where it was.
            vault.forget_freshness()
            continue
        if page is None:
            return
        start = page.next_from
        yield page


class Memories:
    """The texts of memories, with the marks that find them; also those in the archive, which nothing finds."""

    begin = FIRST_ID

    def __init__(self, name: str, find: str, change: str, *, has_search: bool) -> None:
        self.name = name
        self._find, self._change, self._has_search = find, change, has_search

    async def page(self, db: Transaction, vault: Vault, start: Any, size: int) -> Page | None:
        rows = await db.fetch(self._find, vault.done, start, size)
        if not rows:
            return None
        old, texts, unreadable = await _opened(db, vault, columns.MEMORY, rows)
        kept = await as_kept(db, texts)
        values = [
            [UUID(ref) for ref in texts],
            [old[ref] for ref in texts],
            [one.text for one in kept],
            [json.dumps(one.identifiers) for one in kept],
            *([[one.search for one in kept]] if self._has_search else []),
            [one.mark for one in kept],
        ]
        changed = rows_of(await db.execute(self._change, *values)) if texts else 0
        return Page(changed, unreadable, rows[-1]["row"])


class Column:
    """A plain text column."""

    def __init__(self, name: str, begin: str, find: str, change: str) -> None:
        self.name, self.begin = name, begin
        self._find, self._change = find, change

    async def page(self, db: Transaction, vault: Vault, start: Any, size: int) -> Page | None:
        rows = await db.fetch(self._find, vault.done, start, size)
        if not rows:
            return None
        old, texts, unreadable = await _opened(db, vault, self.name, rows)
        at = {row["row"]: row["position"] for row in rows}
        sealed = [await vault.seal(db, self.name, row, text) for row, text in texts.items()]
        values = [[at[row] for row in texts], [old[row] for row in texts], sealed]
        changed = rows_of(await db.execute(self._change, *values)) if texts else 0
        return Page(changed, unreadable, rows[-1]["position"])


class Results:
    """Results that are remembered for repeated calls."""

    name, begin = columns.RESULT, ("", "", "")

    async def page(self, db: Transaction, vault: Vault, start: Any, size: int) -> Page | None:
        rows = await db.fetch(queries.RESULTS, vault.done, *start, size)
        if not rows:
            return None
        changes, unreadable = [], 0
        for row in rows:
            owner = (row["principal"], row["operation"], row["key"])
            old = row["result"]
            try:
                text = (
                    await vault.open(db, columns.RESULT, row_of(*owner), old)
                    if isinstance(old, str)
                    else json.dumps(old)
                )
            except Unreadable:
                unreadable += 1
                continue
            changes.append((*owner, json.dumps(old), await vault.seal(db, columns.RESULT, row_of(*owner), text)))
        values = [list(column) for column in zip(*changes, strict=True)]
        changed = rows_of(await db.execute(queries.CHANGE_RESULTS, *values)) if changes else 0
        last = rows[-1]
        return Page(changed, unreadable, (last["principal"], last["operation"], last["key"]))


class People:
    """Who the pseudonyms are, with the marks that find them."""

    name, begin = columns.PERSON, ""

    async def page(self, db: Transaction, vault: Vault, start: Any, size: int) -> Page | None:
        rows = await db.fetch(people_queries.PEOPLE, vault.done, start, size)
        if not rows:
            return None
        changes, unreadable = [], 0
        for row in rows:
            pseudonym, _, old = row["told"].partition(" ")
            try:
                name = await vault.open(db, columns.PERSON, pseudonym, old)
            except Unreadable:
                unreadable += 1
                continue
            sealed = await vault.seal(db, columns.PERSON, pseudonym, name)
            changes.append((pseudonym, old, sealed, vault.in_use.mark_of_person(name)))
        values = [list(column) for column in zip(*changes, strict=True)]
        changed = rows_of(await db.execute(people_queries.CHANGE_PEOPLE, *values)) if changes else 0
        return Page(changed, unreadable, rows[-1]["position"])


async def _opened(
    db: Transaction, vault: Vault, name: str, rows: Sequence[Any]
) -> tuple[dict[str, str], dict[str, str], int]:
    """The stored texts and the opened ones by row, and how many cannot be opened."""
    old: dict[str, str] = {}
    texts: dict[str, str] = {}
    for row in rows:
        try:
            texts[row["row"]] = await vault.open(db, name, row["row"], row["sealed"])
            old[row["row"]] = row["sealed"]
        except Unreadable:
            continue
    return old, texts, len(rows) - len(texts)


PLACES: tuple[Place, ...] = (
    Memories(columns.MEMORY, queries.MEMORIES, queries.CHANGE_MEMORIES, has_search=True),
    Memories("mcp_archive.content", queries.ARCHIVED, queries.CHANGE_ARCHIVED, has_search=False),
    Column(columns.SESSION, FIRST_ID, queries.SUMMARIES, queries.CHANGE_SUMMARIES),
    Column(columns.FOCUS, FIRST_ID, queries.FOCUSES, queries.CHANGE_FOCUSES),
    Column(columns.COMPLETION, "-1", queries.COMPLETIONS, queries.CHANGE_COMPLETIONS),
    Column(columns.HANDOFF, FIRST_ID, queries.NOTES, queries.CHANGE_NOTES),
    Results(),
    People(),
)
