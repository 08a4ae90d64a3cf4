"""The checks of `doctor` for memories: the service, what waits for it or was given up, and what is kept here."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg

from bmad_mcp.app import connect_memory, memory_embedder
from bmad_mcp.commands.finding import Finding
from bmad_mcp.errors import Unavailable
from bmad_mcp.memory import keeping_queries, service_queries, vector_queries
from bmad_mcp.memory.elapsed import in_words
from bmad_mcp.memory.embedder import in_a_sentence
from bmad_mcp.memory.forget_plan import memories
from bmad_mcp.memory.service_pages import knows_user
from bmad_mcp.settings import Settings
from bmad_mcp.told_commands import in_project

# The probe has one second of it, health the rest: whoever looks for a fault does not wait for a service that hangs.
WHOLE_SECONDS = 2.3
HEALTH_SECONDS = 1.0
LATE_SECONDS = 600.0

# What the choice and a health check say, and what mends it.
MENDS = (
    ("API key", "Set BMAD_MEMORY_API_KEY."),
    (" 401", "Set BMAD_MEMORY_API_KEY."),
    (" 403", "Set BMAD_MEMORY_API_KEY."),
    ("does not know the user", "Run: bmad-mcp memory introduce. Or set BMAD_MEMORY_USER to a user that it knows."),
    ("did not answer in time", "Look at the service, or set BMAD_MEMORY_PROVIDER=builtin to do without."),
    ("no memory service", "Set BMAD_MEMORY_URL to one, or BMAD_MEMORY_PROVIDER=builtin to do without."),
    ("is not OpenMemory", "Set BMAD_MEMORY_URL, or BMAD_MEMORY_PROVIDER=auto."),
    ("is not a mem0 server", "Set BMAD_MEMORY_URL, or BMAD_MEMORY_PROVIDER=auto."),
)
ELSE = "Start it, or set BMAD_MEMORY_URL; until then the built-in memory serves."


async def check_memory(settings: Settings) -> Finding:
    """The memory service of the settings; without one the built-in memory serves, so its absence is well."""
    if settings.memory_provider == "builtin":
        return Finding("ok", "Memory", "built-in, by BMAD_MEMORY_PROVIDER")
    try:
        services = connect_memory(settings, min(HEALTH_SECONDS, settings.memory_budget_seconds))
    except ValueError as error:
        return Finding(
            "warn",
            "Memory",
            f"BMAD_MEMORY_URL cannot be used, so the built-in memory serves. {error}",
            "Set BMAD_MEMORY_URL to an address such as http://localhost:8765.",
        )
    try:
        async with asyncio.timeout(WHOLE_SECONDS):
            return await _ask(services)
    except TimeoutError:
        return Finding("warn", "Memory", f"the service at {settings.memory_url} did not answer in time", ELSE)
    finally:
        await services.aclose()


async def _ask(services: Any) -> Finding:
    choice = await services.choice()
    service = services.of_project(choice.provider, "doctor")
    if service is None:
        # Nobody has to have a service: only what answers in a wrong way is worth a warning.
        if "is not there" in choice.why:
            return Finding("ok", "Memory", choice.why)
        return Finding("warn", "Memory", choice.why, _mend(choice.why))
    health = await service.health()
    text = f"{choice.why}. {health.detail}"
    if health.ok and knows_user(health.detail):
        return Finding("ok", "Memory", text)
    return Finding("warn", "Memory", text, _mend(health.detail))


def _mend(text: str) -> str:
    return next((mend for said, mend in MENDS if said in text), ELSE)


async def check_deliveries(connection: asyncpg.Connection, settings: Settings) -> AsyncIterator[Finding]:
    """What waits for the service or was given up, how asking it went lately, and what is kept here.

    The connection is in a transaction that sees one project.
    """
    row = await connection.fetchrow(service_queries.WAITING)
    reasons = await connection.fetch(keeping_queries.DEAD_REASONS)
    for found in _deliveries(row, reasons, settings):
        yield found
    left: int = await connection.fetchval(keeping_queries.LEFT_HERE)
    if left and settings.memory_provider != "builtin":
        told = f"{memories(left)} only here, though earlier ones went to the service"
        yield Finding("warn", "Kept here", told, f"Run: {in_project('memory deliver', settings.project)}")
    failures = await connection.fetch(keeping_queries.FAILED_LATELY)
    if failures:
        told = ", ".join(f"{one['outcome']} {one['times']:,}" for one in failures)
        yield Finding("ok", "Failures", f"of the memory service in the last day: {told}")
    sizes = await connection.fetchrow(keeping_queries.SIZES)
    yield Finding(
        "ok",
        "Memories",
        f"{sizes['memories']:,} kept here, {sizes['answers']:,} answers in the cache; for all projects together"
        f" {_size(sizes['memory_bytes'])} and {_size(sizes['cache_bytes'])}",
    )
    yield await _check_vectors(connection, settings)


async def _check_vectors(connection: asyncpg.Connection, settings: Settings) -> Finding:
    if settings.memory_vectors == "off":
        return Finding("ok", "Search", "Vectors are off, by BMAD_MEMORY_VECTORS; auto turns them on.")
    embedder = memory_embedder(settings)
    told = in_a_sentence(embedder)
    if embedder is None:
        return Finding("ok", "Search", told)
    try:
        await embedder.model()
    except Unavailable as error:
        return Finding("warn", "Search", "the model of the search by meaning is broken", error.message)
    row = await connection.fetchrow(vector_queries.STATE)
    return Finding("ok", "Search", f"{told} {row['vectors']:,} of {memories(row['memories'])} have a vector.")


def _deliveries(row: Any, reasons: list[Any], settings: Settings) -> Iterator[Finding]:
    if row["queued"]:
        age = in_words(row["oldest"]) or "less than a minute"
        told = f"{memories(row['queued'])} in the queue for the service, the oldest for {age}"
        if settings.memory_provider == "builtin":
            yield Finding("warn", "Deliveries", told, "Set BMAD_MEMORY_PROVIDER to the service that they are for.")
        elif row["oldest"] > LATE_SECONDS:
            mend = f"A running server delivers them when the service is well. Or run: {in_project('memory retry --now', settings.project)}"
            yield Finding("warn", "Deliveries", told, mend)
        else:
            yield Finding("ok", "Deliveries", told)
    if row["dead"]:
        told = "; ".join(f"{one['failure']} ({one['memories']:,})" for one in reasons)
        yield Finding(
            "warn",
            "Given up",
            f"{memories(row['dead'])} (dead): {told}",
            f"Mend the reason, then run: {in_project('memory retry', settings.project)}",
        )
    if not row["queued"] and not row["dead"]:
        yield Finding("ok", "Deliveries", "nothing waits, nothing was given up")


def _size(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"
