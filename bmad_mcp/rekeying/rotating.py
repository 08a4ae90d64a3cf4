"""Gives a project a new key, seals everything with it while servers run, and drops the old ones."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from bmad_mcp.activity.record import record
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.counts import counted
from bmad_mcp.db import Transaction
from bmad_mcp.encryption import queries as key_queries
from bmad_mcp.encryption.vault import FRESH_SECONDS, Vault
from bmad_mcp.memory import vector_queries
from bmad_mcp.memory.keeping import call_on
from bmad_mcp.progress import Progress, untold
from bmad_mcp.rekeying import queries
from bmad_mcp.rekeying.naming import give_pseudonyms, still_naming
from bmad_mcp.rekeying.places import PLACES, pages_of

AT_ONCE = 500


@dataclass(slots=True)
class Rekeyed:
    """What was done: texts that were sealed again, those that cannot be opened, keys that went and that had to stay.

    `named` are rows that have a pseudonym now, `in_trail` those of the trail that still name somebody in the clear.
    """

    changed: int = 0
    unreadable: int = 0
    dropped: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    named: int = 0
    in_trail: int = 0


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key of a project: which of the setting's keys wraps it, and how many texts are sealed with it."""

    name: str
    master: str
    is_retired: bool
    texts: int


@dataclass(frozen=True, slots=True)
class State:
    """The keys of a project, oldest first, and how many texts are in the clear, and rows that name people."""

    keys: list[KeyState]
    in_the_clear: int
    naming: int = 0


async def state_of(db: Transaction) -> State:
    """The keys of the transaction's project; needs none of them."""
    texts = {row["key"]: row["texts"] for row in await db.fetch(queries.COUNT)}
    keys = [
        KeyState(row["id"], row["master_key"], row["is_retired"], texts.get(row["id"], 0))
        for row in await db.fetch(key_queries.KEYS)
    ]
    return State(keys, texts.get(None, 0), sum(await still_naming(db)))


async def rotate(
    opened: OpenProject,
    caller: Caller,
    *,
    progress: Progress = untold,
    at_once: int = AT_ONCE,
    wait_seconds: float = FRESH_SECONDS,
    owner: asyncpg.Pool | None = None,
) -> Rekeyed:
    """Make a new key, seal every text with it and drop the others; finishes a rotation that was broken off instead.

    Servers read both keys meanwhile. `wait_seconds` gives them time to learn of the new one. `owner` are connections of
    the schema's owner, who alone may put pseudonyms into the trail.
    """
    vault = opened.vault
    assert vault is not None
    async with call_on(opened, caller, "keys_rotate") as call:
        await vault.look_again(call.db)
        await vault.wrap_again(call.db)
    if vault.retired:
        earlier = await _finish(opened, vault, caller, progress, at_once, owner)
        # What is left of it then cannot be opened, which is no reason to stay with the key.
        if earlier.changed or earlier.dropped:
            return earlier
    async with call_on(opened, caller, "keys_rotate") as call:
        await call.db.execute(key_queries.RETIRE_KEYS)
        await vault.add_key(call.db)
        await vault.look_again(call.db)
        await record(call, f"key {vault.in_use.name}")
    await asyncio.sleep(wait_seconds)
    return await _finish(opened, vault, caller, progress, at_once, owner)


async def _finish(
    opened: OpenProject, vault: Vault, caller: Caller, progress: Progress, at_once: int, owner: asyncpg.Pool | None
) -> Rekeyed:
    done = await encrypt(opened, caller, progress=progress, at_once=at_once, owner=owner)
    for name in vault.retired:
        (done.dropped if await _drop(opened, vault, name, caller) else done.kept).append(name)
    return done


async def encrypt(
    opened: OpenProject,
    caller: Caller,
    *,
    progress: Progress = untold,
    at_once: int = AT_ONCE,
    owner: asyncpg.Pool | None = None,
) -> Rekeyed:
    """Seal with the key in use what is not, a batch and a transaction after the other; can be broken off anywhere.

    First people get pseudonyms where their names stand.
    """
    vault, done = opened.vault, Rekeyed()
    assert vault is not None
    async for changed in give_pseudonyms(opened, vault, at_once, owner):
        done.named += changed
        progress(f"{opened.key}: {counted(done.named, 'row has', 'rows have')} pseudonyms")
    async for place, changed, unreadable in _pages(opened, vault, at_once):
        done.changed += changed
        done.unreadable += unreadable
        progress(f"{opened.key}: {counted(done.changed, 'text is', 'texts are')} sealed ({place})")
    async with call_on(opened, caller, "keys_encrypt") as call:
        await call.db.execute(queries.DROP_ANSWERS, vault.done)
        # A vector tells what its text means.
        await call.db.execute(vector_queries.FORGET_VECTORS)
        await call.db.execute(vector_queries.FORGET_CENTRES)
        if done.changed or done.named:
            counts = {"count": done.changed, "unreadable": done.unreadable, "named": done.named}
            told: dict[str, Any] = {name: count for name, count in counts.items() if count}
            await record(call, f"key {vault.in_use.name}", **told)
        _, done.in_trail = await still_naming(call.db)
    return done


async def _pages(opened: OpenProject, vault: Vault, at_once: int) -> AsyncIterator[tuple[str, int, int]]:
    for place in PLACES:
        async for page in pages_of(place, opened.pool, opened.id, vault, at_once):
            yield place.name, page.changed, page.unreadable


async def _drop(opened: OpenProject, vault: Vault, name: str, caller: Caller) -> bool:
    """Drop a retired key when nothing is sealed with it any more."""
    async with call_on(opened, caller, "keys_drop") as call:
        # Waits for who writes with it; what they wrote is counted after that.
        await call.db.execute(key_queries.LOCK_KEY, name)
        counted = {row["key"]: row["texts"] for row in await call.db.fetch(queries.COUNT)}
        if counted.get(name):
            return False
        await call.db.execute(key_queries.DROP_KEY, name)
        await record(call, f"key {name}")
        await vault.look_again(call.db)
        return True
