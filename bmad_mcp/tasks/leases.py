"""Claims: who holds a task, and why a claim or a holder's write is refused."""

from typing import NoReturn

from bmad_mcp.agents.lookup import agent_name
from bmad_mcp.call import Call
from bmad_mcp.errors import Conflict, LeaseLost, NotFound
from bmad_mcp.lifecycles import TASK, StoryStatus, TaskStatus
from bmad_mcp.shapes import number_of
from bmad_mcp.tasks import queries
from bmad_mcp.tasks.schemas import TaskClaim, TaskOut

CLAIM_ATTEMPTS = 5


async def claim_best(call: Call, agent: str, seconds: int) -> TaskClaim:
    """Take the best task that is ready for this role; a claim of null says why there is none. Raises NotFound."""
    for _ in range(CLAIM_ATTEMPTS):
        row = await call.db.fetchrow(queries.CLAIM, agent, seconds, call.operation, call.caller.principal, call.id)
        if row["key"] is not None:
            return _claimed(row)
        agent = row["holder"] or await agent_name(call, agent)
        # Candidates that others were taking at this very moment: look once more.
        if row["candidates"] == 0:
            break
    return TaskClaim(
        task=None, why=f"No task is ready for {agent}. story_next says what to work on; task_create adds tasks to it."
    )


async def claim_named(
    call: Call, number: int, agent: str, seconds: int, target: TaskStatus, lease: int | None = None
) -> TaskClaim:
    """Take this task, or say why it cannot be taken."""
    key = f"T-{number}"
    for _ in range(CLAIM_ATTEMPTS):
        row = await call.db.fetchrow(
            queries.CLAIM_ONE,
            number,
            agent,
            seconds,
            call.operation,
            call.caller.principal,
            target,
            call.id,
            lease if lease is not None else -1,
        )
        if row is not None:
            return _claimed(row)
        await _refuse_held(call, key, agent, target)
    raise Conflict(f"{key} goes from hand to hand at this moment. Nothing was written; call again.", field="task")


async def _refuse_held(call: Call, key: str, agent: str, target: TaskStatus) -> None:
    """Say why a claim did not match; returns when the task was freed since, so that nothing is in the way now."""
    now = await call.db.fetchrow(queries.STATE, number_of(key))
    if now is None:
        raise NotFound(f"There is no task {key}. task_list shows the tasks.", field="task")
    if target not in TASK.moves[TaskStatus(now["status"])]:
        raise TASK.refuse(key, now["status"], target)
    if now["open_dependencies"]:
        raise Conflict(
            f"{key} waits for {now['open_dependencies']} unfinished task(s); task_get lists them as waits_for.",
            field="task",
        )
    if not now["story_open"]:
        raise Conflict(f"The story {now['story']} of {key} is {_not_open(key, now['story_status'])}", field="task")
    if not now["held"]:
        return
    held = f"{key} is held by {now['lease_agent']} until {now['lease_until']:%H:%M:%S} UTC."
    then = f"{_if_it_is_you(target)} Else claim" if now["lease_agent"] == agent else "Claim"
    raise Conflict(f"{held} {then} another one, or wait until the lease passes.", field="task")


def _not_open(key: str, story_status: str) -> str:
    """How a story that is not open for work is, and what can be done about its task."""
    match StoryStatus(story_status):
        case StoryStatus.DONE:
            return (
                f"done, and that is final: nobody can claim {key} any more. task_update with status=cancelled ends it;"
                " task_create and story_create make new work."
            )
        case StoryStatus.CANCELLED:
            return (
                "cancelled. story_update takes it back to draft and then to ready, or task_update with"
                f" status=cancelled ends {key} too."
            )
    return "not ready for work. Move it to ready with story_update."


def _if_it_is_you(target: TaskStatus) -> str:
    call = "task_start keeps it" if target is TaskStatus.IN_PROGRESS else "go on with it, without another claim"
    return f"If that is you, pass its `lease`, which task_get shows: {call}."


async def refuse_holder(call: Call, task: str, lease: int | None, target: TaskStatus | None) -> NoReturn:
    """Say why a holder's write did not match: unknown task, wrong status, or a lease that is not current."""
    now = await call.db.fetchrow(queries.STATE, int(task.rsplit("-", 1)[1]))
    if now is None:
        raise NotFound(f"There is no task {task}. task_list shows the tasks.", field="task")
    status = TaskStatus(now["status"])
    if target is not None and target not in TASK.moves[status]:
        raise TASK.refuse(task, status, target)
    if lease is None:
        raise LeaseLost(
            f"{task} is held by {now['lease_agent']}. Only the holder may change it: pass its `lease`, or wait until"
            " the lease passes.",
            field="lease",
        )
    if now["lease"] == lease and now["lease_until"] is not None:
        raise LeaseLost(
            f"Your lease {lease} of {task} passed at {now['lease_until']:%H:%M:%S} UTC, so nothing was written."
            " Claim the task again with task_claim.",
            field="lease",
        )
    if now["held"]:
        raise LeaseLost(
            f"{lease} is not the current lease of {task}, which is now held by {now['lease_agent']}. Whoever that is"
            " passes the `lease` that task_get shows; others wait until it passes.",
            field="lease",
        )
    raise LeaseLost(
        f"{lease} is not the current lease of {task}, which is now {status}. Claim it with task_claim first.",
        field="lease",
    )


def _claimed(row: object) -> TaskClaim:
    task = TaskOut.of(row)  # type: ignore[arg-type]
    return TaskClaim(task=task, lease=task.lease, lease_until=task.lease_until)
