"""Keeps a folder of BMad files and the database the same while a server runs; the operator names the folder."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from bmad_mcp.bmad_files.sync.reconciling import Round, reconcile, tell_state
from bmad_mcp.bmad_files.sync.watching import watch_branch, watch_database, watch_files
from bmad_mcp.call import OpenProject, Workspace
from bmad_mcp.counts import counted
from bmad_mcp.db import DATABASE_FAILURES
from bmad_mcp.errors import BmadError, Invalid, NotFound
from bmad_mcp.progress import Progress

logger = logging.getLogger("bmad_mcp.sync")

AGAIN_SECONDS = 5.0
WAITING_SECONDS = 0.5
# Editors and git write several files at once; what comes within this time is one round.
QUIET_SECONDS = 0.15
TOLD = 3
LOCK = "SELECT pg_try_advisory_lock(hashtextextended('bmad sync ' || $1::text, 0))"

Connect = Callable[[], Awaitable[asyncpg.Connection]]


class FolderSync:
    """The sync of one folder. `tell` hears in one sentence what a round did, when it did something.

    `connect` opens a connection of its own, past any transaction pooler: it holds a session's lock.
    """

    def __init__(self, workspace: Workspace, folder: Path, connect: Connect, tell: Progress) -> None:
        self._workspace, self._folder, self._connect, self._tell = workspace, folder, connect, tell
        self._hashes: Mapping[str, str] = {}
        self._wake = asyncio.Event()
        self._failure = ""

    async def run(self) -> None:
        """Sync until cancelled. Of several processes one syncs; another takes over when that one ends."""
        while True:
            try:
                opened = await self._workspace.project()
                async with self._leading(opened) as connection:
                    if connection is not None:
                        await self._follow(opened, connection)
                await asyncio.sleep(AGAIN_SECONDS)
            except* (BmadError, *DATABASE_FAILURES) as errors:
                # Told once: the server itself says what is wrong with its database.
                if self._failure != (failure := str(_first(errors))):
                    logger.warning("Sync stopped and tries again: %s", failure)
                self._failure = failure
                if not isinstance(_first(errors), NotFound | Invalid):
                    await self._mend()
                await asyncio.sleep(AGAIN_SECONDS)
            except* Exception as errors:
                # A fault of ours in one round must not end the sync for as long as the server runs.
                if self._failure != (failure := repr(_first(errors))):
                    logger.exception("Sync failed and tries again.")
                self._failure = failure
                await asyncio.sleep(AGAIN_SECONDS)

    async def _mend(self) -> None:
        """After a stop: bring the database back if it is what went away; a call by a tool may be long in coming."""
        with contextlib.suppress(BmadError, *DATABASE_FAILURES):
            await self._workspace.mend()

    @asynccontextmanager
    async def _leading(self, opened: OpenProject) -> AsyncIterator[asyncpg.Connection | None]:
        """A connection that holds the lock of the project's sync, or None while another process has it."""
        connection = await self._connect()
        try:
            yield connection if await connection.fetchval(LOCK, str(opened.id)) else None
        finally:
            # Not a word more: a connection that is gone has no lock.
            connection.terminate()

    async def _follow(self, opened: OpenProject, connection: asyncpg.Connection) -> None:
        wake = self._wake.set
        wake()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(watch_files(self._folder, lambda: self._hashes, wake))
                group.create_task(watch_branch(self._folder, wake))
                group.create_task(watch_database(connection, opened.id, wake))
                group.create_task(self._rounds(opened))
        finally:
            with contextlib.suppress(BmadError, *DATABASE_FAILURES):
                await asyncio.shield(asyncio.wait_for(tell_state(opened, "off", ""), 2))

    async def _rounds(self, opened: OpenProject) -> None:
        last: Round | None = None
        while True:
            await self._wake.wait()
            while self._wake.is_set():
                self._wake.clear()
                await asyncio.sleep(QUIET_SECONDS)
            done = await reconcile(opened, self._folder)
            self._failure = ""
            if done.hashes is not None:
                self._hashes = done.hashes
            if last is None and done.state == "running" and not done.generations:
                self._tell(
                    f"sync: there is no BMad project in {self._folder} yet. What tools make is written there; name another"
                    " folder with --sync if that is not meant"
                )
            if sentence := _sentence(done, last):
                self._tell(sentence)
            last = done
            if done.state == "waiting":
                await asyncio.sleep(WAITING_SECONDS)
                self._wake.set()


def _first(errors: BaseExceptionGroup[Exception]) -> BaseException:
    """The first error that is none of a group."""
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _sentence(done: Round, last: Round | None) -> str:
    """What is worth telling of a round; nothing when it changed nothing and the state is as before."""
    if done.state != "running":
        same = last is not None and (last.state, last.reason) == (done.state, done.reason)
        return "" if same else f"sync is {done.state}: {done.reason}"
    named = "; ".join(f"story {one}" for one in done.stories[:TOLD]) + (" …" if len(done.stories) > TOLD else "")
    parts = [f"{counted(done.taken_in, 'row')} taken in" + (f" ({named})" if named else "") if done.taken_in else ""]
    if done.written:
        names = ", ".join(one.path for one in done.written[:TOLD]) + (" …" if len(done.written) > TOLD else "")
        parts.append(f"{counted(len(done.written), 'file')} written ({names})")
    parts += [f"story {one.conflict.key}, {one.conflict.field}: {one.why}" for one in done.settled]
    before = set(last.conflicts) if last else set()
    parts += [f"conflict in {one.kind} {one.key}, {one.field}" for one in done.conflicts if one not in before]
    refused = set(last.refused) if last else set()
    parts += [f"{one.path} was not written: {one.message}" for one in done.refused if one not in refused]
    if last is not None and last.state != "running":
        parts.insert(0, "running again")
    told = "; ".join(part for part in parts if part)
    return f"sync: {told}" if told else ""
