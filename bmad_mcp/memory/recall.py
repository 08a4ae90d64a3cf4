"""Recalls from the database and from what the memory service said, and notes how it went; never waits long for it."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import asyncpg

from bmad_mcp.call import Call
from bmad_mcp.errors import BmadError
from bmad_mcp.memory import queries
from bmad_mcp.memory.builtin import BuiltinMemory
from bmad_mcp.memory.elapsed import milliseconds_since
from bmad_mcp.memory.look_up import Answer, Freshness
from bmad_mcp.memory.provider import Question, Remembered
from bmad_mcp.telemetry import events

logger = logging.getLogger("bmad_mcp.memory")

BUDGET_MS = 2_000
# Rolling back also takes the time limit away; a look-up leaves nothing else to undo.
BEGIN_LOOK = f"SAVEPOINT look; SET LOCAL statement_timeout = {BUDGET_MS}; SET LOCAL lock_timeout = {BUDGET_MS}"
END_LOOK = "ROLLBACK TO SAVEPOINT look; RELEASE SAVEPOINT look"


@dataclass(frozen=True, slots=True)
class Recall:
    """What a look-up found, where, how it ended (`found`, `nothing`, `unavailable`) and how long it took.

    `source` is the service that answered, or `builtin`. What a service's answer holds beside its own items is in
    `from_here`. `freshness` and `note` tell how the service's part came to be; `is_noted` that it has left its row.
    """

    source: str
    items: list[Remembered]
    outcome: str
    latency_ms: float
    freshness: Freshness | None = None
    note: str | None = None
    from_here: frozenset[str] = frozenset()
    is_noted: bool = False


async def recall(call: Call, question: Question, answer: Answer | None = None) -> Recall:
    """What the database finds for a question, together with what the service answered."""
    memory, began = BuiltinMemory(call.db, call.embedder), time.perf_counter()
    items = await memory.recall(question)
    own = Recall(memory.name, items, "found" if items else "nothing", milliseconds_since(began))
    events.lookup_ended(own.source, own.outcome, own.latency_ms / 1000)
    return with_service(own, answer, question)


def with_service(own: Recall, answer: Answer | None, question: Question) -> Recall:
    """The best of both, each memory once; where the service said nothing, what is here with the reason."""
    if answer is None:
        return own
    if answer.freshness is None:
        return replace(own, note=f"{answer.note}: this is from the project's database only")
    here = {one.ref: one for one in own.items}
    texts = {one.text for one in own.items}
    others = [one for one in answer.items if one.key not in here and one.text not in texts]
    items = _best([*own.items, *others], question)
    return Recall(
        answer.provider,
        items,
        "found" if items else "nothing",
        round(own.latency_ms + answer.latency_ms, 3),
        answer.freshness,
        answer.note,
        frozenset(here),
        answer.is_noted,
    )


def _best(items: Sequence[Remembered], question: Question) -> list[Remembered]:
    # The score 0 says that nothing matched and these are the latest: of no use beside what did match.
    fitting = [one for one in items if one.score != 0] or list(items)
    return sorted(fitting, key=lambda one: (-(one.score or 0.0), -one.created_at.timestamp()))[: question.limit]


async def recall_within_budget(call: Call, question: Question, answer: Answer | None = None) -> Recall:
    """The same for a caller that cannot fail for it: after two seconds or an error the source is `unavailable`."""
    began = time.perf_counter()
    await call.db.execute(BEGIN_LOOK)
    try:
        return await recall(call, question, answer)
    except (asyncpg.PostgresError, BmadError) as error:
        logger.warning("The memory did not answer: %s", type(error).__name__)
        own = Recall("unavailable", [], "unavailable", milliseconds_since(began))
        events.lookup_ended(BuiltinMemory.name, own.outcome, own.latency_ms / 1000)
        return with_service(own, answer, question)
    finally:
        await call.db.execute(END_LOOK)


async def note_recall(call: Call, found: Recall, *, category: str | None = None, agent: str | None = None) -> None:
    """Leave a row about a look-up, in a transaction that may write; the service's own has left its row already."""
    if found.is_noted:
        return
    await call.db.execute(
        queries.NOTE,
        "recall",
        found.source,
        category,
        agent,
        found.outcome,
        len(found.items),
        found.latency_ms,
        {"operation": call.operation, "freshness": found.freshness},
    )


async def may_note(call: Call) -> bool:
    """Whether this transaction may write at all."""
    allowed: bool = await call.db.fetchval(queries.MAY_NOTE)
    return allowed
