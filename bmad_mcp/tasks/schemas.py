"""What goes out about tasks."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator

from bmad_mcp.memory.schemas import MemoryReceipt
from bmad_mcp.shapes import Out


def _whole_second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


class TaskBrief(Out):
    """A task in one line."""

    key: str
    title: str
    status: str
    priority: str
    agent: str | None = None
    story: str | None = None
    ready: bool | None = None
    held_by: str | None = None


class TaskEvent(Out):
    """One thing that happened to a task: the status it was moved to, and what else was changed."""

    at: Annotated[datetime, AfterValidator(_whole_second)]
    operation: str
    agent: str | None = None
    status: str | None = None
    changed: list[str] | None = None
    note: str | None = None


class TaskOut(TaskBrief):
    """A task; empty fields are left out.

    `ready`: task_claim would give it now. `held_by`, `lease` and `lease_until` are told while the lease holds.
    """

    version: int
    description: str | None = None
    workflow: str | None = None
    depends_on: list[str] | None = None
    waits_for: list[str] | None = None
    lease: int | None = None
    lease_until: datetime | None = None
    note: str | None = None
    summary: str | None = None
    quality: int | None = None
    history: list[TaskEvent] | None = None


class TaskAnswer(Out):
    """The task that was asked for or changed."""

    task: TaskOut


class TaskPage(Out):
    """A page of tasks."""

    items: list[TaskBrief]
    next_cursor: str | None


class TaskClaim(Out):
    """A claimed task with its lease, or null with the reason."""

    task: TaskOut | None
    lease: int | None = None
    lease_until: datetime | None = None
    why: str | None = None


class Heartbeat(Out):
    """The lease's new end."""

    lease_until: datetime


class StoryProgress(Out):
    """How far the task's story is."""

    key: str
    status: str
    tasks_done: int
    tasks_total: int


class TaskCompletion(Out):
    """A finished task, the tasks that may start now, its story, and where its summary is remembered."""

    task: TaskBrief
    unblocked: list[str]
    story: StoryProgress | None = None
    memory: MemoryReceipt | None = None
