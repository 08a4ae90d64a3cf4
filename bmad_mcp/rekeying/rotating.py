"""Gives a project a new key, seals everything with it while servers run, and drops the old ones."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import asyncpg

from bmad_mcp.activity.record import record
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.db import Transaction, project_transaction
from bmad_mcp.encryption import queries as key_queries
from bmad_mcp.encryption.vault import FRESH_SECONDS, Vault
from bmad_mcp.memory import vector_queries
from bmad_mcp.memory.keeping import call_on
from bmad_mcp.progress import Progress, untold
from bmad_mcp.rekeying import queries
from bmad_mcp.rekeying.places import PLACES

AT_ONCE = 500


@dataclass(slots=True)
class Rekeyed:
    """What was done: texts that were sealed again, those that cannot be opened, keys that went and that had to stay."""

    changed: int = 0
    unreadable: int = 0
    dropped: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key of a project: which of the setting's keys wraps it, and how many texts are sealed with it."""

    name: str
    master: str
    is_retired: bool
    texts: int


@dataclass(frozen=True, slots=True)
class State:
    """The keys of a project, oldest first, and how many texts are in the clear."""

    keys: list[KeyState]
    in_the_clear: int


async def state_of(db: Transaction) -> State:
    """The keys of the transaction's project; needs none of them."""
    texts = {row["key"]: row["texts"] for row in await db.fetch(queries.COUNT)}
    keys = [
        KeyState(row["id"], row["master_key"], row["is_retired"], texts.get(row["id"], 0))
        for row in await db.fetch(key_queries.KEYS)
    ]
    return State(keys, texts.get(None, 0))


async def rotate(
    opened: OpenProject,
    caller: Caller,
    *,
    progress: Progress = untold,
    at_once: int = AT_ONCE,
    wait_seconds: float = FRESH_SECONDS,
) -> Rekeyed:
    """Make a new key, seal every text with it and drop the others; finishes a rotation that was broken off instead.

    Servers read both keys meanwhile. `wait_seconds` gives them time to learn of the new one.
    """
    vault = opened.vault
    assert vault is not None
    async with call_on(opened, caller, "keys_rotate") as call:
        await vault.look_again(call.db)
        await vault.wrap_again(call.db)
    if vault.retired:
        earlier = await _finish(opened, vault, caller, progress, at_once)
        # What is left of it then cannot be opened, which is no reason to stay with the key.
        if earlier.changed or earlier.dropped:
            return earlier
    async with call_on(opened, caller, "keys_rotate") as call:
        await call.db.execute(key_queries.RETIRE_KEYS)
        await vault.add_key(call.db)
        await vault.look_again(call.db)
        await record(call, f"key {vault.in_use.name}")
    await asyncio.sleep(wait_seconds)
    return await _finish(opened, vault, caller, progress, at_once)


async def _finish(opened: OpenProject, vault: Vault, caller: Caller, progress: Progress, at_once: int) -> Rekeyed:
    done = await encrypt(opened, caller, progress=progress, at_once=at_once)
    for name in vault.retired:
        (done.dropped if await _drop(opened, vault, name, caller) else done.kept).append(name)
    return done


async def encrypt(
    opened: OpenProject, caller: Caller, *, progress: Progress = untold, at_once: int = AT_ONCE
) -> Rekeyed:
    """Seal with the key in use what is not, a batch and a transaction after the other; can be broken off anywhere."""
    vault, done = opened.vault, Rekeyed()
    assert vault is not None
    async for place, changed, unreadable in _pages(opened, vault, at_once):
        done.changed += changed
        done.unreadable += unreadable
        progress(f"{opened.key}: {done.changed:,} texts are sealed ({place})")
    async with call_on(opened, caller, "keys_encrypt") as call:
        await call.db.execute(queries.DROP_ANSWERS, vault.done)
        # A vector tells what its text means.
        await call.db.execute(vector_queries.FORGET_VECTORS)
        await call.db.execute(vector_queries.FORGET_CENTRES)
        if done.changed:
            await record(call, f"key {vault.in_use.name}", count=done.changed, unreadable=done.unreadable or None)
    return done


async def _pages(opened: OpenProject, vault: Vault, at_once: int) -> AsyncIterator[tuple[str, int, int]]:
    for place in PLACES:
        start = place.begin
        while True:
            try:
                async with project_transaction(opened.pool, opened.id, vault) as db:
                    page = await place.page(db, vault, start, at_once)
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                # Somebody wrote the same rows at the same time: once more, from where it was.
                continue
            if page is None:
                break
            start = page.next_from
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
