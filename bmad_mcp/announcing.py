"""Wakes the processes that follow a project: a NOTIFY after the change is committed, few of them however much changes."""

import asyncio
import contextvars
import logging
from typing import Any
from uuid import UUID

import asyncpg

from bmad_mcp.pool import ReadyPool

logger = logging.getLogger("bmad_mcp.db")

CHANNEL = "bmad_changed"
# A process tells of a project at most so often; what comes in between is told together.
INTERVAL_SECONDS = 0.1
PATIENCE_SECONDS = 5.0
# What tells what happened: statements with one of these write the trail, by themselves or by a function of the database.
# A transaction with such a statement is told of.
TRAIL = ("INSERT INTO bmad_agent_activity", "FROM bmad_do_")
# Nothing is lost with a hint, so nobody waits for the disk.
ANNOUNCE = f"""
SELECT set_config('synchronous_commit', 'off', true), pg_notify('{CHANNEL}', told::text) FROM unnest($1::uuid[]) AS told
"""


def is_change(sql: str) -> bool:
    """Whether the statement writes the trail."""
    return TRAIL[0] in sql or TRAIL[1] in sql


class Announcer:
    """Tells of changes on a pool's connections, from a task of its own: no call waits for it, and it may fail."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._changed: set[UUID] = set()
        self._telling: asyncio.Task[None] | None = None

    def note(self, project_id: UUID) -> None:
        """Tell of a change that is committed: at once, or with the next ones."""
        self._changed.add(project_id)
        if self._telling is None or self._telling.done():
            # In a context of its own: it belongs to no call and to no trace.
            self._telling = asyncio.create_task(self._tell_until_quiet(), context=contextvars.Context())

    async def finish(self) -> None:
        """Tell what is left, now; a process may end right after."""
        telling = self._telling
        self.stop()
        if telling is not None:
            await asyncio.wait({telling})
        await self._tell()

    def stop(self) -> None:
        """Tell no more of what was changed."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None

    async def _tell_until_quiet(self) -> None:
        while self._changed:
            await self._tell()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _tell(self) -> None:
        told, self._changed = list(self._changed), set()
        if not told:
            return
        try:
            async with self._pool.acquire(timeout=PATIENCE_SECONDS) as connection:
                await connection.execute(ANNOUNCE, told, timeout=PATIENCE_SECONDS)
        except asyncio.CancelledError:
            # Left to who breaks this off.
            self._changed.update(told)
            raise
        except Exception as error:
            # Whoever follows looks by themselves now and then, so a hint may fail in any way.
            logger.debug("A change is not told of: %s", error)


class AnnouncingPool(ReadyPool):
    """A pool of connections that tells other processes of what was changed on it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(loop=None, **options)
        # asyncpg.connect arguments of its connections, for who changes some of them.
        self.connect_options: dict[str, Any] = {}
        self._announcer = Announcer(self)

    def note_change(self, project_id: UUID) -> None:
        """Tell of a committed change."""
        self._announcer.note(project_id)

    async def close(self) -> None:
        """Tell what is left, then close the connections."""
        await self._announcer.finish()
        await super().close()

    def terminate(self) -> None:
        self._announcer.stop()
        super().terminate()
