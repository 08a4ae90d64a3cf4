"""Asks the memory service before the call's transaction begins: within its budget, from the cache, never failing."""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import asyncpg

from bmad_mcp.call import Call
from bmad_mcp.db import DATABASE_FAILURES, Transaction
from bmad_mcp.encryption import columns
from bmad_mcp.encryption.vaults import Unreadable, row_of
from bmad_mcp.memory import queries, service_queries
from bmad_mcp.memory.elapsed import in_words, milliseconds_since
from bmad_mcp.memory.provider import Question, Remembered
from bmad_mcp.telemetry import events

if TYPE_CHECKING:
    from bmad_mcp.memory.services.choosing import MemoryServices

logger = logging.getLogger("bmad_mcp.memory")

# The oldest answer that still serves when the service is away.
KEPT_DAYS = 30
NAMES = {"openmemory": "OpenMemory", "mem0": "mem0"}

Freshness = Literal["fresh", "cached", "stale"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service says to a question, now (`fresh`) or earlier; `freshness` None: it said nothing.

    `note` tells people why it is not a fresh whole answer; `latency_ms` is what asking took; `is_noted` says that the
    look-up has left its row.
    """

    provider: str
    items: Sequence[Remembered]
    freshness: Freshness | None
    note: str | None = None
    latency_ms: float = 0.0
    is_noted: bool = False


async def look_up(call: Call, question: Question, *, keep: bool = True) -> Answer | None:
    """What the memory service knows; None where the built-in memory serves alone.

    Comes before the call's first statement, as no network belongs into a transaction. The service has the budget of
    the settings and two more tenths for our own database. `keep` False writes nothing but a note.
    """
    with events.timed() as took:
        answer = await _look_up(call, question, keep)
    if answer is not None:
        events.lookup_ended(answer.provider, answer.freshness or "failed", took.seconds)
    return answer


async def _look_up(call: Call, question: Question, keep: bool) -> Answer | None:
    services = call.services
    if services is None:
        return None
    began = time.perf_counter()
    try:
        async with asyncio.timeout(services.read_seconds):
            choice = await services.ready_choice()
    except TimeoutError:
        return Answer("service", (), None, "The memory service did not answer in time", milliseconds_since(began))
    if choice.provider == "builtin":
        return None
    try:
        async with asyncio.timeout(services.read_seconds + 0.15):
            return await _ask(call, services, choice.provider, question, keep, began)
    except (TimeoutError, *DATABASE_FAILURES) as error:
        # The call itself tells what is wrong with the database, if it needs it.
        logger.warning("No look-up in the memory service: %s", type(error).__name__)
        return Answer(
            choice.provider, (), None, f"{NAMES[choice.provider]} could not be asked in time", milliseconds_since(began)
        )


async def _ask(
    call: Call, services: "MemoryServices", provider: Any, question: Question, keep: bool, began: float
) -> Answer:
    # The errors come with the HTTP client, which is there once there is a service.
    from bmad_mcp.memory.services.http import Refused, Resting, ServiceError  # noqa: PLC0415

    digest = _hash_of(question)
    if call.db.vault is not None:
        # A plain hash of a short question is as good as the question.
        digest = next(iter(call.db.vault.marks("question", digest)), digest)
    # While the service is left alone nothing is sent: then the call's own transaction may begin here.
    rests = services.guards(provider).read.state == "open"
    async with nullcontext(call.db) if rests else call.aside() as db:
        known = await db.fetchrow(service_queries.LOOK_IN_CACHE, question.agent, provider, digest)
        cached = await _cached(db, provider, digest, known["items"])
    if cached is not None and known["is_fresh"]:
        return Answer(provider, cached, "cached", latency_ms=milliseconds_since(began))
    question = replace(question, agent=known["agent"])
    left = max(0.05, services.read_seconds - (time.perf_counter() - began))
    service = services.of_project(provider, call.project_key, read_seconds=left)
    assert service is not None
    try:
        found = await service.search(question)
    except ServiceError as error:
        # No user or no key: what an operator mends, and no answer of an ill service.
        is_ours = isinstance(error, Refused) and not error.counts
        note = f"{error} (`bmad-mcp doctor` says how to mend it)" if is_ours else str(error)
        kept = Answer(provider, (), None, note, milliseconds_since(began))
        if cached is not None:
            age = in_words(known["age"]) or f"{int(known['age'])} seconds"
            kept = replace(kept, items=cached, freshness="stale", note=f"{note}; this is from {age} ago")
        return kept if isinstance(error, Resting) else await _noted(call, question, kept, type(error).__name__)
    missing = "Some of the service's answers did not come" if found.is_partial else None
    answer = Answer(provider, found.items, "fresh", missing, milliseconds_since(began))
    outcome = "partial" if found.is_partial else "found" if found.items else "nothing"
    answer = await _noted(call, question, answer, outcome)
    if keep and not found.is_partial and services.fresh_seconds:
        await _keep(call, provider, digest, found.items, services.fresh_seconds)
    return answer


async def related_in_service(call: Call, ref: str, limit: int) -> Answer | None:
    """What the service has beside one of its own memories; None when this database keeps that one, or no service is."""
    services = call.services
    if services is None or services.known is None or services.known.provider == "builtin":
        return None
    from bmad_mcp.memory.services.http import ServiceError  # noqa: PLC0415

    began, provider = time.perf_counter(), services.known.provider
    async with call.aside() as db:
        if await db.fetchval(service_queries.IS_HERE, ref):
            return None
    service = services.of_project(provider, call.project_key)
    assert service is not None
    try:
        items = await service.related(ref, limit)
    except ServiceError as error:
        return Answer(provider, (), None, str(error), milliseconds_since(began))
    if items is None:
        return Answer(provider, (), None, None, milliseconds_since(began))
    return Answer(provider, items, "fresh", None, milliseconds_since(began))


async def _noted(call: Call, question: Question, answer: Answer, outcome: str) -> Answer:
    """The answer, once a row tells of the look-up that led to it, whatever becomes of the call."""
    values = ("recall", answer.provider, question.category, question.agent, outcome, len(answer.items))
    detail = {"operation": call.operation, "freshness": answer.freshness}
    await _write(call, queries.NOTE, *values, answer.latency_ms, detail)
    return replace(answer, is_noted=True)


async def _keep(call: Call, provider: str, digest: str, items: Sequence[Remembered], seconds: float) -> None:
    kept: Any = [{**asdict(one), "created_at": one.created_at.isoformat()} for one in items]
    if call.db.vault is not None:
        async with call.aside() as db:
            kept = await db.seal(columns.ANSWER, row_of(provider, digest), json.dumps(kept))
    await _write(call, service_queries.KEEP_ANSWER, provider, digest, kept, seconds, KEPT_DAYS)


async def _cached(db: Transaction, provider: str, digest: str, kept: Any) -> list[Remembered] | None:
    """The items of an answer in the cache; None when there is none, or none that can be read."""
    if db.vault is not None and isinstance(kept, str):
        try:
            kept = json.loads(await db.vault.open(db, columns.ANSWER, row_of(provider, digest), kept))
        except Unreadable:
            return None
    return [_item(one) for one in kept] if kept is not None else None


async def _write(call: Call, sql: str, *values: Any) -> None:
    try:
        async with call.aside() as db:
            await db.execute(sql, *values)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError):
        logger.debug("This server may not write, so the look-up leaves no trace")


def _item(kept: dict[str, Any]) -> Remembered:
    return Remembered(**{**kept, "created_at": datetime.fromisoformat(kept["created_at"])})


def _hash_of(question: Question) -> str:
    told = {**asdict(question), "text": " ".join(question.text.split()).casefold()}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:32]
