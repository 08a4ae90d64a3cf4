"""What can be done with agents: who there is, and working as one."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from bmad_mcp.activity.record import noted
from bmad_mcp.agents import queries
from bmad_mcp.agents.lookup import agent_name
from bmad_mcp.agents.markdown import context_markdown
from bmad_mcp.agents.persona import compact
from bmad_mcp.agents.schemas import (
    Activation,
    AgentBrief,
    AgentContext,
    AgentItem,
    AgentOut,
    AgentPage,
    Deactivation,
    Definition,
    EndedSession,
    Session,
)
from bmad_mcp.agents.work import held_tasks, next_step, work_of
from bmad_mcp.call import Call
from bmad_mcp.db import uuid7
from bmad_mcp.encryption import columns
from bmad_mcp.errors import Conflict
from bmad_mcp.lifecycles import AGENT, AgentStatus, agent_status
from bmad_mcp.memory.categories import MemoryCategory
from bmad_mcp.memory.look_up import look_up
from bmad_mcp.memory.provider import Question
from bmad_mcp.memory.recall import Recall, note_recall, recall_within_budget
from bmad_mcp.memory.remember import remember_work
from bmad_mcp.memory.schemas import MemoryFound
from bmad_mcp.operation import Operation, always
from bmad_mcp.shapes import AgentName, Cursor, Limit, Line, decode_cursor, encode_cursor

# How many memories a session begins with, and how much of each.
MEMORIES = 5
MEMORY_CHARACTERS = 400
# Of one that fits no focus.
GUESS_CHARACTERS = 200
NOTE_CHARACTERS = 300


async def agent_list(
    call: Call,
    status: Literal[tuple(AgentStatus)] | None = None,  # type: ignore[valid-type]
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> AgentPage:
    """List the agents and what they do; busy = holding a task."""
    after = decode_cursor(cursor, str)[0] if cursor is not None else None
    rows = await call.db.fetch(queries.LIST, status, after, limit + 1)
    page = rows[:limit]
    return AgentPage(
        items=[AgentItem(**row) for row in page],
        next_cursor=encode_cursor(page[-1]["agent"]) if len(rows) > limit else None,
    )


async def agent_get(call: Call, agent: AgentName) -> AgentOut:
    """Read an agent: persona, commands, definition, status and work."""
    row = await _with_work(call, agent)
    return AgentOut.of(
        row,
        aliases=row["aliases"] or None,
        definition=Definition.of(
            row,
            path=row["source_path"],
            dependencies=row["dependencies"] or None,
            # Files of a project may say more than the fields tell; those that come along do not.
            text=None if row["source"] == "builtin" else row["content"],
        ),
        work=work_of(row),
    )


async def agent_context(call: Call, agent: AgentName, focus: Line = "") -> AgentContext:
    """Read what an agent would begin with; activates nothing."""
    answer = await look_up(call, Question(focus, agent=agent, limit=MEMORIES), keep=False)
    row = await _with_work(call, agent)
    found = await recall_within_budget(call, _question(focus, row["agent"]), answer)
    return AgentContext(
        agent=AgentBrief.of(row),
        persona=compact(row["agent"], row["persona"], row["commands"]),
        memory=_memory(found),
        work=work_of(row),
    )


async def agent_activate(
    call: Call,
    agent: AgentName,
    focus: Annotated[Line, Field(description="What the session is about; finds the fitting memories.")] = "",
) -> Activation:
    """Begin to work as an agent: its persona, memory and work, and what to call next."""
    answer = await look_up(call, Question(focus, agent=agent, limit=MEMORIES))
    row = await _with_work(call, agent)
    name = row["agent"]
    found = await recall_within_budget(call, _question(focus, name), answer)
    session_id = uuid7()
    await call.db.execute(queries.LOCK_SESSIONS)
    begun = await call.db.fetchrow(
        queries.ACTIVATE,
        row["id"],
        session_id,
        call.caller.connection,
        await call.db.seal(columns.FOCUS, str(session_id), focus),
        call.caller.principal,
        call.id,
        noted(call, focus),
    )
    if begun is None:
        raise AGENT.refuse(name, row["status"], AgentStatus.ACTIVE)
    await note_recall(call, found, agent=name)
    work = work_of(row)
    return Activation(
        agent=AgentBrief.of(row, status=agent_status(AgentStatus.ACTIVE, holds=bool(work.held))),
        persona=compact(name, row["persona"], row["commands"]),
        memory=_memory(found),
        work=work,
        session=Session(id=session_id.hex[-8:], started_at=begun["started_at"]),
        **({"ended": begun["ended"]} if begun["ended"] else {}),
        next=next_step(name, work) + _one_assistant(begun["ended"]),
    )


def _one_assistant(ended: list[str] | None) -> str:
    """What to do when two assistants are one to the server; empty when nobody's session was ended."""
    if not ended:
        return ""
    who = " and ".join(ended)
    return (
        f" This ended your session as {who}. If {who} is another assistant, connect it by itself (over HTTP with its own"
        " x-bmad-session header) and let it call agent_activate again."
    )


async def agent_deactivate(
    call: Call,
    agent: AgentName,
    summary: Annotated[str, Field(max_length=3000, description="What the next session should know.")] = "",
) -> Deactivation:
    """End your session as an agent; what was done is remembered."""
    await call.db.execute(queries.LOCK_SESSIONS)
    said, is_sealed = summary.strip(), call.db.vault is not None
    row = await call.db.fetchrow(
        queries.DEACTIVATE,
        agent,
        call.caller.connection,
        "" if is_sealed else said,
        call.caller.principal,
        call.id,
        noted(call, said),
    )
    if row is None:
        name = await agent_name(call, agent)
        raise Conflict(f"{name} has no open session to end. agent_activate opens one.", field="agent")
    if said and is_sealed:
        # It is sealed for its session, which only now is known.
        await call.db.execute(
            queries.KEEP_SUMMARY, row["id"], await call.db.seal(columns.SESSION, str(row["id"]), said)
        )
    done = row["done"] or {}
    memory = None
    facts = _facts(row)
    if said or facts:
        memory = await remember_work(call, MemoryCategory.AGENT_SESSIONS, summary, facts, agent=row["agent"])
    held = held_tasks(row)
    return Deactivation(
        agent=AgentBrief.of(row, status=agent_status(row["status"], holds=bool(held))),
        session=EndedSession.of(
            row, id=row["id"].hex[-8:], done=done, completed=row["completed"] or None, memory=memory
        ),
        **({"held": held} if held else {}),
        next=_after_session(row["agent"], [task.key for task in held]),
    )


def _facts(row: Mapping[str, Any]) -> str:
    """What was done in a session; empty when nothing was."""
    done = row["done"] or {}
    facts = ", ".join(f"{times} × {operation}" for operation, times in sorted(done.items()))
    completed = f"; completed {', '.join(row['completed'])}" if row["completed"] else ""
    return f"Session of {row['agent']} on {row['started_at']:%Y-%m-%d %H:%M} UTC: {facts}{completed}." if facts else ""


def _after_session(agent: str, held: list[str]) -> str:
    if not held:
        return "The session is over; agent_activate begins another."
    return (
        f"{agent} still holds {', '.join(held)}: task_complete or task_update(status='pending') frees it at once, else"
        " anybody may claim it once the lease has passed."
    )


def _question(focus: str, agent: str) -> Question:
    return Question(focus, agent=agent, limit=MEMORIES, otherwise="beginning")


def _memory(found: Recall) -> MemoryFound:
    fits = any(one.score != 0 for one in found.items)
    return MemoryFound.of_recall(found, longest=MEMORY_CHARACTERS if fits else GUESS_CHARACTERS)


async def _with_work(call: Call, agent: str) -> Any:
    """The agent's row with its work; raises NotFound naming the agents there are."""
    row = await call.db.fetchrow(queries.WITH_WORK, agent)
    if row is None:
        row = await call.db.fetchrow(queries.WITH_WORK, await agent_name(call, agent))
    if not row["handoffs"]:
        return row
    return {**row, "handoffs": [await _shown(call, one) for one in row["handoffs"]]}


async def _shown(call: Call, handoff: dict[str, Any]) -> dict[str, Any]:
    note = await call.db.reveal(columns.HANDOFF, handoff.pop("id"), handoff["note"])
    return {**handoff, "note": note[:NOTE_CHARACTERS]}


OPERATIONS = (
    Operation(
        agent_list, "GET /agents", resource="bmad://agents", also=("GET /agents/active?status=active",), alone=always
    ),
    Operation(agent_get, "GET /agents/{agent}", toolset="planning", resource="bmad://agents/{agent}"),
    Operation(
        agent_context,
        "GET /agents/{agent}/context",
        toolset=None,
        resource="bmad://agents/{agent}/context",
        markdown=context_markdown,
    ),
    Operation(agent_activate, "POST /agents/activate"),
    Operation(agent_deactivate, "POST /agents/{agent}/deactivate"),
)
