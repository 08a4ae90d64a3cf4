"""Who asks, in which project, on which transaction."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import asyncpg

from bmad_mcp.db import DATABASE_FAILURES, POOL_WAIT_SECONDS, Transaction, project_transaction, uuid7
from bmad_mcp.errors import Overloaded
from bmad_mcp.replica import Age, Replica, ReplicaLost
from bmad_mcp.telemetry.tracing import current_trace

if TYPE_CHECKING:
    from bmad_mcp.encryption.vault import Vault
    from bmad_mcp.encryption.vaults import Vaults
    from bmad_mcp.memory.embedder import Embedder
    from bmad_mcp.memory.services.choosing import MemoryServices


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `principal` is accountable, `connection` tells one assistant of that principal from another."""

    principal: str = "local"
    connection: str = "local"
    kind: str = "agent"

    @property
    def mark(self) -> str:
        """What the ids of its calls end with, so that the trail tells it from others of the same principal.

        `activity.record.MARK` finds it again. A person's name is not in it: whose pseudonym it is cannot be tried out.
        """
        own = self.connection.removeprefix(f"http:{self.principal}")
        return hashlib.sha256(own.encode()).hexdigest()[:8]

    def new_call_id(self) -> str:
        """32 hexadecimal digits: the milliseconds, then random ones, then the caller's mark.

        As many random ones whatever the clock does: where it went back, ids differ in their last digits only.
        """
        return f"{uuid7().hex[:12]}{os.urandom(6).hex()}{self.mark}"


@dataclass(slots=True)
class Capacity:
    """What a process takes on: so many calls at once (None: any number), each waiting so long for a connection."""

    most: int | None = None
    wait_seconds: float = POOL_WAIT_SECONDS
    under_way: int = field(default=0, init=False)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one call while the block runs; raises Overloaded when there is none."""
        if self.most is not None and self.under_way >= self.most:
            raise Overloaded(
                f"The server has {self.under_way} calls under way and takes on no more. Nothing was begun; call again"
                f" in {Overloaded.retry_after} seconds."
            )
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


@dataclass(frozen=True, slots=True)
class OpenProject:
    """A project that is ready for calls."""

    id: UUID
    key: str
    pool: asyncpg.Pool
    # None: only the memory in the database serves.
    services: MemoryServices | None = None
    # None: the database answers every read.
    replica: Replica | None = None
    # The same for all projects of a process.
    capacity: Capacity = field(default_factory=Capacity, compare=False)
    # The project that the pool's connections begin in; None: they begin in none.
    begins_in: UUID | None = None
    # None: memories are not searched by meaning.
    embedder: Embedder | None = None
    # Where the keys of projects are found; None: nothing is encrypted in any.
    vaults: Vaults | None = None
    # None: nothing of this project is encrypted.
    vault: Vault | None = None
    # How long a thing of the same title is refused without a key; None: it is not.
    similar_seconds: int | None = None

    async def beside(self, project_id: UUID, key: str) -> OpenProject:
        """Another project of the same database; raises Unavailable when its encryption key is missing."""
        vault = await self.vaults.of_project(self.pool, project_id) if self.vaults is not None else None
        return replace(self, id=project_id, key=key, vault=vault)


class Workspace(Protocol):
    """Where calls run: answers once its database is up, and mends a lost connection."""

    async def project(self) -> OpenProject: ...

    async def mend(self) -> bool:
        """After a lost connection: whether the database is back. Raises NoRoom where people must free disk space first."""


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
    # None: the rows are those of now.
    age: Age | None = None
    # None: memories are not searched by meaning.
    embedder: Embedder | None = None
    # How long a thing of the same title is refused; None: it is not.
    similar_seconds: int | None = None

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[Transaction]:
        """A short transaction of its own, for what must be said before the call's own one begins."""
        async with project_transaction(
            self.db.pool, self.project_id, self.db.vault, self.db.wait_seconds
        ) as transaction:
            yield transaction


@asynccontextmanager
async def open_call(
    workspace: Workspace, caller: Caller, operation: str, *, may_be_old: bool = False, alone: bool = False
) -> AsyncIterator[Call]:
    """A call whose transaction commits when the block ends well and rolls back when it does not.

    One that may be old reads from the replica where there is one, and raises ReplicaLost when that fails. With `alone`
    its statements may be transactions of their own, and are where that saves round trips.
    """
    project = await workspace.project()
    replica = project.replica if may_be_old else None
    # The trail takes the trace from the transaction.
    alone = alone and project.begins_in == project.id and current_trace() is None
    with project.capacity.place():
        begun = None if replica is None else await replica.begin(project.pool, project.id)
        transaction, age = begun or (
            Transaction(project.pool, project.id, project.vault, project.capacity.wait_seconds, alone=alone),
            None,
        )
        try:
            try:
                yield Call(
                    caller.new_call_id(),
                    operation,
                    caller,
                    project.id,
                    project.key,
                    transaction,
                    project.services,
                    age,
                    project.embedder,
                    project.similar_seconds,
                )
            except BaseException as error:
                await transaction.undo(error)
                raise
            await transaction.end("COMMIT")
        except DATABASE_FAILURES as error:
            if replica is None or age is None:
                raise
            replica.leave(str(error) or type(error).__name__)
            raise ReplicaLost from error
