"""What can be done with tasks."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BeforeValidator, Field

from bmad_mcp.activity.record import noted
from bmad_mcp.activity.similar import marks, refuse_similar
from bmad_mcp.agents.lookup import agent_name
from bmad_mcp.artifacts.labels import checked_label
from bmad_mcp.artifacts.outputs import add_outputs
from bmad_mcp.call import Call
from bmad_mcp.db import uuid7
from bmad_mcp.encryption import columns
from bmad_mcp.errors import Conflict, Invalid, LeaseLost, NotFound, VersionConflict
from bmad_mcp.lifecycles import TASK, StoryStatus, TaskStatus
from bmad_mcp.memory.categories import MemoryCategory
from bmad_mcp.memory.remember import work_to_remember
from bmad_mcp.operation import Operation, always
from bmad_mcp.shapes import (
    AgentName,
    Cursor,
    Limit,
    Line,
    LongText,
    StoryKey,
    TaskKey,
    Title,
    WorkflowKey,
    decode_cursor,
    encode_cursor,
    number_of,
)
from bmad_mcp.stories.queries import STATE as STORY_STATE
from bmad_mcp.stories.refusals import unknown_story
from bmad_mcp.tasks import queries
from bmad_mcp.tasks.dependencies import lock_dependencies, replace_dependencies, wait_for
from bmad_mcp.tasks.leases import claim_best, claim_named, refuse_holder
from bmad_mcp.tasks.schemas import (
    Heartbeat,
    StoryProgress,
    TaskAnswer,
    TaskBrief,
    TaskClaim,
    TaskCompletion,
    TaskOut,
    TaskPage,
)

LeaseSeconds = Annotated[int, Field(ge=5, le=86_400)]
Priority = Literal["low", "medium", "high", "critical"]


async def task_create(
    call: Call,
    title: Title,
    description: LongText = "",
    story: StoryKey | None = None,
    workflow: WorkflowKey | None = None,
    agent: Annotated[AgentName | None, Field(description="Role that should do it; none = any.")] = None,
    priority: Priority = "medium",
    depends_on: Annotated[tuple[TaskKey, ...], Field(max_length=50, description="Tasks it waits for.")] = (),
) -> TaskAnswer:
    """Add a task, optionally to a story or workflow."""
    task_id, story_id, workflow_id, story_open = uuid7(), None, None, True
    if story is not None:
        row = await call.db.fetchrow(queries.STORY_FOR_TASK, story)
        if row is None:
            raise unknown_story(story)
        _check_takes_tasks(story, row["status"])
        story_id, story_open = row["id"], row["open"]
    if workflow is not None:
        workflow_id = await call.db.fetchval(queries.WORKFLOW_FOR_TASK, number_of(workflow))
        if workflow_id is None:
            raise NotFound(f"There is no workflow {workflow}. workflow_list shows them.", field="workflow")
    role = await agent_name(call, agent) if agent else ""
    found = await wait_for(call, depends_on)
    same = marks(call, title, role, story, workflow)
    row = await call.db.fetchrow(
        queries.CREATE_UNLESS_SIMILAR if same else queries.CREATE,
        task_id,
        title,
        description,
        priority,
        role,
        story_id,
        workflow_id,
        sum(not dependency.closed for dependency in found),
        story_open,
        call.caller.connection,
        call.caller.principal,
        call.id,
        *same,
    )
    if row is None:
        await refuse_similar(call, same)
    if found:
        await call.db.execute(queries.ADD_DEPENDENCIES, task_id, [dependency.id for dependency in found])
    waits = list(dict.fromkeys(depends_on)) or None
    return TaskAnswer(task=TaskOut.of(row, workflow=workflow, depends_on=waits, lease=None))


def _check_takes_tasks(story: str, status: str) -> None:
    """Raises Conflict where a task could never be claimed, or not before the story is opened again."""
    if status == StoryStatus.DONE:
        raise Conflict(
            f"Story {story} is done, and that is final: nobody could claim a task of it. Leave `story` out, or add a"
            " story with story_create.",
            field="story",
        )
    if status == StoryStatus.CANCELLED:
        raise Conflict(
            f"Story {story} is cancelled: nobody could claim a task of it. Take it back to draft with story_update"
            " first, or leave `story` out.",
            field="story",
        )


async def task_list(
    call: Call,
    status: Literal[tuple(TaskStatus)] | None = None,  # type: ignore[valid-type]
    agent: AgentName | None = None,
    story: StoryKey | None = None,
    ready: Annotated[bool | None, Field(description="True: only what can be claimed now.")] = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> TaskPage:
    """List tasks in the order they were made."""
    sql, values = "", []
    if status is not None:
        sql += queries.LIST_STATUS[TaskStatus(status)]
    if agent is not None:
        values.append(await agent_name(call, agent))
        sql += f" AND t.agent = ${len(values)}"
    if story is not None:
        values.append(story)
        sql += (
            " AND t.story_id = (SELECT x.id FROM bmad_stories x"
            f" WHERE x.project_id = bmad_project() AND x.key = ${len(values)})"
        )
    if cursor is not None:
        values.extend(decode_cursor(cursor, int))
        sql += f" AND t.number > ${len(values)}"
    of = (queries.ALL_READY if ready else queries.ALL).format(narrowed=sql, limit=limit + 1)
    rows = await call.db.fetch(f"{queries.LIST}{of}", *values)
    if not rows and story is not None and await call.db.fetchrow(STORY_STATE, story) is None:
        raise unknown_story(story)
    page = rows[:limit]
    following = encode_cursor(page[-1]["number"]) if len(rows) > limit else None
    return TaskPage(items=[TaskBrief.of(row) for row in page], next_cursor=following)


async def task_get(call: Call, task: TaskKey) -> TaskAnswer:
    """Read a task with its dependencies, lease and latest history."""
    row = await call.db.fetchrow(queries.GET, number_of(task))
    if row is None:
        raise NotFound(f"There is no task {task}. task_list shows the tasks.", field="task")
    return await _answer(call, row)


async def _answer(call: Call, row: Any, **more: Any) -> TaskAnswer:
    """The answer for a row of GET."""
    if row["summary"]:
        more["summary"] = await call.db.reveal(columns.COMPLETION, row["key"], row["summary"])
    return TaskAnswer(task=TaskOut.of(row, **more))


async def task_claim(
    call: Call,
    agent: AgentName,
    task: Annotated[TaskKey | None, Field(description="Leave out for the best ready one.")] = None,
    lease_seconds: LeaseSeconds = 900,
) -> TaskClaim:
    """Take a task for yourself. Keep its lease number: start, heartbeat, update and complete need it."""
    if task is None:
        return await claim_best(call, agent, lease_seconds)
    return await claim_named(call, number_of(task), await agent_name(call, agent), lease_seconds, TaskStatus.ACTIVE)


async def task_start(
    call: Call,
    task: TaskKey,
    agent: AgentName,
    lease: Annotated[int | None, Field(ge=1, description="If you hold it: kept, never shortened.")] = None,
    lease_seconds: LeaseSeconds = 900,
) -> TaskClaim:
    """Set this task in progress: claims it, or keeps the lease you pass."""
    holder = await agent_name(call, agent)
    return await claim_named(call, number_of(task), holder, lease_seconds, TaskStatus.IN_PROGRESS, _int4(lease))


async def task_heartbeat(call: Call, task: TaskKey, lease: int) -> Heartbeat:
    """Keep the lease of a task you hold; call well before lease_until."""
    until = await call.db.fetchval(queries.HEARTBEAT, number_of(task), _int4(lease))
    if until is None:
        await refuse_holder(call, task, lease, TaskStatus.ACTIVE)
    return Heartbeat(lease_until=until)


def _of_other_tools(status: Any) -> Any:
    if status == TaskStatus.COMPLETED:
        raise ValueError("cannot be completed here: task_complete finishes a task, with its `lease`")
    if status == TaskStatus.ACTIVE:
        raise ValueError("cannot be active here: task_claim takes a task")
    return status


async def task_update(
    call: Call,
    task: TaskKey,
    lease: Annotated[int | None, Field(description="Needed while the task is held.")] = None,
    expected_version: int | None = None,
    status: Annotated[
        Literal["pending", "in_progress", "review", "blocked", "cancelled"] | None, BeforeValidator(_of_other_tools)
    ] = None,
    note: Line | None = None,
    title: Title | None = None,
    priority: Priority | None = None,
    depends_on: Annotated[tuple[TaskKey, ...] | None, Field(max_length=50)] = None,
) -> TaskAnswer:
    """Change a task: send to review, block, release (pending), cancel, or edit. task_complete finishes it."""
    if (status, note, title, priority, depends_on) == (None,) * 5:
        raise Invalid("task_update needs something to change: status, note, title, priority or depends_on.")
    if depends_on is not None:
        await lock_dependencies(call, task, depends_on)
        before = await call.db.fetchrow(queries.STATE_LOCKED, number_of(task))
        _check_change(task, before, lease, status)
        await replace_dependencies(call, task, before["id"], depends_on)
    edits = {"title": title, "priority": priority, "depends_on": depends_on}
    row = await call.db.fetchrow(
        queries.UPDATE,
        number_of(task),
        status,
        note,
        title,
        priority,
        _int4(expected_version),
        _int4(lease),
        call.caller.principal,
        call.id,
        call.caller.connection,
        [name for name, value in edits.items() if value is not None],
    )
    if row is None:
        await _refuse_change(call, task, lease, expected_version, status)
    # Who changes a task knows what it did; task_get tells the rest.
    return await _answer(call, row, history=None)


async def task_complete(
    call: Call,
    task: TaskKey,
    lease: Annotated[int, Field(description="The number your claim or start gave you.")],
    summary: Annotated[str, Field(max_length=4000)] = "",
    quality: Annotated[int | None, Field(ge=0, le=100)] = None,
    artifacts: Annotated[tuple[Line, ...], Field(max_length=50, description="Paths or titles of what came out.")] = (),
) -> TaskCompletion:
    """Finish a task you hold, release its lease and unblock what waited for it; the summary is remembered."""
    if call.db.vault is not None and summary:
        # What encrypts it looks up the key and the words, in the transaction that keeps them.
        call.db.keep_together()
    number, held, memory = number_of(task), _int4(lease), None
    statement, kept = queries.COMPLETE, tuple[Any, ...]()
    if summary.strip():
        facts = await call.db.fetchrow(queries.FACTS, number, held)
        if facts is None:
            await refuse_holder(call, task, lease, TaskStatus.COMPLETED)
        memory, kept = await work_to_remember(
            call, MemoryCategory.TASK_COMPLETION, summary, _facts(facts, quality), agent=facts["held_by"]
        )
        statement = queries.COMPLETE_AND_KEEP
    row = await call.db.fetchrow(
        statement,
        number,
        held,
        await call.db.seal(columns.COMPLETION, f"T-{number}", summary),
        quality,
        call.caller.principal,
        call.id,
        noted(call, summary),
        *kept,
    )
    if row is None:
        await refuse_holder(call, task, lease, TaskStatus.COMPLETED)
    if artifacts:
        await add_outputs(
            call,
            [checked_label(one, "artifacts") for one in artifacts],
            agent=row["held_by"],
            task_id=row["id"],
            story_id=row["story_id"],
        )
    more: dict[str, Any] = {}
    if row["story"]:
        more["story"] = StoryProgress(
            key=row["story"],
            status=row["story_status"],
            tasks_done=row["tasks_done"],
            tasks_total=row["tasks_total"],
        )
    if memory is not None:
        more["memory"] = memory
    unblocked = [f"T-{number}" for number in row["unblocked"] or ()]
    return TaskCompletion(task=TaskBrief.of(row, held_by=None), unblocked=unblocked, **more)


def _facts(row: Any, quality: int | None) -> str:
    """Which task a summary was about."""
    story = f" of story {row['story']}" if row["story"] else ""
    told = f", quality {quality} of 100" if quality is not None else ""
    return f"{row['key']} ({row['title']}){story}, completed by {row['held_by']}{told}."


def _check_change(task: str, before: Any, lease: int | None, status: str | None) -> None:
    """Without a lease nobody works on a task: it may be planned, released, blocked or cancelled."""
    if before is None:
        raise NotFound(f"There is no task {task}. task_list shows the tasks.", field="task")
    if status is not None and TaskStatus(status) not in TASK.moves[TaskStatus(before["status"])]:
        raise TASK.refuse(task, before["status"], status)
    if lease is not None:
        return
    if status in ("in_progress", "review"):
        raise LeaseLost(
            f"Only who holds {task} may set it {status}. Take it with task_start, then pass its `lease`.", field="lease"
        )
    if before["status"] in ("active", "in_progress") and not before["held"] and status is None:
        raise LeaseLost(
            f"The lease of {task} has passed, and no `lease` was given. Claim it with task_claim, or release it with"
            " status pending.",
            field="lease",
        )


async def _refuse_change(
    call: Call, task: str, lease: int | None, expected_version: int | None, status: str | None
) -> NoReturn:
    """Say why a change did not match."""
    before = await call.db.fetchrow(queries.STATE, number_of(task))
    _check_change(task, before, lease, status)
    if expected_version is not None and before["version"] != expected_version:
        why = "somebody changed it" if expected_version < before["version"] else "it never had that version"
        raise VersionConflict(
            f"Task {task} is at version {before['version']}, not {expected_version}: {why}."
            " Read it with task_get and try again.",
            field="expected_version",
        )
    await refuse_holder(call, task, lease, TaskStatus(status) if status else None)


def _int4(value: int | None) -> int | None:
    """A number PostgreSQL can compare; no lease or version is ever as large as what is cut off."""
    return None if value is None else max(-(2**31), min(value, 2**31 - 1))


def _locks_nothing(given: Mapping[str, Any]) -> bool:
    """Whether a new task is one statement: its story and what it waits for are locked until it is there."""
    return given["story"] is None and not given["depends_on"]


def _keeps_dependencies(given: Mapping[str, Any]) -> bool:
    """Whether a change is one statement: edits of what a task waits for take turns."""
    return given["depends_on"] is None


def _leaves_nothing_else(given: Mapping[str, Any]) -> bool:
    """Whether a completion is one statement: it is kept with what came out, or not at all."""
    return not given["artifacts"]


OPERATIONS = (
    Operation(task_create, "POST /tasks/create", alone=_locks_nothing),
    Operation(task_list, "GET /tasks", also=("GET /agents/{agent}/tasks",), alone=always),
    Operation(task_get, "GET /tasks/{task}", resource="bmad://tasks/{task}", alone=always),
    Operation(task_claim, "POST /tasks/claim", alone=always),
    Operation(task_start, "POST /tasks/{task}/start", alone=always),
    Operation(task_heartbeat, "POST /tasks/{task}/heartbeat", alone=always),
    Operation(task_update, "PATCH /tasks/{task}", alone=_keeps_dependencies),
    Operation(task_complete, "POST /tasks/{task}/complete", alone=_leaves_nothing_else),
)
