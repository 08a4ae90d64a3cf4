"""Who asks, in which project, on which transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import asyncpg

from bmad_mcp.db import Transaction, project_transaction, uuid7

if TYPE_CHECKING:
    from bmad_mcp.encryption.vault import Vault
    from bmad_mcp.encryption.vaults import Vaults
    from bmad_mcp.memory.services.choosing import MemoryServices


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
    # None: only the memory in the database serves.
    services: MemoryServices | None = None
    # Where the keys of projects are found; None: nothing is encrypted in any.
    vaults: Vaults | None = None
    # None: nothing of this project is encrypted.
    vault: Vault | None = None

    async def beside(self, project_id: UUID, key: str) -> OpenProject:
        """Another project of the same database; raises Unavailable when its encryption key is missing."""
        vault = await self.vaults.of_project(self.pool, project_id) if self.vaults is not None else None
        return replace(self, id=project_id, key=key, vault=vault)


class Workspace(Protocol):
    """Where calls run: answers once its database is up, and mends a lost connection."""

    async def project(self) -> OpenProject: ...

    async def mend(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class OneProject:
    """A workspace that is open already, and whose lost connections nobody mends."""

    opened: OpenProject

    async def project(self) -> OpenProject:
        return self.opened

    async def mend(self) -> bool:
        return False


@dataclass(slots=True)
class Call:
    """One call: every operation's first parameter. The transaction begins with its first statement."""

    id: str
    operation: str
    caller: Caller
    project_id: UUID
    project_key: str
    db: Transaction
    services: MemoryServices | None = None

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[Transaction]:
        """A short transaction of its own, for what must be said before the call's own one begins."""
        async with project_transaction(self.db.pool, self.project_id, self.db.vault) as transaction:
            yield transaction


@asynccontextmanager
async def open_call(workspace: Workspace, caller: Caller, operation: str) -> AsyncIterator[Call]:
    """A call whose transaction commits when the block ends well and rolls back when it does not."""
    project = await workspace.project()
    transaction = Transaction(project.pool, project.id, project.vault)
    try:
        yield Call(uuid7().hex, operation, caller, project.id, project.key, transaction, project.services)
    except BaseException:
        await transaction.end("ROLLBACK")
        raise
    await transaction.end("COMMIT")
