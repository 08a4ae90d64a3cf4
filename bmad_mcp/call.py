"""Who asks, in which project, on which transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import asyncpg

from bmad_mcp.db import Transaction, uuid7


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `principal` is accountable, `connection` tells one assistant of that principal from another."""

    principal: str = "local"
    connection: str = "local"
    kind: str = "agent"


@dataclass(frozen=True, slots=True)
class OpenProject:
    """A project that is ready for calls."""

    id: UUID
    key: str
    pool: asyncpg.Pool


class Workspace(Protocol):
    """Where calls run: answers once its database is up, and mends a lost connection."""

    async def project(self) -> OpenProject: ...

    async def mend(self) -> bool: ...


@dataclass(slots=True)
class Call:
    """One call: every operation's first parameter. The transaction begins with its first statement."""

    id: str
    operation: str
    caller: Caller
    project_id: UUID
    project_key: str
    db: Transaction


@asynccontextmanager
async def open_call(workspace: Workspace, caller: Caller, operation: str) -> AsyncIterator[Call]:
    """A call whose transaction commits when the block ends well and rolls back when it does not."""
    project = await workspace.project()
    transaction = Transaction(project.pool, project.id)
    try:
        yield Call(uuid7().hex, operation, caller, project.id, project.key, transaction)
    except BaseException:
        await transaction.end("ROLLBACK")
        raise
    await transaction.end("COMMIT")
