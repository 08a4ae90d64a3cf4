"""What goes out about agents, their sessions and their work."""

from datetime import datetime
from typing import Any

from pydantic import Field

from bmad_mcp.memory.schemas import MemoryFound, MemoryReceipt
from bmad_mcp.shapes import Aliased, Out


class AgentItem(Out):
    """An agent in one line."""

    agent: str
    name: str
    title: str
    status: str
    task: str | None
    last_seen: datetime | None


class AgentPage(Out):
    """A page of agents."""

    items: list[AgentItem]
    next_cursor: str | None


class HeldTask(Out):
    """A task that the agent holds; `lease` is the number that its writes need."""

    key: str
    title: str
    status: str
    story: str | None = None
    lease: int
    lease_until: datetime


class ReadyTask(Out):
    """A task that the agent may claim."""

    key: str
    title: str
    priority: str
    story: str | None = None


class StoryInHand(Out):
    """The story that is being worked on."""

    key: str
    title: str
    status: str


class WaitingHandoff(Aliased):
    """A handoff that nobody has accepted yet."""

    key: str
    from_agent: str = Field(alias="from")
    note: str
    task: str | None = None
    story: str | None = None


class WaitingStage(Out):
    """A workflow's current stage that waits for this role."""

    workflow: str
    position: int
    do: str | None = None
    creates: str | None = None
    story: str | None = None


class Work(Out):
    """What the agent holds and what waits for it; empty parts are left out, but for `held` and `ready`.

    `lapsed`: it had these when their leases passed. `review`: these wait for a reviewer. task_claim with `task` takes one.
    """

    held: list[HeldTask]
    lapsed: list[ReadyTask] | None = None
    review: list[ReadyTask] | None = None
    ready: list[ReadyTask]
    story: StoryInHand | None = None
    handoffs: list[WaitingHandoff] | None = None
    stages: list[WaitingStage] | None = None


class AgentBrief(Out):
    """An agent and its status."""

    agent: str
    name: str
    title: str
    status: str


class Session(Out):
    """A session that has begun."""

    id: str
    started_at: datetime


class Activation(Out):
    """Everything to begin with: who you are, what is remembered, what waits, and what to call next.

    `ended`: the agents whose sessions of the same caller this ended.
    """

    agent: AgentBrief
    persona: str
    memory: MemoryFound
    work: Work
    session: Session
    ended: list[str] | None = None
    next: str


class EndedSession(Out):
    """A session that is over: how often each operation was used, and the tasks that were completed."""

    id: str
    started_at: datetime
    ended_at: datetime
    done: dict[str, int]
    completed: list[str] | None = None
    memory: MemoryReceipt | None = None


class Deactivation(Out):
    """The end of a session, and what is still held."""

    agent: AgentBrief
    session: EndedSession
    held: list[HeldTask] | None = None
    next: str


class Definition(Out):
    """Where the persona comes from; `text` is the project's file as it was written."""

    source: str
    path: str | None = None
    when_to_use: str | None = None
    dependencies: dict[str, Any] | None = None
    text: str | None = None


class AgentOut(AgentBrief):
    """An agent in full."""

    icon: str | None = None
    aliases: list[str] | None = None
    persona: dict[str, Any]
    commands: list[dict[str, str]]
    definition: Definition
    sessions: int
    last_seen: datetime | None = None
    version: int
    work: Work


class AgentContext(Out):
    """What an agent would begin with; reading it activates nothing."""

    agent: AgentBrief
    persona: str
    memory: MemoryFound
    work: Work
