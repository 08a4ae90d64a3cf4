"""What can be done with memories."""

import time
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from bmad_mcp.activity.record import record
from bmad_mcp.activity.since import Since, moment_by
from bmad_mcp.call import Call
from bmad_mcp.errors import NotFound, Unavailable
from bmad_mcp.memory import queries
from bmad_mcp.memory.authors import author_of
from bmad_mcp.memory.builtin import BuiltinMemory, as_uuid
from bmad_mcp.memory.categories import MemoryCategory, category_of
from bmad_mcp.memory.elapsed import milliseconds_since
from bmad_mcp.memory.invisible import flags_of
from bmad_mcp.memory.look_up import look_up, related_in_service
from bmad_mcp.memory.provider import Question
from bmad_mcp.memory.recall import Recall, may_note, note_recall, recall
from bmad_mcp.memory.remember import remember
from bmad_mcp.memory.schemas import MemoryFound, MemoryReceipt, MemoryStored, Provenance, ProvenanceFound
from bmad_mcp.operation import Operation
from bmad_mcp.shapes import AgentName, Line


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Most = Annotated[int, Field(ge=1, le=50)]


async def memory_context(
    call: Call,
    focus: Annotated[Line, Field(description="What you are about to do.")],
    agent: AgentName | None = None,
    category: MemoryCategory | None = None,
    limit: Most = 5,
) -> MemoryFound:
    """Recall what the project knows about a subject, best first."""
    answer = await look_up(call, Question(focus, agent=agent, category=category, limit=limit))
    own = await author_of(call, agent)
    found = await recall(call, Question(focus, agent=own, category=category, limit=limit), answer)
    await note_recall(call, found, category=category, agent=own)
    return MemoryFound.of_recall(found)


async def memory_store(
    call: Call,
    text: Annotated[str, Field(max_length=4000), AfterValidator(_not_blank)],
    category: Annotated[MemoryCategory | None, Field(description="Left out: found by the text.")] = None,
    agent: AgentName | None = None,
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.7,
) -> MemoryStored:
    """Remember one fact, lesson or preference for every agent of the project."""
    author = await author_of(call, agent)
    found = category_of(text)
    kept_as = str(category or found.category)
    receipt = await remember(call, text, kept_as, agent=author, confidence=confidence)
    await record(call, f"memory {receipt.ref}", agent=author, category=kept_as)
    more: dict[str, Any] = {"because": list(found.words[:6]) if category is None else None, "flags": flags_of(text)}
    return MemoryStored(
        memory=MemoryReceipt(
            id=receipt.ref,
            category=kept_as,
            delivery=receipt.status,
            **{name: value for name, value in more.items() if value},
        )
    )


async def memory_search(
    call: Call,
    query: Annotated[Line, AfterValidator(_not_blank)],
    agent: Annotated[AgentName | None, Field(description="Only what this agent stored.")] = None,
    category: MemoryCategory | None = None,
    since: Since | None = None,
    limit: Most = 10,
) -> MemoryFound:
    """Search the memories by words and names such as T-12 or login.ts."""
    moment = None
    if since is not None:
        # No connection is held while the service is asked.
        async with call.aside() as db:
            moment = await moment_by(db, since)
    question = Question(
        query,
        agent=agent,
        only_agent=agent is not None,
        category=category,
        since=moment,
        limit=limit,
    )
    answer = await look_up(call, question, keep=False)
    author = await author_of(call, agent) if agent else None
    found = await recall(call, replace(question, agent=author), answer)
    if await may_note(call):
        await note_recall(call, found, category=category, agent=author)
    return MemoryFound.of_recall(found)


async def memory_related(
    call: Call,
    memory: Annotated[str, Field(min_length=1, max_length=200, description="Its id.")],
    limit: Most = 10,
) -> MemoryFound:
    """Find memories that share names, words or category with one."""
    began = time.perf_counter()
    answer = await related_in_service(call, memory, limit)
    store = BuiltinMemory(call.db, call.embedder)
    items = await store.related(memory, limit) if answer is None else list(answer.items)
    if answer is not None and answer.note and answer.freshness is None:
        raise Unavailable(f"Memory {memory} is not in the project's database. {answer.note}. Call again in a minute.")
    if items is None or (answer is not None and answer.freshness is None):
        raise NotFound(f"There is no memory {memory}. memory_search finds memories and their ids.", field="memory")
    latency = milliseconds_since(began)
    source = store.name if answer is None else answer.provider
    freshness = answer.freshness if answer is not None else None
    found = Recall(source, items, "found" if items else "nothing", latency, freshness)
    if await may_note(call):
        await note_recall(call, found)
    return MemoryFound.of_recall(found)


async def memory_provenance(
    call: Call, memories: Annotated[list[str], Field(min_length=1, max_length=50, description="Their ids.")]
) -> ProvenanceFound:
    """Tell who stored memories, when, and how far each is on its way to the memory service."""
    known = [str(found) for found in map(as_uuid, memories) if found is not None]
    rows = await call.db.fetch(queries.PROVENANCE, known)
    if others := list(set(memories) - {row["id"] for row in rows}):
        rows += await call.db.fetch(queries.PROVENANCE_OF_DELIVERED, others)
    items = [Provenance.of({**row, "principal": await call.db.person(row["principal"])}) for row in rows]
    return ProvenanceFound(project=call.project_key, items=items)


OPERATIONS = (
    Operation(memory_context, "POST /memory/context"),
    Operation(memory_store, "POST /memory/store"),
    Operation(memory_search, "GET /memory/search", toolset="memory"),
    Operation(memory_related, "GET /memory/{memory}/related", toolset="memory"),
    Operation(memory_provenance, "GET /memory/provenance", toolset=None),
)
