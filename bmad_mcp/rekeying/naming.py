"""Puts pseudonyms in the place of people's names, in rows from before there were keys."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg

from bmad_mcp.call import OpenProject
from bmad_mcp.db import Transaction, project_transaction, rows_of
from bmad_mcp.encryption.columns import RESULT
from bmad_mcp.encryption.people import NOBODY
from bmad_mcp.encryption.vault import Vault
from bmad_mcp.encryption.vaults import Unreadable, row_of
from bmad_mcp.identity.queries import TELL_CHANGE
from bmad_mcp.rekeying import people_queries as queries
from bmad_mcp.rekeying.places import Page, pages_of

_NOBODY = sorted(NOBODY)
# Longer labels of the daily metrics are cut.
_LONGEST_LABEL = 200


class Naming:
    """Rows that name people: how they are found, a page at a time, and changed by {name: pseudonym}."""

    begin = UUID(int=0)

    def __init__(self, name: str, find: str, change: str, *, first: str | None = None) -> None:
        self.name = name
        self._find, self._change, self._first = find, change, first

    async def page(self, db: Transaction, vault: Vault, start: Any, size: int) -> Page | None:
        await db.execute(queries.IN_ORDER)
        rows = await db.fetch(self._find, _NOBODY, start, size)
        if not rows:
            return None
        known_as = await vault.pseudonyms(db, sorted({name for row in rows for name in row["names"]}))
        if self._first is not None:
            await db.execute(self._first)
        tag = await db.execute(self._change, [row["position"] for row in rows], known_as)
        return Page(rows_of(tag), 0, rows[-1]["position"])


PLACES = (
    Naming("mcp_memories.principal", queries.MEMORIES, queries.CHANGE_MEMORIES),
    Naming("mcp_archive.content", queries.ARCHIVE, queries.CHANGE_ARCHIVE),
)
TRAIL = Naming("bmad_agent_activity.principal", queries.TRAIL, queries.CHANGE_TRAIL, first=queries.MAY_MOVE)


async def still_naming(db: Transaction) -> tuple[int, int]:
    """How many rows name somebody in the clear: those that the server's role may change, and those of the trail."""
    row = await db.fetchrow(queries.LEFT, _NOBODY)
    return row["rows"], row["trail"]


async def give_pseudonyms(
    opened: OpenProject, vault: Vault, at_once: int, owner: asyncpg.Pool | None
) -> AsyncIterator[int]:
    """Change row after row while servers run, and tell after each transaction how many it changed.

    It can be broken off anywhere and run again. Without connections of the owner the trail stays as it is.
    """
    async with project_transaction(opened.pool, opened.id, vault) as db:
        names = [row["name"] for row in await db.fetch(queries.SIGNING_IN, _NOBODY)]
    for name in names:
        yield await _move_person(opened, vault, name)
    for place in PLACES:
        async for page in pages_of(place, opened.pool, opened.id, vault, at_once):
            yield page.changed
    if owner is not None:
        async for page in pages_of(TRAIL, owner, opened.id, vault, at_once):
            yield page.changed
    if changed := await _move_the_rest(opened, vault):
        yield changed


async def _move_person(opened: OpenProject, vault: Vault, name: str) -> int:
    """Who signs in is somebody else from then on, so all that a sign-in or a repeated call looks up moves at once."""
    while True:
        try:
            async with project_transaction(opened.pool, opened.id, vault) as db:
                known_as = await vault.pseudonym(db, name)
                changed = rows_of(await db.execute(queries.MOVE_MEMBER, name, known_as))
                changed += rows_of(await db.execute(queries.DROP_MEMBER, name))
                changed += rows_of(await db.execute(queries.MOVE_TOKENS, name, known_as))
                changed += await _move_results(db, vault, name, known_as)
                await db.execute(TELL_CHANGE)
            return changed
        except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
            vault.forget_freshness()


async def _move_results(db: Transaction, vault: Vault, name: str, known_as: str) -> int:
    """A remembered result is sealed for its row, whose name is a part of its key."""
    operations, keys, results = list[str](), list[str](), list[str | None]()
    for row in await db.fetch(queries.RESULTS_OF, name):
        was, now = (row_of(who, row["operation"], row["key"]) for who in (name, known_as))
        result = row["result"]
        if result is not None:
            try:
                text = await vault.open(db, RESULT, was, result) if isinstance(result, str) else json.dumps(result)
                result = await vault.seal(db, RESULT, now, text)
            except Unreadable:
                # It cannot be read afterwards either, and says so then.
                pass
        operations.append(row["operation"])
        keys.append(row["key"])
        results.append(None if result is None else json.dumps(result))
    if not keys:
        return 0
    changed = rows_of(await db.execute(queries.MOVE_RESULTS, name, known_as, operations, keys, results))
    await db.execute(queries.DROP_RESULTS, name)
    return changed


async def _move_the_rest(opened: OpenProject, vault: Vault) -> int:
    """Sessions and runs of checklists of people who are known by now, and the counts of their days."""
    async with project_transaction(opened.pool, opened.id, vault) as db:
        known_as = {name: pseudonym for pseudonym, name in (await vault.people(db)).items()}
        if not known_as:
            return 0
        changed = rows_of(await db.execute(queries.MOVE_SESSIONS, known_as))
        changed += rows_of(await db.execute(queries.MOVE_RUNS, known_as))
        whole = {name[:_LONGEST_LABEL]: pseudonym for name, pseudonym in known_as.items()}
        for row in await db.fetch(queries.METRIC_NAMES, _NOBODY):
            if row["name"] in whole:
                changed += rows_of(await db.execute(queries.MOVE_METRICS, row["name"], whole[row["name"]]))
    return changed
