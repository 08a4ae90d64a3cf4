"""Delivers the memories of one agent to the service, in order: each try is committed before it is made."""

import logging
import random
import time
from typing import Any
from uuid import UUID

import asyncpg

from bmad_mcp.db import Transaction, project_transaction
from bmad_mcp.encryption.vaults import Vaults
from bmad_mcp.memory import queries, service_queries
from bmad_mcp.memory.elapsed import milliseconds_since
from bmad_mcp.memory.keeping import readable
from bmad_mcp.memory.provider import NewMemory, Receipt
from bmad_mcp.memory.services.answers import MemoryService, Outgoing
from bmad_mcp.memory.services.choosing import MemoryServices, Provider
from bmad_mcp.memory.services.http import Away, Refused, Resting, ServiceError
from bmad_mcp.memory.services.openmemory import SETTLE_SECONDS
from bmad_mcp.telemetry import events

logger = logging.getLogger("bmad_mcp.memory")

MOST_TRIES = 8
LONGEST_WAIT = 300.0
# Other agents' memories must not wait for a long queue.
AT_ONCE = 20


class Later(Exception):
    """The queue of this agent goes on in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"goes on in {seconds:.0f} s")
        self.seconds = seconds


class Deliveries:
    """Sends queues of memories; one of these in a process, and one process at a time by the job queue's limit."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        services: MemoryServices,
        *,
        settle_seconds: float = SETTLE_SECONDS,
        vaults: Vaults | None = None,
    ) -> None:
        """`settle_seconds` is how long a try that got no answer may still land; `vaults` open encrypted memories."""
        self._pool = pool
        self._vaults = vaults
        self._services = services
        self._settle = settle_seconds
        self._until: dict[tuple[UUID, str | None], float] = {}

    async def send(self, project_id: UUID, agent: str | None) -> None:
        """Send what waits of this agent; raises Later when some is left. Nothing waits: nothing happens."""
        queue = (project_id, agent)
        if self._until.get(queue, 0.0) > time.monotonic():
            # The job that was told to come later takes this one's memory along.
            return
        try:
            for _ in range(AT_ONCE):
                if not await self._send_next(project_id, agent):
                    self._until.pop(queue, None)
                    return
            raise Later(0.0)
        except Later as later:
            self._until[queue] = time.monotonic() + later.seconds - 0.05
            raise

    async def _send_next(self, project_id: UUID, agent: str | None) -> bool:
        vault = await self._vaults.of_project(self._pool, project_id) if self._vaults is not None else None
        async with project_transaction(self._pool, project_id, vault) as db:
            row = await db.fetchrow(service_queries.NEXT_TRY, agent)
            if row is None:
                return False
            (row,) = await readable(db, [row])
        choice = await self._services.choice()
        if choice.provider == "builtin":
            raise Later(60.0)
        service = self._services.of_project(choice.provider, row["project_key"])
        assert service is not None
        if row["attempts"] and row["since_try"] is not None:
            left = _wait(row["attempts"], self._settle) - row["since_try"]
            if left > 0:
                raise Later(left)
        await self._try(project_id, row, choice.provider, service)
        return True

    async def _try(self, project_id: UUID, row: Any, provider: Provider, service: MemoryService) -> None:
        async with project_transaction(self._pool, project_id) as db:
            attempts = await db.fetchval(service_queries.BEGIN_TRY, row["id"], provider)
        if attempts is None:
            return
        began = time.perf_counter()
        try:
            receipt = await service.deliver(
                Outgoing(NewMemory.of_row(row), str(row["id"])), tried_before=row["attempts"] > 0
            )
        except Resting as error:
            await self._take_back(project_id, row, row["attempts"], was_sent=False)
            raise Later(error.seconds + random.uniform(0.0, 1.0)) from error  # noqa: S311
        except Away as error:
            await self._failed(project_id, row, provider, error, began)
            await self._take_back(project_id, row, max(row["attempts"], 1), was_sent=True)
            raise Later(_wait(1, self._settle)) from error
        except ServiceError as error:
            await self._failed(project_id, row, provider, error, began)
            if _is_final(error) or attempts >= MOST_TRIES:
                await self._give_up(project_id, row, provider, str(error))
                return
            raise Later(_wait(attempts, self._settle)) from error
        await self._delivered(project_id, row, provider, receipt, began)

    async def _delivered(self, project_id: UUID, row: Any, provider: Provider, receipt: Receipt, began: float) -> None:
        # An empty receipt is final too: the service takes it for known or for nothing.
        async with project_transaction(self._pool, project_id) as db:
            await db.execute(service_queries.SETTLE, row["id"], "delivered", provider, receipt.ref, None)
            await db.execute(service_queries.AGE_ANSWERS)
            await _note(db, row, provider, receipt.status, began)
        events.delivery_ended(provider, "delivered", time.perf_counter() - began)

    async def _failed(self, project_id: UUID, row: Any, provider: Provider, error: ServiceError, began: float) -> None:
        logger.warning("A memory was not delivered to %s: %s", provider, error)
        events.delivery_ended(provider, "failed", time.perf_counter() - began)
        async with project_transaction(self._pool, project_id) as db:
            await _note(db, row, provider, type(error).__name__, began)

    async def _give_up(self, project_id: UUID, row: Any, provider: Provider, failure: str) -> None:
        async with project_transaction(self._pool, project_id) as db:
            await db.execute(service_queries.SETTLE, row["id"], "dead", provider, None, failure)
        events.delivery_ended(provider, "given_up", 0.0)

    async def _take_back(self, project_id: UUID, row: Any, attempts: int, *, was_sent: bool) -> None:
        async with project_transaction(self._pool, project_id) as db:
            await db.execute(service_queries.TAKE_BACK_TRY, row["id"], attempts, was_sent, row["since_try"] or 0.0)


def _wait(attempts: int, settle: float) -> float:
    """Seconds from one try to the next: never while the last one may still land."""
    return max(settle, min(LONGEST_WAIT, settle / 8 * 2.0**attempts))


def _is_final(error: ServiceError) -> bool:
    """Whether another try would end in the same way: the service refuses this memory, not the moment."""
    return isinstance(error, Refused) and 400 <= error.status < 500 and error.status not in (401, 403, 404, 408, 429)


async def _note(db: Transaction, row: Any, provider: Provider, outcome: str, began: float) -> None:
    detail = {"memory": str(row["id"]), "try": row["attempts"] + 1}
    await db.execute(
        queries.NOTE, "store", provider, row["category"], row["agent"], outcome, 1, milliseconds_since(began), detail
    )
