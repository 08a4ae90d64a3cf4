"""Whether the server is ready for calls: the database answers in time and its schema is this version's."""

import asyncio
import logging

from bmad_mcp.call import Workspace
from bmad_mcp.db import DATABASE_FAILURES
from bmad_mcp.errors import BmadError
from bmad_mcp.schema_version import read_version

logger = logging.getLogger("bmad_mcp.server")

PING_SECONDS = 0.5


class Readiness:
    """Asks the database, one question at a time however many ask; a lost database is brought back meanwhile."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._probe: asyncio.Task[list[str]] | None = None
        self._mending: asyncio.Task[None] | None = None
        # Why the database cannot be brought back before somebody does something.
        self._cause: str | None = None
        self._is_stopping = False

    async def reasons(self) -> list[str]:
        """Why the server is not ready; empty when it is. Takes at most half a second."""
        if self._is_stopping:
            return ["The server is shutting down."]
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._ask())
        # The one that is waited for, even if somebody else begins the next before this goes on.
        probe = self._probe
        # A frozen database also delays the cancelling of a query, so the probe is left to itself.
        done, _ = await asyncio.wait({probe}, timeout=PING_SECONDS)
        if done:
            return ["The server is shutting down."] if probe.cancelled() else probe.result()
        return [f"The database has not answered within {PING_SECONDS} s. It may be starting, or have too much to do."]

    async def _ask(self) -> list[str]:
        try:
            opened = await self._workspace.project()
            async with opened.pool.acquire(timeout=10) as connection:
                version = await read_version(connection, timeout=10)
        except BmadError as error:
            return [error.message]
        except (TimeoutError, *DATABASE_FAILURES) as error:
            logger.info("The database does not answer: %s", error)
            if self._mending is None or self._mending.done():
                self._mending = asyncio.create_task(self._mend())
            return [
                self._cause or "The database does not answer. It is being brought back; `bmad-mcp doctor` tells more."
            ]
        if not version.serves_this:
            mend = " Run `bmad-mcp db upgrade`." if version.fit == "older" else ""
            return [version.sentence() + mend]
        return []

    async def _mend(self) -> None:
        try:
            await self._workspace.mend()
        except BmadError as error:
            self._cause = error.message
        else:
            self._cause = None

    def stop(self) -> None:
        """Not ready from now on: the server ends. Leaves no probe behind."""
        self._is_stopping = True
        for task in (self._probe, self._mending):
            if task is not None:
                task.cancel()
