"""Puts memories on their way to the service: a job in the caller's transaction asks for an agent's queue to be sent."""

import asyncio
from collections.abc import Iterable
from uuid import UUID

from bmad_mcp.call import Call
from bmad_mcp.db import Transaction
from bmad_mcp.memory import service_queries

ENTRYPOINT = "memory_delivery"


async def is_delivering(call: Call) -> bool:
    """Whether what is kept now goes to a service too.

    The first time in a process that waits for the probe, within the budget of a look-up. A service that says nothing
    until then is none: what is kept stays here.
    """
    services = call.services
    if services is None:
        return False
    choice = services.known
    if choice is None:
        try:
            async with asyncio.timeout(services.read_seconds):
                choice = await services.ready_choice()
        except TimeoutError:
            return False
    return choice.provider != "builtin"


async def enqueue(db: Transaction, agents: Iterable[str | None]) -> None:
    """A job for each of these agents of the project; None stands for memories that no agent stored."""
    payloads = [payload_of(db.project_id, agent) for agent in dict.fromkeys(agents)]
    if payloads:
        await db.execute(service_queries.ENQUEUE, ENTRYPOINT, payloads)


async def queue_again(db: Transaction, *deliveries: str) -> int:
    """Send what is in one of these states (`dead`, `queued`, `stored`) now; how many memories that are."""
    rows = await db.fetch(service_queries.QUEUE_AGAIN, list(deliveries))
    await enqueue(db, [row["agent"] for row in rows])
    return sum(row["memories"] for row in rows)


def payload_of(project_id: UUID, agent: str | None) -> bytes:
    """What a job carries: whose queue it is, and no text of it."""
    return f"{project_id}/{agent or ''}".encode()


def queue_of(payload: bytes | None) -> tuple[UUID, str | None]:
    """(project, agent) of a job; raises ValueError for what is none."""
    project, _, agent = (payload or b"").decode().partition("/")
    return UUID(project), agent or None
