"""The changes of projects as they happen, whichever process made them: one connection a process, while somebody follows."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg

from bmad_mcp.activity.trail import Changes, Trail
from bmad_mcp.announcing import CHANNEL
from bmad_mcp.errors import Unavailable

logger = logging.getLogger("bmad_mcp.server")

Connect = Callable[[], Awaitable[asyncpg.Connection]]
# None: the server ends.
Hear = Callable[[Changes | None], Awaitable[None]]

# Whoever died before they told, or wrote without telling, is found out by looking.
LOOK_SECONDS = 10.0
# What comes that soon after a change is read together.
TOGETHER_SECONDS = 0.1
AGAIN_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
ANSWER_SECONDS = 5.0


class _Followed:
    """A project that somebody follows."""

    def __init__(self, project_id: UUID) -> None:
        self.trail = Trail(project_id)
        self.hearers: dict[object, Hear] = {}
        self.is_due = True
        self.connection: asyncpg.Connection | None = None
        self.begun = asyncio.Event()
        self.failure: Exception | None = None


class ChangeFeed:
    """Tells who follows a project what changed there. Without followers it has no connection and asks nothing.

    A notification of the database only wakes it; the trail is what it reads. After a lost connection it goes on
    where it was.
    """

    def __init__(self, connect: Connect, *, look_seconds: float = LOOK_SECONDS) -> None:
        """`connect` opens a connection of its own, past any transaction pooler: it listens."""
        self._connect = connect
        self._look_seconds = look_seconds
        self._projects: dict[UUID, _Followed] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failures = 0

    @asynccontextmanager
    async def following(self, project_id: UUID, hear: Hear) -> AsyncIterator[None]:
        """While the block runs, `hear` is told what changes from now on; raises Unavailable when that cannot be."""
        followed = self._projects.setdefault(project_id, _Followed(project_id))
        token = object()
        followed.hearers[token] = hear
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow_always())
        self._woken.set()
        try:
            await followed.begun.wait()
            if followed.failure is not None:
                raise Unavailable(
                    "The database does not answer, so changes cannot be followed. Subscribe again in a few seconds."
                ) from followed.failure
            yield
        finally:
            del followed.hearers[token]
            if not followed.hearers and self._projects.get(project_id) is followed:
                del self._projects[project_id]
            if not self._projects and self._task is not None:
                self._task.cancel()
                self._task = None

    async def end(self) -> None:
        """Let those who follow know that the server ends, so that nobody waits for them."""
        for followed in list(self._projects.values()):
            await _tell(followed, None)

    async def _follow_always(self) -> None:
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    connection = await self._connect()
                try:
                    await self._follow_on(connection)
                finally:
                    connection.terminate()
            except Exception as error:
                # Whatever it was, those who follow are told of all that they missed once it is over.
                level = logging.DEBUG if self._failures else logging.WARNING
                logger.log(level, "Changes are not followed for now: %s", error)
                self._refuse_new(error)
            await asyncio.sleep(AGAIN_SECONDS[self._failures])
            self._failures = min(self._failures + 1, len(AGAIN_SECONDS) - 1)

    def _refuse_new(self, error: Exception) -> None:
        for project_id, followed in list(self._projects.items()):
            if not followed.begun.is_set():
                followed.failure = error
                followed.begun.set()
                del self._projects[project_id]

    async def _follow_on(self, connection: asyncpg.Connection) -> None:
        connection.add_termination_listener(lambda _: self._woken.set())
        async with asyncio.timeout(ANSWER_SECONDS):
            await connection.add_listener(CHANNEL, self._heard)
        while not connection.is_closed():
            self._woken.clear()
            for followed in list(self._projects.values()):
                if followed.is_due or followed.connection is not connection:
                    await self._look(connection, followed)
            await asyncio.sleep(TOGETHER_SECONDS)
            try:
                # Not wait_for: before Python 3.12 it loses a cancellation that comes just as what it waits for is there.
                async with asyncio.timeout(self._look_seconds):
                    await self._woken.wait()
            except TimeoutError:
                for followed in self._projects.values():
                    followed.is_due = True
        raise ConnectionError("the connection was lost")

    def _heard(self, _: object, __: int, ___: str, payload: str) -> None:
        for project_id, followed in self._projects.items():
            if str(project_id) == payload:
                followed.is_due = True
                self._woken.set()

    async def _look(self, connection: asyncpg.Connection, followed: _Followed) -> None:
        followed.is_due = False
        async with asyncio.timeout(ANSWER_SECONDS):
            if followed.connection is not connection:
                await followed.trail.begin(connection)
                followed.connection = connection
            changes = await followed.trail.read(connection)
        followed.begun.set()
        self._failures = 0
        if changes is not None:
            await _tell(followed, changes)


async def _tell(followed: _Followed, changes: Changes | None) -> None:
    for hear in list(followed.hearers.values()):
        try:
            await hear(changes)
        except Exception:
            logger.exception("Somebody could not be told of a change")
