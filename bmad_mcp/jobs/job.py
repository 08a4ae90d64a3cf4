"""What a job is, and what it may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import asyncpg

from bmad_mcp.call import Caller, OpenProject

if TYPE_CHECKING:
    from bmad_mcp.encryption.vaults import Vaults
    from bmad_mcp.memory.embedder import Embedder
    from bmad_mcp.memory.services.choosing import MemoryServices

# The project of jobs that belong to the database as a whole.
WHOLE_DATABASE = UUID(int=0)
CALLER = Caller("scheduled job", "jobs", "system")

# What a job did: small JSON, such as {"deleted": 3}.
Outcome = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobContext:
    """What jobs work with. Their connections are their own: no call waits for one that a job has.

    `service` tells one memory service from another, without its address. `open_owner` gives connections of the role that
    this process may migrate with, which need not own the schema. `upgrade` brings the schema up with it.
    """

    pool: asyncpg.Pool
    open_owner: Callable[[], AbstractAsyncContextManager[asyncpg.Pool]]
    upgrade: Callable[[], Awaitable[None]]
    services: MemoryServices | None = None
    service: str = ""
    embedder: Embedder | None = None
    # None: nothing is encrypted in any project.
    vaults: Vaults | None = None


class Reach(Protocol):
    """What a process has beside the database: a JobContext, or an open project."""

    @property
    def services(self) -> MemoryServices | None: ...

    @property
    def embedder(self) -> Embedder | None: ...


@dataclass(frozen=True, slots=True)
class Need:
    """What not every process has; `missing` and `why` say that one has not, in two words and in a sentence."""

    is_met: Callable[[Reach], Awaitable[bool]]
    missing: str
    why: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job of each project, or of the database as a whole.

    `run` can be broken off anywhere and run again. A process that has not what it needs leaves it to the others.
    """

    name: str
    told: str
    every: timedelta
    run: Callable[[OpenProject, JobContext], Awaitable[Outcome]]
    is_of_database: bool = False
    need: Need | None = None

    async def can_run(self, reach: Reach) -> bool:
        """Whether this process has what the job needs."""
        return self.need is None or await self.need.is_met(reach)
