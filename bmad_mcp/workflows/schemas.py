"""What goes out about workflows."""

from datetime import datetime

from bmad_mcp.memory.schemas import MemoryFound, MemoryReceipt
from bmad_mcp.shapes import Out


class Progress(Out):
    """How far a run is; loops add stages as they are begun."""

    percent: int
    done: int
    total: int


class Requirement(Out):
    """Something a stage builds on, and whether the project has it; `record` is how a document that is missing gets in."""

    name: str
    have: bool
    record: str | None = None


class StageBrief(Out):
    """A stage instance in one line."""

    position: int
    iteration: int | None = None
    kind: str | None = None
    step: str | None = None
    agent: str | None = None
    action: str | None = None
    creates: str | None = None
    updates: str | None = None
    validates: str | None = None
    uses: str | None = None
    requires: list[str] | None = None
    optional: bool | None = None
    condition: str | None = None
    story: str | None = None
    status: str
    outcome: str | None = None
    note: str | None = None
    artifact: str | None = None


class StageNow(Out):
    """The stage to do now. `routes` are further outcomes, each with what it means."""

    position: int
    iteration: int | None = None
    kind: str
    step: str | None = None
    agent: str | None = None
    action: str | None = None
    creates: str | None = None
    updates: str | None = None
    validates: str | None = None
    uses: str | None = None
    requires: list[Requirement] | None = None
    optional: bool | None = None
    condition: str | None = None
    ask: str | None = None
    optional_steps: list[str] | None = None
    routes: dict[str, str] | None = None
    notes: str | None = None
    story: str | None = None
    handoff_prompt: str | None = None


class WorkflowBrief(Out):
    """A run in one line."""

    key: str
    type: str
    title: str
    status: str
    progress: Progress
    story: str | None = None
    stage: str | None = None
    reason: str | None = None


class SimilarRun(Out):
    """An earlier run of the same definition, how long it took and what was noted."""

    key: str
    title: str
    status: str
    hours: float | None = None
    reason: str | None = None
    notes: list[str] | None = None


class WorkflowStarted(Out):
    """A new run, its first stage, what is known of the like of it, and where this one is remembered."""

    workflow: WorkflowBrief
    stage: StageNow | None
    similar: list[SimilarRun]
    memory: MemoryFound
    remembered: MemoryReceipt


class WorkflowMoved(Out):
    """The run after an advance, and the stage to do now; null when the run is over and its outcome remembered."""

    workflow: WorkflowBrief
    stage: StageNow | None
    remembered: MemoryReceipt | None = None


class WorkflowChanged(Out):
    """The run after a change of its status; a cancelled one's outcome is remembered."""

    workflow: WorkflowBrief
    remembered: MemoryReceipt | None = None


class WorkflowTask(Out):
    """A task of the run."""

    key: str
    title: str
    status: str
    agent: str | None = None


class WorkflowOut(Out):
    """A whole run. `earlier_stages` and `more_tasks` count what a long run does not show."""

    workflow: WorkflowBrief
    stages: list[StageBrief]
    earlier_stages: int | None = None
    progress: Progress
    tasks: list[WorkflowTask]
    more_tasks: int | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


class WorkflowPage(Out):
    """A page of runs."""

    items: list[WorkflowBrief]
    next_cursor: str | None


class WorkflowKind(Out):
    """A definition that can be started."""

    type: str
    name: str
    stages: int
    source: str
    about: str | None = None


class WorkflowKinds(Out):
    """Every definition."""

    items: list[WorkflowKind]
    next_cursor: str | None
