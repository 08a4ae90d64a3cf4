"""What can be done with handoffs: offer, accept, list."""

from dataclasses import replace
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, Field

from bmad_mcp.activity.record import noted, record
from bmad_mcp.agents.lookup import agent_name
from bmad_mcp.call import Call
from bmad_mcp.db import uuid7
from bmad_mcp.encryption import columns
from bmad_mcp.errors import Conflict, Forbidden, Invalid, NotFound
from bmad_mcp.handoffs import queries
from bmad_mcp.handoffs.schemas import Acceptance, HandedTask, HandoffBrief, HandoffOut, HandoffPage, Offer
from bmad_mcp.lifecycles import HANDOFF, TASK, HandoffStatus, StoryStatus, TaskStatus, move
from bmad_mcp.memory.categories import MemoryCategory
from bmad_mcp.memory.elapsed import in_words
from bmad_mcp.memory.look_up import look_up
from bmad_mcp.memory.provider import Question
from bmad_mcp.memory.recall import note_recall, recall_within_budget
from bmad_mcp.memory.remember import remember_work
from bmad_mcp.memory.schemas import MemoryFound
from bmad_mcp.operation import Operation, always
from bmad_mcp.shapes import (
    AgentName,
    Cursor,
    HandoffKey,
    Limit,
    StoryKey,
    TaskKey,
    decode_cursor,
    encode_cursor,
    number_of,
)

FINISHED = (TaskStatus.COMPLETED, TaskStatus.CANCELLED)
ENDED = (StoryStatus.DONE, StoryStatus.CANCELLED)
HELD = (TaskStatus.ACTIVE, TaskStatus.IN_PROGRESS)
# How much of a note a list shows.
LISTED_CHARACTERS = 120
# What is shown of earlier handoffs, and how much of a note is asked with.
MEMORIES = 3
MEMORY_CHARACTERS = 300


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


async def handoff_offer(
    call: Call,
    to: AgentName,
    note: Annotated[
        str,
        Field(max_length=4000, description="What is done, what is open, where to look."),
        AfterValidator(_not_blank),
    ],
    task: TaskKey | None = None,
    story: StoryKey | None = None,
) -> Offer:
    """Hand work over to another agent; a task changes hands when that one accepts.

    Offered again, the open offer changes.
    """
    question = Question(f"{to} {note[:MEMORY_CHARACTERS]}", category=MemoryCategory.AGENT_COLLABORATION, limit=MEMORIES)
    answer = await look_up(call, question, keep=False)
    row = await call.db.fetchrow(queries.OFFERED, to, call.caller.connection, number_of(task) if task else None, story)
    _check_offer(row, to, task, story)
    found = await recall_within_budget(call, replace(question, otherwise="nothing"), answer)
    handoff_id = uuid7()
    made = await call.db.fetchrow(
        queries.OFFER,
        handoff_id,
        row["in_session"] or row["holder"] or "user",
        row["to_agent"],
        row["task_id"],
        row["story_id"] or row["task_story_id"],
        await call.db.seal(columns.HANDOFF, str(handoff_id), note),
        call.caller.principal,
        call.id,
        noted(call, note),
        row["in_session"],
    )
    await note_recall(call, found, category=question.category, agent=made["from_agent"])
    return Offer(
        handoff=HandoffOut.of(made, note=note),
        memory=MemoryFound.of_recall(found, longest=MEMORY_CHARACTERS),
        next=_changed(made)
        + f"{made['to']} takes it up with agent_activate, then handoff_accept with handoff={made['key']!r}.",
    )


def _changed(made: Any) -> str:
    """What became of an offer of the same work that was open; empty when there was none."""
    if made["was_to"] is None:
        return ""
    instead = f" and is to {made['to']}, no longer to {made['was_to']}" if made["was_to"] != made["to"] else ""
    return f"{made['key']} was open already: it has this note now{instead}. "


def _check_offer(row: Any, to: str, task: str | None, story: str | None) -> None:
    if row["to_agent"] is None:
        raise NotFound(f"There is no agent {to!r} in this project. There are: {row['known'] or 'none'}.", field="to")
    if task is not None and row["task_id"] is None:
        raise NotFound(f"There is no task {task}. task_list shows the tasks.", field="task")
    if story is not None and row["story_id"] is None:
        raise NotFound(f"There is no story {story}. story_list shows the stories.", field="story")
    if row["task_status"] in FINISHED:
        again = "task_update with status=pending opens it again" if row["task_status"] == TaskStatus.CANCELLED else ""
        raise Conflict(
            f"{task} is {row['task_status']}: nothing of it is left to hand over. Leave `task` out and pass its `story`,"
            f" or {again or 'make a new one with task_create'}.",
            field="task",
        )
    if row["story_status"] in ENDED:
        raise Conflict(
            f"Story {row['of_story']} is {row['story_status']}: nothing of it is left to hand over. Hand over without"
            f" {'its task' if story is None else '`story`'}, or name what comes next.",
            field="task" if story is None else "story",
        )
    if row["to_agent"] == (row["in_session"] or row["holder"]):
        raise Invalid(
            f"{row['to_agent']} hands over, so it cannot be to {row['to_agent']}. agent_list shows the others; to let"
            " another session go on, release the task with task_update status=pending.",
            field="to",
        )
    if story is not None and row["task_story_id"] not in (None, row["story_id"]):
        raise Invalid(f"{task} belongs to story {row['task_story']}, not {story}. Leave `story` out.", field="story")


async def handoff_accept(
    call: Call,
    handoff: HandoffKey,
    agent: Annotated[AgentName | None, Field(description="Default: the agent in session.")] = None,
    quality: Annotated[int | None, Field(ge=0, le=100, description="How far the note lets you go on.")] = None,
) -> Acceptance:
    """Take over what was offered; its task becomes yours to claim."""
    named = await agent_name(call, agent) if agent else None
    row = await call.db.fetchrow(
        queries.ACCEPT, number_of(handoff), named, call.caller.connection, call.caller.principal, call.id, quality
    )
    if row is None:
        await _refuse(call, handoff, named)
    note = await call.db.reveal(columns.HANDOFF, str(row["id"]), row["note"])
    task = await _hand_over(call, row) if row["task_id"] else None
    memory = await remember_work(
        call, MemoryCategory.AGENT_COLLABORATION, note, _facts(row, quality), agent=row["accepted_by"]
    )
    return Acceptance(
        handoff=HandoffOut.of(row, note=note),
        **({"task": task} if task else {}),
        memory=memory,
        next=_after_acceptance(row, task),
    )


def _facts(row: Any, quality: int | None) -> str:
    """Whose handoff a note was of, how long it waited and how good its taker found it."""
    work = " and ".join(str(row[what]) for what in ("task", "story") if row[what])
    about = f" of {work}" if work else ""
    rated = f", its note rated {quality} of 100" if quality is not None else ""
    return (
        f"Handoff {row['key']}{about} from {row['from_agent']} to {row['to']}, taken up by {row['accepted_by']} after"
        f" {in_words(row['waited']) or 'less than a minute'}{rated}."
    )


async def _refuse(call: Call, handoff: str, named: str | None) -> NoReturn:
    now = await call.db.fetchrow(queries.STATE, number_of(handoff), call.caller.connection)
    if now is None:
        raise NotFound(f"There is no handoff {handoff}. handoff_list shows the handoffs.", field="handoff")
    if now["status"] != HandoffStatus.OFFERED:
        refused = HANDOFF.refuse(handoff, now["status"], HandoffStatus.ACCEPTED)
        took = f"{now['accepted_by']} took it at {now['accepted_at']:%H:%M:%S} UTC."
        raise type(refused)(f"{refused.message} {took}", field=refused.field)
    raise Forbidden(
        f"{handoff} is offered to {now['to']}, not to {named or now['in_session']}. Activate {now['to']} with"
        f" agent_activate, or pass agent={now['to']!r}.",
        field="agent",
    )


async def _hand_over(call: Call, row: Any) -> HandedTask:
    """Give the task to the accepter's role and free it of its holder; a finished one stays as it is."""
    task = await call.db.fetchrow(queries.TASK_LOCKED, row["task_id"])
    key, status, agent = f"T-{task['number']}", TaskStatus(task["status"]), row["to"]
    if status in FINISHED:
        return HandedTask(key=key, status=status, agent=task["agent"])
    if status in HELD:
        await move(
            call.db, TASK, task["id"], TaskStatus.PENDING, key=key, agent=agent, lease_agent=None, lease_until=None
        )
        status = TaskStatus.PENDING
    else:
        await call.db.execute(queries.REASSIGN, task["id"], agent)
    await record(call, f"task {key}", agent=row["accepted_by"], status=status, note=f"handed over with {row['key']}")
    return HandedTask(key=key, status=status, agent=agent)


def _after_acceptance(row: Any, task: HandedTask | None) -> str:
    steps = [] if row["in_session"] else [f"agent_activate with agent={row['to']!r}"]
    if task is not None and task.status in (TaskStatus.PENDING, TaskStatus.REVIEW):
        steps.append(f"task_claim with agent={row['to']!r} and task={task.key!r}")
    elif row["story"] is not None:
        steps.append(f"story_get with story={row['story']!r}")
    elif task is not None:
        steps.append(f"task_get with task={task.key!r}")
    return f"Call {', then '.join(steps)}." if steps else "Go by the note."


async def handoff_list(
    call: Call,
    status: Literal[tuple(HandoffStatus)] | None = None,  # type: ignore[valid-type]
    agent: Annotated[AgentName | None, Field(description="From or to it.")] = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> HandoffPage:
    """List handoffs, newest first."""
    sql, values = queries.LIST, list[Any]()
    if status is not None:
        values.append(status)
        sql += f" AND h.status = ${len(values)}::text"
    if agent is not None:
        values.append(await agent_name(call, agent))
        sql += f" AND ${len(values)}::text IN (h.to_agent, h.from_agent)"
    if cursor is not None:
        values.extend(decode_cursor(cursor, int))
        sql += f" AND h.number < ${len(values)}::int"
    rows = await call.db.fetch(f"{sql} ORDER BY h.number DESC LIMIT {limit + 1}", *values)
    page = rows[:limit]
    following = encode_cursor(page[-1]["number"]) if len(rows) > limit else None
    notes = [(await call.db.reveal(columns.HANDOFF, str(row["id"]), row["note"]))[:LISTED_CHARACTERS] for row in page]
    items = [HandoffBrief.of(row, note=note) for row, note in zip(page, notes, strict=True)]
    return HandoffPage(items=items, next_cursor=following)


OPERATIONS = (
    Operation(handoff_offer, "POST /handoffs"),
    Operation(handoff_accept, "POST /handoffs/{handoff}/accept"),
    Operation(handoff_list, "GET /handoffs", alone=always),
)
