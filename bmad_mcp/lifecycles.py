"""Every status enum and its allowed moves, as tables, and the two functions that write a status."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from bmad_mcp.errors import Conflict, InvalidMove, NotFound


class AgentStatus(StrEnum):
    IDLE = "idle"
    ACTIVE = "active"
    BUSY = "busy"
    OFFLINE = "offline"
    PAUSED = "paused"


AGENT_MOVES: Mapping[AgentStatus, frozenset[AgentStatus]] = {
    # idle → busy: a task can be claimed in an agent's name without a session of it.
    AgentStatus.IDLE: frozenset({AgentStatus.ACTIVE, AgentStatus.BUSY, AgentStatus.PAUSED, AgentStatus.OFFLINE}),
    # A second assistant may activate a persona that is active already.
    AgentStatus.ACTIVE: frozenset(AgentStatus),
    AgentStatus.BUSY: frozenset(AgentStatus),
    AgentStatus.OFFLINE: frozenset({AgentStatus.IDLE, AgentStatus.ACTIVE}),
    AgentStatus.PAUSED: frozenset({AgentStatus.IDLE, AgentStatus.ACTIVE, AgentStatus.OFFLINE}),
}


class WorkflowStatus(StrEnum):
    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    ERROR = "error"


WORKFLOW_MOVES: Mapping[WorkflowStatus, frozenset[WorkflowStatus]] = {
    WorkflowStatus.DRAFT: frozenset({WorkflowStatus.ACTIVE, WorkflowStatus.CANCELLED}),
    WorkflowStatus.ACTIVE: frozenset(
        {WorkflowStatus.PAUSED, WorkflowStatus.COMPLETED, WorkflowStatus.CANCELLED, WorkflowStatus.ERROR}
    ),
    WorkflowStatus.PAUSED: frozenset({WorkflowStatus.ACTIVE, WorkflowStatus.CANCELLED}),
    WorkflowStatus.ERROR: frozenset({WorkflowStatus.ACTIVE, WorkflowStatus.CANCELLED}),
    WorkflowStatus.COMPLETED: frozenset(),
    WorkflowStatus.CANCELLED: frozenset(),
}


class TaskStatus(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    IN_PROGRESS = "in_progress"
    REVIEW = "review"
    COMPLETED = "completed"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"


TASK_MOVES: Mapping[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.PENDING: frozenset(
        {TaskStatus.ACTIVE, TaskStatus.IN_PROGRESS, TaskStatus.BLOCKED, TaskStatus.CANCELLED}
    ),
    # active → active and in_progress → active: another agent takes the task over once the lease has passed.
    TaskStatus.ACTIVE: frozenset(TaskStatus),
    TaskStatus.IN_PROGRESS: frozenset(TaskStatus),
    TaskStatus.REVIEW: frozenset(TaskStatus) - {TaskStatus.REVIEW},
    TaskStatus.BLOCKED: frozenset({TaskStatus.PENDING, TaskStatus.CANCELLED}),
    TaskStatus.COMPLETED: frozenset(),
    TaskStatus.CANCELLED: frozenset({TaskStatus.PENDING}),
}


# Who has a task, in SQL on a row `t`; lists, claims, counts and answers all say it by these.
# Who asked for a review still has the task: it may go on with it, finish it or let it go.
TASK_HELD = "t.status IN ('active', 'in_progress', 'review') AND t.lease_until > clock_timestamp()"
_MAY_BEGIN = "t.open_dependencies = 0 AND t.story_open"
TASK_READY = f"t.status = 'pending' AND {_MAY_BEGIN}"
# Left behind: whoever comes next takes it over.
TASK_LEFT = f"t.status IN ('active', 'in_progress') AND t.lease_until <= clock_timestamp() AND {_MAY_BEGIN}"
TASK_CLAIMABLE = f"(({TASK_READY}) OR ({TASK_LEFT}))"
# It waits for a reviewer, who asks for it by its key: the next best task of a role is work to begin.
TASK_TO_REVIEW = (
    f"t.status = 'review' AND (t.lease_until IS NULL OR t.lease_until <= clock_timestamp()) AND {_MAY_BEGIN}"
)


class TaskPriority(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class StoryStatus(StrEnum):
    DRAFT = "draft"
    READY = "ready"
    IN_PROGRESS = "in_progress"
    REVIEW = "review"
    DONE = "done"
    CANCELLED = "cancelled"


STORY_MOVES: Mapping[StoryStatus, frozenset[StoryStatus]] = {
    StoryStatus.DRAFT: frozenset({StoryStatus.READY, StoryStatus.CANCELLED}),
    StoryStatus.READY: frozenset({StoryStatus.IN_PROGRESS, StoryStatus.DRAFT, StoryStatus.CANCELLED}),
    StoryStatus.IN_PROGRESS: frozenset({StoryStatus.REVIEW, StoryStatus.READY, StoryStatus.CANCELLED}),
    StoryStatus.REVIEW: frozenset({StoryStatus.DONE, StoryStatus.IN_PROGRESS, StoryStatus.CANCELLED}),
    StoryStatus.DONE: frozenset(),
    StoryStatus.CANCELLED: frozenset({StoryStatus.DRAFT}),
}


# Epics use the words of stories; people close them, also without a review.
EPIC_MOVES: Mapping[StoryStatus, frozenset[StoryStatus]] = {
    StoryStatus.DRAFT: frozenset({StoryStatus.READY, StoryStatus.IN_PROGRESS, StoryStatus.CANCELLED}),
    StoryStatus.READY: frozenset({StoryStatus.IN_PROGRESS, StoryStatus.DRAFT, StoryStatus.CANCELLED}),
    StoryStatus.IN_PROGRESS: frozenset({StoryStatus.REVIEW, StoryStatus.DONE, StoryStatus.CANCELLED}),
    StoryStatus.REVIEW: frozenset({StoryStatus.DONE, StoryStatus.IN_PROGRESS, StoryStatus.CANCELLED}),
    StoryStatus.DONE: frozenset(),
    StoryStatus.CANCELLED: frozenset({StoryStatus.DRAFT}),
}


class WorkflowType(StrEnum):
    GREENFIELD_FULLSTACK = "greenfield-fullstack"
    GREENFIELD_SERVICE = "greenfield-service"
    GREENFIELD_UI = "greenfield-ui"
    BROWNFIELD_FULLSTACK = "brownfield-fullstack"
    BROWNFIELD_SERVICE = "brownfield-service"
    BROWNFIELD_UI = "brownfield-ui"
    CUSTOM = "custom"


class StageStatus(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    DONE = "done"
    SKIPPED = "skipped"


STAGE_MOVES: Mapping[StageStatus, frozenset[StageStatus]] = {
    StageStatus.PENDING: frozenset({StageStatus.ACTIVE, StageStatus.SKIPPED}),
    StageStatus.ACTIVE: frozenset({StageStatus.DONE, StageStatus.SKIPPED}),
    StageStatus.DONE: frozenset(),
    StageStatus.SKIPPED: frozenset(),
}


class HandoffStatus(StrEnum):
    OFFERED = "offered"
    ACCEPTED = "accepted"


HANDOFF_MOVES: Mapping[HandoffStatus, frozenset[HandoffStatus]] = {
    HandoffStatus.OFFERED: frozenset({HandoffStatus.ACCEPTED}),
    HandoffStatus.ACCEPTED: frozenset(),
}


# In SQL on a row `h`: the work that it hands over has ended, so nobody has to take it up. Each is one look by a key.
HANDOFF_OVER = """(
    coalesce((SELECT t.status IN ('completed', 'cancelled') FROM bmad_tasks t
              WHERE t.project_id = bmad_project() AND t.id = h.task_id), false)
    OR coalesce((SELECT s.status IN ('done', 'cancelled') FROM bmad_stories s
                 WHERE s.project_id = bmad_project() AND s.id = h.story_id), false))"""


class Rows(Protocol):
    """What a move needs of a transaction."""

    async def fetchrow(self, sql: str, *values: Any) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """One table's status column: where it lives and which moves it allows."""

    noun: str
    table: str
    sql_type: str
    moves: Mapping[Any, frozenset[Any]]
    # The tool that moves there: `task_update(status)` names its argument, and a status without one follows by itself.
    tools: Mapping[Any, str] = field(default_factory=dict)

    def sources(self, target: StrEnum) -> tuple[StrEnum, ...]:
        """The statuses from which `target` may be reached in one move."""
        return tuple(status for status, targets in self.moves.items() if target in targets)

    def set_sql(self, target: StrEnum) -> str:
        """The assignment for an UPDATE, to be guarded by `may_sql` of the same target."""
        return f"status = '{target}'::{self.sql_type}"

    def may_sql(self, target: StrEnum, column: str = "status") -> str:
        """The guard for an UPDATE: true where the table allows the move to `target`."""
        listed = ", ".join(f"'{source}'" for source in self.sources(target))
        return f"{column} IN ({listed})"

    def set_from_parameter_sql(self, parameter: str) -> str:
        """The assignment for an UPDATE whose target is the text parameter, guarded by `may_from_parameter_sql`."""
        return f"status = {parameter}::text::{self.sql_type}"

    def may_from_parameter_sql(self, parameter: str, column: str = "status") -> str:
        """The guard for an UPDATE whose target is a text parameter: the whole table as SQL."""
        arms = " ".join(
            f"WHEN '{target}' THEN {self.may_sql(target, column) if self.sources(target) else 'false'}"
            for target in self.moves
        )
        return f"(CASE {parameter}::text {arms} ELSE false END)"

    def refuse(self, key: str, status: str, target: str) -> InvalidMove:
        """The error for a move that the table does not have; it names the moves allowed now."""
        allowed = sorted(self.moves[type(next(iter(self.moves)))(status)])
        # By tool, as callers have no others; what follows by itself is not theirs to do.
        targets: dict[str, list[str]] = {}
        for one in allowed:
            if one != status and (one in self.tools or not self.tools):
                targets.setdefault(self.tools.get(one, ""), []).append(one)
        ways = [" or ".join(those) + (f" by {tool}" if tool else "") for tool, those in targets.items()]
        return InvalidMove(
            f"{self.noun.capitalize()} {key} is {status}; it cannot become {target}."
            f" Allowed now: {'; '.join(ways) or 'nothing, it is final'}.",
            field="status" if self.tools.get(target, "").endswith("(status)") else self.noun,
        )

    def reaches(self, status: StrEnum, target: StrEnum) -> bool:
        """Whether a chain of allowed moves leads from `status` to `target`."""
        seen, queue = {status}, [status]
        while queue:
            for step in self.moves[queue.pop()]:
                if step not in seen:
                    seen.add(step)
                    queue.append(step)
        return target in seen


AGENT_TOOLS = {AgentStatus.ACTIVE: "agent_activate", AgentStatus.IDLE: "agent_deactivate"}
WORKFLOW_TOOLS = {
    WorkflowStatus.ACTIVE: "workflow_resume",
    WorkflowStatus.PAUSED: "workflow_pause",
    WorkflowStatus.CANCELLED: "workflow_cancel",
}
TASK_TOOLS = dict.fromkeys(TaskStatus, "task_update(status)") | {
    TaskStatus.ACTIVE: "task_claim",
    TaskStatus.IN_PROGRESS: "task_start",
    TaskStatus.COMPLETED: "task_complete",
}
STORY_TOOLS = dict.fromkeys(StoryStatus, "story_update(status)")

AGENT = Lifecycle("agent", "bmad_agents", "bmad_agent_status", AGENT_MOVES, AGENT_TOOLS)
WORKFLOW = Lifecycle("workflow", "bmad_workflows", "bmad_workflow_status", WORKFLOW_MOVES, WORKFLOW_TOOLS)
TASK = Lifecycle("task", "bmad_tasks", "bmad_task_status", TASK_MOVES, TASK_TOOLS)
STORY = Lifecycle("story", "bmad_stories", "bmad_story_status", STORY_MOVES, STORY_TOOLS)
EPIC = Lifecycle("epic", "bmad_epics", "bmad_story_status", EPIC_MOVES)
STAGE = Lifecycle("stage", "bmad_workflow_stages", "text", STAGE_MOVES)
HANDOFF = Lifecycle("handoff", "bmad_agent_collaborations", "text", HANDOFF_MOVES)
LIFECYCLES = (AGENT, WORKFLOW, TASK, EPIC, STORY, STAGE, HANDOFF)


def agent_status(stored: str, *, holds: bool) -> AgentStatus:
    """What an agent is at: `busy` is derived and never stored, so that no row has to follow each claim and lease.

    `holds`: whether it holds a task whose lease has not passed, with or without a session of its own.
    """
    here = stored in (AgentStatus.IDLE, AgentStatus.ACTIVE)
    return AgentStatus.BUSY if holds and here else AgentStatus(stored)


async def move(
    db: Rows,
    lifecycle: Lifecycle,
    row_id: UUID,
    target: StrEnum,
    *,
    key: str,
    where: Sequence[str] = (),
    otherwise: str = "The state changed meanwhile; read it again and retry.",
    **values: Any,
) -> Mapping[str, Any]:
    """Move one row of this project to `target` and return it; the table is the check and the compare-and-set at once.

    `where` holds further SQL guards without parameters, `values` further columns to set. Raises NotFound,
    InvalidMove (naming the moves allowed now), or Conflict with the text `otherwise` when a guard failed.
    """
    assignments = [lifecycle.set_sql(target), "updated_at = now()", "version = version + 1"]
    assignments += [f"{column} = ${position}" for position, column in enumerate(values, start=2)]
    guards = [lifecycle.may_sql(target), *where]
    row = await db.fetchrow(
        f"UPDATE {lifecycle.table} SET {', '.join(assignments)}"
        f" WHERE project_id = bmad_project() AND id = $1 AND {' AND '.join(guards)} RETURNING *, status::text",
        row_id,
        *values.values(),
    )
    if row is not None:
        return row
    now = await db.fetchrow(
        f"SELECT status::text FROM {lifecycle.table} WHERE project_id = bmad_project() AND id = $1", row_id
    )
    if now is None:
        raise NotFound(f"There is no {lifecycle.noun} {key} in this project.")
    if target not in lifecycle.moves[type(target)(now["status"])]:
        raise lifecycle.refuse(key, now["status"], target)
    raise Conflict(otherwise)
