"""The asyncpg pool, and transactions that see one project only."""

import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import asyncpg
from pydantic_core import from_json, to_json

from bmad_mcp.announcing import AnnouncingPool, is_change
from bmad_mcp.errors import Unavailable
from bmad_mcp.telemetry.connections import ObservedConnection, acquired
from bmad_mcp.telemetry.events import connection_acquired
from bmad_mcp.telemetry.tracing import current_trace

if TYPE_CHECKING:
    from bmad_mcp.encryption.vault import Vault

logger = logging.getLogger("bmad_mcp.db")

POOL_SIZE = 5
# How long a transaction waits for a connection where nobody said otherwise.
POOL_WAIT_SECONDS = 10.0
STATEMENT_TIMEOUT_SECONDS = 30.0
# The server ends a statement at its own limit; past this one nobody is there any more to end it.
COMMAND_TIMEOUT_SECONDS = STATEMENT_TIMEOUT_SECONDS + 5
# A process that stands still in the middle of a transaction keeps its row locks so long.
IDLE_SECONDS = 10
# Longer than that, so that who waits for those locks gets them.
LOCK_SECONDS = IDLE_SECONDS + 3
LIMITS = {
    "statement_timeout": str(int(STATEMENT_TIMEOUT_SECONDS * 1000)),
    "lock_timeout": str(LOCK_SECONDS * 1000),
    "idle_in_transaction_session_timeout": str(IDLE_SECONDS * 1000),
}
# Of a transaction that plans, or writes files, between its statements.
MAY_PAUSE = "set_config('idle_in_transaction_session_timeout', '60000', true)"
# What work that goes on by itself survives. The last comes when a connection ends in the middle of another statement.
DATABASE_FAILURES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class _Last:
    """The newest id of this process."""

    value = 0


def uuid7() -> UUID:
    """A time-ordered UUID (RFC 9562, version 7): new rows land at the end of each index, in the order they were made."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | (random >> 68 & 0xFFF) << 64
    value |= 0b10 << 62 | (random & ((1 << 62) - 1))
    # Two of one millisecond keep their order, also while the clock stands still or goes back.
    _Last.value = max(value, _Last.value + 1)
    return UUID(int=_Last.value)


class PooledConnection(ObservedConnection):
    """A connection through a transaction pooler, where the next transaction may meet another session.

    So the limits are set in each one. It needs `statement_cache_size=0`: what was prepared may be in another session.
    """

    __slots__ = ()
    is_reading = False

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        return await super().execute(
            query if args else _limited(query, read_only=self.is_reading), *args, timeout=timeout
        )


class ReadingPooledConnection(PooledConnection):
    """The same where PostgreSQL refuses every write: a pooler keeps no setting, so each transaction says it."""

    __slots__ = ()
    is_reading = True


# asyncpg.connect arguments beside an address that leads through a pooler.
THROUGH_POOLER = {"connection_class": PooledConnection, "statement_cache_size": 0}


def _limited(query: str, *, read_only: bool) -> str:
    """A query that begins a transaction, with what a pooler refuses as settings of a session."""
    if not query.startswith("BEGIN"):
        return query
    begin, _, rest = query.partition(";")
    if read_only and "READ ONLY" not in begin:
        begin += " READ ONLY"
    limits = "; ".join(f"SET LOCAL {name} = {value}" for name, value in LIMITS.items())
    return f"{begin}; {limits};{rest}"


async def _prepare_connection(connection: asyncpg.Connection) -> None:
    for type_name in ("jsonb", "json"):
        await connection.set_type_codec(
            type_name, schema="pg_catalog", encoder=lambda value: to_json(value).decode(), decoder=from_json
        )


async def _prepare_for_reading(connection: asyncpg.Connection) -> None:
    await _prepare_connection(connection)
    # A pooler that nobody told of may drop what a connection asks for at its start.
    if await connection.fetchval("SHOW default_transaction_read_only") != "on":
        raise Unavailable(
            "The server is read-only, and the way to its database does not keep connections so. Set"
            " BMAD_DATABASE_DIRECT_URL to the address without the pooler."
        )


async def _keep_connection(connection: asyncpg.Connection) -> None:
    """Replaces asyncpg's reset round trip: nothing that outlives a transaction is ever set on a connection."""


@dataclass(slots=True)
class Transaction:
    """One transaction on one project, opened by its first statement; statements run in order, never at once.

    With `alone` each statement is a transaction of its own; the pool's connections must begin in the project.

    What it writes to the trail is told to other processes once it is committed.
    """

    pool: AnnouncingPool
    project_id: UUID
    # None: nothing of the project is encrypted.
    vault: "Vault | None" = None
    wait_seconds: float = POOL_WAIT_SECONDS
    alone: bool = False
    # True once COMMIT was sent: from then on a lost connection leaves the outcome unknown.
    committing: bool = field(default=False, init=False)
    _connection: Any = field(default=None, init=False)
    _changes: bool = field(default=False, init=False)

    async def _open(self) -> Any:
        if self._connection is None:
            self._connection = self.pool.take()
            if self._connection is None:
                # A limit makes a task of the waiting; a connection that is idle is had at once.
                waiting = {} if self.pool.get_idle_size() else {"timeout": self.wait_seconds}
                self._connection = await acquired(self.pool.acquire(**waiting))
            else:
                connection_acquired(0.0)
            if self.alone:
                # The statement that goes out next commits itself.
                self.committing = True
                return self._connection
            # One round trip for all; a UUID and the hexadecimal id of a trace, so nothing can be injected.
            trace = current_trace()
            joined = f", set_config('app.trace', '{trace[0]}', true)" if trace is not None else ""
            await self._connection.execute(
                f"BEGIN; SELECT set_config('app.project', '{UUID(str(self.project_id))}', true){joined}"
            )
        return self._connection

    async def fetch(self, sql: str, *values: Any) -> list[Any]:
        """All rows."""
        self._changes = self._changes or is_change(sql)
        return await (self._connection or await self._open()).fetch(sql, *values)  # type: ignore[no-any-return]

    async def fetchrow(self, sql: str, *values: Any) -> Any:
        """The first row, or None."""
        self._changes = self._changes or is_change(sql)
        return await (self._connection or await self._open()).fetchrow(sql, *values)

    async def fetchval(self, sql: str, *values: Any) -> Any:
        """The first column of the first row, or None."""
        self._changes = self._changes or is_change(sql)
        return await (self._connection or await self._open()).fetchval(sql, *values)

    async def execute(self, sql: str, *values: Any) -> str:
        """The command tag, such as `UPDATE 1`."""
        self._changes = self._changes or is_change(sql)
        return await (self._connection or await self._open()).execute(sql, *values)  # type: ignore[no-any-return]

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """One statement for many rows, in one batch."""
        await (self._connection or await self._open()).executemany(sql, rows)

    async def may_pause(self) -> None:
        """For a transaction whose process works for some time between two statements."""
        await self.execute(f"SELECT {MAY_PAUSE}")

    def keep_together(self) -> None:
        """One transaction around all statements, also where they may be alone; then, before the first of them."""
        assert self._connection is None or not self.alone
        self.alone = False

    async def seal(self, place: str, row: str, text: str) -> str:
        """The text as it is to be stored in `table.column` of a row: encrypted where the project is; empty stays empty."""
        return text if self.vault is None or not text else await self.vault.seal(self, place, row, text)

    async def reveal(self, place: str, row: str, text: str) -> str:
        """A text that was stored there, readable again; a note where it cannot be decrypted."""
        return text if self.vault is None or not text else await self.vault.reveal(self, place, row, text)

    async def person(self, told: str | None) -> str | None:
        """Who is meant by what `people.told` gave, as people read it."""
        return told if self.vault is None or told is None else await self.vault.person(self, told)

    async def end(self, verb: str) -> None:
        """COMMIT or ROLLBACK, then give the connection back; a broken connection is dropped.

        Shielded: a caller that went away must not leave a transaction open or a connection lost to the pool.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            return
        tag = verb
        # What commits itself has nothing to send, so nothing can come in between.
        is_kept = self.alone and verb == "COMMIT" and self.pool.keep(connection)
        if not is_kept:
            tag = await self._release(connection, verb)
        if verb == "COMMIT" and tag != "COMMIT":
            raise Unavailable("The database rolled the change back. Nothing was written; call again.")
        if verb == "COMMIT" and self._changes:
            self.pool.note_change(self.project_id)

    async def _release(self, connection: Any, verb: str) -> str:
        tag, is_kept = verb, False
        with anyio.CancelScope(shield=True):
            try:
                if not self.alone:
                    self.committing = verb == "COMMIT"
                    tag = await connection.execute(verb)
                    is_kept = tag == "COMMIT" and self.pool.keep(connection)
            except BaseException:
                connection.terminate()
                raise
            finally:
                if not is_kept:
                    await self.pool.release(connection)
        return tag

    async def undo(self, error: BaseException) -> None:
        """Roll back what failed with this error.

        A database that did not answer in time is not asked again: with the connection gone it rolls back by itself.
        """
        if isinstance(error, TimeoutError):
            await self.abandon()
        else:
            await self.end("ROLLBACK")

    async def abandon(self) -> None:
        """Drop the connection without a word to its end, which may not answer; nothing was written."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
            with anyio.CancelScope(shield=True):
                await self.pool.release(connection)


def rows_of(tag: str) -> int:
    """How many rows a command tag such as `UPDATE 1` tells of."""
    return int(tag.split()[-1])


@asynccontextmanager
async def project_transaction(
    pool: AnnouncingPool,
    project_id: UUID,
    vault: "Vault | None" = None,
    wait_seconds: float = POOL_WAIT_SECONDS,
) -> AsyncIterator[Transaction]:
    """A transaction of a worker's own: commits when the block ends well, rolls back when it does not."""
    transaction = Transaction(pool, project_id, vault, wait_seconds)
    try:
        yield transaction
    except BaseException as error:
        await transaction.undo(error)
        raise
    await transaction.end("COMMIT")


async def open_pool(*, begins_in: UUID | None = None, read_only: bool = False, **connect: Any) -> AnnouncingPool:
    """A pool of at most five connections for asyncpg.connect arguments such as `dsn`, or `host`, `user`, `database`.

    With `begins_in` its connections see that project where no transaction names another one. Only for servers that are
    reached directly: a transaction pooler would refuse the setting, or lose it. With `read_only` PostgreSQL refuses
    every write on them (25006).
    """
    kind = connect.pop("connection_class", ObservedConnection)
    is_pooled = issubclass(kind, PooledConnection)
    if is_pooled and read_only:
        kind = ReadingPooledConnection
    # What a pooler is sent at the start of a session it refuses, or worse, ignores.
    own = {} if is_pooled else LIMITS | ({"default_transaction_read_only": "on"} if read_only else {})
    project = {"app.project": str(begins_in)} if begins_in is not None else {}
    settings = {"application_name": "bmad-mcp", **project, **own, **connect.pop("server_settings", {})}
    options = {
        "server_settings": settings,
        # A statement is prepared once in the life of its connection.
        "max_cached_statement_lifetime": 0,
        "timeout": POOL_WAIT_SECONDS,
        "command_timeout": COMMAND_TIMEOUT_SECONDS,
        **connect,
    }
    pool = AnnouncingPool(
        min_size=1,
        max_size=POOL_SIZE,
        # Through a pooler each transaction says that it only reads.
        init=_prepare_for_reading if read_only and not is_pooled else _prepare_connection,
        reset=_keep_connection,
        connection_class=kind,
        record_class=asyncpg.Record,
        **options,
    )
    pool.connect_options = options
    await pool
    return pool


async def begin_in(pool: AnnouncingPool, project_id: UUID) -> None:
    """From now on all connections of a pool begin in this project, as with `open_pool(begins_in=…)`.

    Nobody else may use the pool yet.
    """
    settings = pool.connect_options["server_settings"] | {"app.project": str(project_id)}
    pool.set_connect_args(**(pool.connect_options | {"server_settings": settings}))
    if pool.get_size() > 1:
        await pool.expire_connections()
        return
    # The one that is there costs less to tell than to replace.
    async with pool.acquire() as connection:
        await connection.execute("SELECT set_config('app.project', $1, false)", str(project_id))
