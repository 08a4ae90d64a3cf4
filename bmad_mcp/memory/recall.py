"""Asks the memory and notes how it went; a session that opens never waits long for it and never fails for it."""

import logging
import time
from dataclasses import dataclass

import asyncpg

from bmad_mcp.call import Call
from bmad_mcp.errors import BmadError
from bmad_mcp.memory import queries
from bmad_mcp.memory.builtin import BuiltinMemory
from bmad_mcp.memory.provider import MemoryProvider, Question, Remembered

logger = logging.getLogger("bmad_mcp.memory")

BUDGET_MS = 2_000
# Rolling back also takes the time limit away; a look-up leaves nothing else to undo.
BEGIN_LOOK = f"SAVEPOINT look; SET LOCAL statement_timeout = {BUDGET_MS}; SET LOCAL lock_timeout = {BUDGET_MS}"
END_LOOK = "ROLLBACK TO SAVEPOINT look; RELEASE SAVEPOINT look"


@dataclass(frozen=True, slots=True)
class Recall:
    """What a look-up found, where, how it ended (`found`, `nothing`, `unavailable`) and how long it took."""

    source: str
    items: list[Remembered]
    outcome: str
    latency_ms: float


def memory_of(call: Call) -> MemoryProvider:
    """The memory of the call's project."""
    return BuiltinMemory(call.db)


async def recall(call: Call, question: Question) -> Recall:
    """What the memory finds for a question."""
    memory, began = memory_of(call), time.perf_counter()
    items = await memory.recall(question)
    return Recall(memory.name, items, "found" if items else "nothing", _since(began))


async def recall_within_budget(call: Call, question: Question) -> Recall:
    """The same for a caller that cannot fail for it: after two seconds or an error the source is `unavailable`."""
    began = time.perf_counter()
    await call.db.execute(BEGIN_LOOK)
    try:
        return await recall(call, question)
    except (asyncpg.PostgresError, BmadError) as error:
        logger.warning("The memory did not answer: %s", type(error).__name__)
        return Recall("unavailable", [], "unavailable", _since(began))
    finally:
        await call.db.execute(END_LOOK)


async def note_recall(call: Call, found: Recall, *, category: str | None = None, agent: str | None = None) -> None:
    """Leave a row about a look-up, in a transaction that may write."""
    await call.db.execute(
        queries.NOTE,
        "recall",
        found.source,
        category,
        agent,
        found.outcome,
        len(found.items),
        found.latency_ms,
        {"operation": call.operation},
    )


async def may_note(call: Call) -> bool:
    """Whether this transaction may write at all."""
    allowed: bool = await call.db.fetchval(queries.MAY_NOTE)
    return allowed


def _since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
