"""The same statements twice: on a bare asyncpg connection, and as this server sends them."""

from collections import deque
from typing import Any
from uuid import UUID

import asyncpg

from bench.series import Times, awaited_in_turn
from bmad_mcp.db import Transaction, open_pool, uuid7
from bmad_mcp.embedded.endpoints import Endpoints
from bmad_mcp.tasks import queries

RAW, OURS = "raw", "ours"


class OnConnection:
    """A held connection that sees one project; what else is on the way to a row, it leaves out."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def one(self, sql: str, *values: Any) -> Any:
        return await self._connection.fetchrow(sql, *values)


class AsServer:
    """The server's way: a connection of its pool, and its transaction or none."""

    def __init__(self, pool: asyncpg.Pool, project: UUID) -> None:
        self._pool, self._project = pool, project

    async def one(self, sql: str, *values: Any) -> Any:
        transaction = Transaction(self._pool, self._project, alone=True)
        row = await transaction.fetchrow(sql, *values)
        await transaction.end("COMMIT")
        return row


class Statements:
    """The core operations as statements, on one of the two."""

    def __init__(self, on: "OnConnection | AsServer") -> None:
        self._on = on
        self._held: deque[Any] = deque()

    async def create(self) -> None:
        await self._on.one(
            queries.CREATE, uuid7(), "Title", "", "medium", "dev", None, None, 0, True, "bench", "local", "call"
        )

    async def get(self) -> None:
        await self._on.one(queries.GET, 1)

    async def claim(self) -> None:
        self._held.append(await self._on.one(queries.CLAIM, "dev", 900, "task_claim", "local", "call"))

    async def complete(self) -> None:
        if not self._held:
            await self.claim()
        held = self._held.popleft()
        number = int(held["key"].removeprefix("T-"))
        await self._on.one(queries.COMPLETE, number, held["lease"], "", None, "local", "call", "")


async def measured(endpoints: Endpoints, project: UUID, rounds: int) -> dict[str, Times]:
    """Seconds by operation: {raw, ours}."""
    connect = endpoints.app_connect()
    raw = await asyncpg.connect(**connect, server_settings={"app.project": str(project)})
    pool = await open_pool(begins_in=project, **connect)
    try:
        both = {RAW: Statements(OnConnection(raw)), OURS: Statements(AsServer(pool, project))}
        for _ in range(20):
            for one in both.values():
                await one.create()
                await one.claim()
        found: dict[str, Times] = {}
        for operation in ("create", "get", "claim", "complete"):
            ways = {name: getattr(one, operation) for name, one in both.items()}
            found[operation] = await awaited_in_turn(ways, rounds)
        return found
    finally:
        await raw.close()
        await pool.close()
