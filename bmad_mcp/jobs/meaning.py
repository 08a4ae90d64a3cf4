"""The job `meaning_probe`: one process finds out whether the service's search by meaning works, and all learn it."""

from typing import TYPE_CHECKING, cast

import asyncpg

from bmad_mcp.call import OpenProject
from bmad_mcp.jobs import queries
from bmad_mcp.jobs.job import WHOLE_DATABASE, JobContext, Outcome, Reach
from bmad_mcp.jobs.schedule import schedule_transaction

if TYPE_CHECKING:
    from bmad_mcp.memory.services.choosing import MemoryServices
    from bmad_mcp.memory.services.openmemory import OpenMemory

NAME = "meaning_probe"


async def has_openmemory(reach: Reach) -> bool:
    """Whether this process has a service whose search by meaning may be broken; mem0 searches by meaning always."""
    return reach.services is not None and (await reach.services.choice()).provider == "openmemory"


async def probe_meaning(_: OpenProject, context: JobContext) -> Outcome:
    """Try the search once; {"service", "meaning"}."""
    assert context.services is not None
    service = cast("OpenMemory", context.services.of_project("openmemory", "jobs"))
    return {"service": context.service, "meaning": await service.meaning.probe()}


async def adopt_meaning(pool: asyncpg.Pool, services: "MemoryServices", service: str) -> None:
    """Let this process's look-ups use, or leave alone, what the last probe of its service found."""
    async with schedule_transaction(pool) as connection:
        result = await connection.fetchval(queries.RESULT, WHOLE_DATABASE, NAME)
    if result and result.get("service") == service:
        services.guards("openmemory").finds_meaning = result.get("meaning") is True
