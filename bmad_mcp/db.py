"""The asyncpg pool, and transactions that see one project only."""

import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import anyio
import asyncpg
from pydantic_core import from_json, to_json

from bmad_mcp.errors import Unavailable
from bmad_mcp.telemetry.connections import ObservedConnection, acquired
from bmad_mcp.telemetry.tracing import current_trace

logger = logging.getLogger("bmad_mcp.db")

POOL_SIZE = 5
STATEMENT_TIMEOUT_SECONDS = 30.0
# The server ends a statement at its own limit; past this one nobody is there any more to end it.
COMMAND_TIMEOUT_SECONDS = STATEMENT_TIMEOUT_SECONDS + 5
# What work that goes on by itself survives. The last comes when a connection ends in the middle of another statement.
DATABASE_FAILURES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def uuid7() -> UUID:
    """A time-ordered UUID (RFC 9562, version 7): new rows land at the end of each index."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | (random >> 68 & 0xFFF) << 64
    value |= 0b10 << 62 | (random & ((1 << 62) - 1))
    return UUID(int=value)


async def _prepare_connection(connection: asyncpg.Connection) -> None:
    for type_name in ("jsonb", "json"):
        await connection.set_type_codec(
            type_name, schema="pg_catalog", encoder=lambda value: to_json(value).decode(), decoder=from_json
        )


async def _keep_connection(connection: asyncpg.Connection) -> None:
    """Replaces asyncpg's reset round trip: nothing that outlives a transaction is ever set on a connection."""


@dataclass(slots=True)
class Transaction:
    """One transaction on one project, opened by its first statement; statements run in order, never at once."""

    pool: asyncpg.Pool
    project_id: UUID
    # True once COMMIT was sent: from then on a lost connection leaves the outcome unknown.
    committing: bool = field(default=False, init=False)
    _connection: Any = field(default=None, init=False)

    async def _open(self) -> Any:
        if self._connection is None:
            self._connection = await acquired(self.pool.acquire(timeout=10))
            # One round trip for all; a UUID and the hexadecimal id of a trace, so nothing can be injected.
            trace = current_trace()
            joined = f", set_config('app.trace', '{trace[0]}', true)" if trace is not None else ""
            await self._connection.execute(
                f"BEGIN; SELECT set_config('app.project', '{UUID(str(self.project_id))}', true){joined}"
            )
        return self._connection

    async def fetch(self, sql: str, *values: Any) -> list[Any]:
        """All rows."""
        return await (self._connection or await self._open()).fetch(sql, *values)  # type: ignore[no-any-return]

    async def fetchrow(self, sql: str, *values: Any) -> Any:
        """The first row, or None."""
        return await (self._connection or await self._open()).fetchrow(sql, *values)

    async def fetchval(self, sql: str, *values: Any) -> Any:
        """The first column of the first row, or None."""
        return await (self._connection or await self._open()).fetchval(sql, *values)

    async def execute(self, sql: str, *values: Any) -> str:
        """The command tag, such as `UPDATE 1`."""
        return await (self._connection or await self._open()).execute(sql, *values)  # type: ignore[no-any-return]

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """One statement for many rows, in one batch."""
        await (self._connection or await self._open()).executemany(sql, rows)

    async def end(self, verb: str) -> None:
        """COMMIT or ROLLBACK, then give the connection back; a broken connection is dropped.

        Shielded: a caller that went away must not leave a transaction open or a connection lost to the pool.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with anyio.CancelScope(shield=True):
            try:
                self.committing = verb == "COMMIT"
                tag = await connection.execute(verb)
            except BaseException:
                connection.terminate()
                raise
            finally:
                await self.pool.release(connection)
        if verb == "COMMIT" and tag != "COMMIT":
            raise Unavailable("The database rolled the change back. Nothing was written; call again.")


def rows_of(tag: str) -> int:
    """How many rows a command tag such as `UPDATE 1` tells of."""
    return int(tag.split()[-1])


@asynccontextmanager
async def project_transaction(pool: asyncpg.Pool, project_id: UUID) -> AsyncIterator[Transaction]:
    """A transaction of a worker's own: commits when the block ends well, rolls back when it does not."""
    transaction = Transaction(pool, project_id)
    try:
        yield transaction
    except BaseException:
        await transaction.end("ROLLBACK")
        raise
    await transaction.end("COMMIT")


async def open_pool(**connect: Any) -> asyncpg.Pool:
    """A pool of at most five connections for asyncpg.connect arguments such as `dsn`, or `host`, `user`, `database`."""
    settings = {
        "application_name": "bmad-mcp",
        "statement_timeout": str(int(STATEMENT_TIMEOUT_SECONDS * 1000)),
        "lock_timeout": "10000",
        "idle_in_transaction_session_timeout": "60000",
        **connect.pop("server_settings", {}),
    }
    return await asyncpg.create_pool(
        min_size=1,
        max_size=POOL_SIZE,
        init=_prepare_connection,
        reset=_keep_connection,
        connection_class=ObservedConnection,
        server_settings=settings,
        **{"command_timeout": COMMAND_TIMEOUT_SECONDS, **connect},
    )
