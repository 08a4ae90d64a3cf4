"""What goes out about the project as a whole."""

from datetime import datetime

from pydantic import Field

from bmad_mcp.shapes import Aliased, Out


class ProjectName(Out):
    """The project's key and its name."""

    key: str
    name: str


class LeaseEnding(Out):
    """A held task whose lease ends soon, or ended without completion."""

    task: str
    agent: str
    until: datetime
    passed: bool | None = None


class HandoffWaiting(Aliased):
    """A handoff that nobody accepted yet."""

    key: str
    from_agent: str = Field(alias="from")
    to: str
    task: str | None = None
    story: str | None = None


class DriftItem(Out):
    """Where files, tracker and database disagree in the same way: how many, the first of them, and what mends it.

    `between` is `file and tracker` (their words mean different statuses), `database and files` (the status here is
    none that the files have), or `conflict` (both sides changed `field` since the last import).
    """

    between: str
    first: str
    count: int
    field: str | None = None
    file: str | None = None
    tracker: str | None = None
    database: str
    mend: str


class SyncState(Out):
    """How the sync with the folder is: running, waiting, paused (and why), or off."""

    state: str
    reason: str = ""
    since: str


class Drift(Out):
    """How many stories drift, the first groups of them, and how the sync is where one was started."""

    count: int
    items: list[DriftItem]
    sync: SyncState | None = None


class ProjectStatus(Out):
    """The project at a glance: counts by status without the zeros, what to do next, and what drifts.

    `in_hand` has tasks by the agent that holds them, `review` those that wait for a reviewer, `blocked` those that are
    stuck, `leases` those that end soon, `handoffs` those that nobody accepted: the first few of each.
    """

    project: ProjectName
    workflows: dict[str, int]
    stories: dict[str, int]
    tasks: dict[str, int]
    agents: dict[str, int]
    next: list[str]
    drift: Drift
    in_hand: dict[str, list[str]] | None = None
    review: list[str] | None = None
    blocked: list[str] | None = None
    leases: list[LeaseEnding] | None = None
    handoffs: list[HandoffWaiting] | None = None


class Claim(Out):
    """A task that an agent holds now."""

    task: str
    agent: str
    until: datetime


class Card(Out):
    """A story on the board; `tasks` is done/all."""

    key: str
    title: str
    points: int | None = None
    tasks: str | None = None
    claims: list[Claim] | None = None


class Column(Out):
    """A status, how many stories have it, and the first of them (the last ones when closed)."""

    status: str
    count: int
    stories: list[Card]


class LooseTask(Out):
    """A task that belongs to no story; with an end of its lease it is held."""

    key: str
    title: str
    status: str
    agent: str | None = None
    held_by: str | None = None
    lease_until: datetime | None = None


class LooseTasks(Out):
    """How many tasks have no story (of the newest 1,000), and the first open ones, then the last closed ones."""

    open_count: int
    closed_count: int
    items: list[LooseTask]


class Board(Out):
    """Stories by status, and the tasks that belong to none."""

    project: str
    columns: list[Column]
    tasks: LooseTasks | None = None
