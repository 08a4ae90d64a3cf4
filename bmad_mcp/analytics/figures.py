"""What goes out of the numbers: each names its unit, and is null where there is nothing to tell.

`_count` is a count, `_seconds` and `_ms` are times, `_share` lies between 0 and 1, `_points` between 0 and 100.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal, Self

from bmad_mcp.analytics.window import WindowOut
from bmad_mcp.shapes import Aged, Out


def rounded(value: float | None, digits: int = 1) -> float | None:
    """A number for people and models; null stays null."""
    return None if value is None else round(float(value), digits)


def whole(seconds: float | None) -> int | None:
    """Whole seconds; null stays null."""
    return None if seconds is None else round(seconds)


def share(part: float, whole: float) -> float | None:
    """A part of a whole, 0 to 1; null when there is no whole."""
    return round(part / whole, 3) if whole else None


class Durations(Out):
    """Percentiles of a time, in seconds, and of how many times they are."""

    count: int
    p50_seconds: int | None
    p85_seconds: int | None
    p95_seconds: int | None

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """From {count, p50, p85, p95}; empty when there were no rows."""
        return cls(count=row.get("count", 0), **{f"{name}_seconds": whole(row[name]) for name in ("p50", "p85", "p95")})


class Ageing(Out):
    """A task that was begun and is not closed: how long ago it was first claimed."""

    task: str
    status: str
    agent: str | None
    age_seconds: int


class AgeingWork(Out):
    """Open work older than the p85 of the window's cycle times, and the oldest of all."""

    limit_seconds: int | None
    over_limit_count: int | None
    oldest: list[Ageing]


class InProgress(Out):
    """Begun and not closed, now; and what could be claimed next."""

    active_count: int
    in_progress_count: int
    review_count: int
    blocked_count: int
    ready_count: int


class TaskFlow(Out):
    """Tasks of the window: made, closed, how long they took; and those under way now."""

    created_count: int
    completed_count: int
    cancelled_count: int
    completion_share: float | None
    completed_per_day_mean: float
    cycle: Durations
    lead: Durations
    work_in_progress: InProgress
    ageing: AgeingWork


class StoryFlow(Out):
    """Stories that became done in the window, and those under way now."""

    done_count: int
    under_way_count: int
    cycle: Durations
    lead: Durations


class HandoffFlow(Out):
    """Handoffs offered in the window: taken, how soon, what became of their tasks; and how good takers found the notes."""

    offered_count: int
    accepted_count: int
    accepted_share: float | None
    wait: Durations
    task_completed_share: float | None
    returned_share: float | None
    rated_count: int
    quality_mean_points: float | None
    open_count: int
    oldest_open_seconds: int | None


class AgentBrief(Out):
    """An agent that completed tasks."""

    agent: str
    completed_count: int
    quality_mean_points: float | None


class AgentUse(Out):
    """Who works here: of the agents there are, how many changed something in the window."""

    known_count: int
    active_count: int
    active_share: float | None
    in_session_count: int
    principals_count: int
    activations_count: int
    active_days_count: int
    tools_used_count: int
    changes_count: int
    top: list[AgentBrief]


class StageTime(Out):
    """A stage of a kind of workflow: how long it takes, who waits in it, its share of all stage time of the window."""

    type: str
    position: int
    step: str
    agent: str | None = None
    closed: Durations
    skipped_count: int
    waiting_count: int
    oldest_waiting_seconds: int | None
    time_share: float | None

    @classmethod
    def of_stage(cls, row: Mapping[str, Any]) -> Self:
        """From a row of the stages."""
        more = {"agent": row["agent"]} if row["agent"] else {}
        return cls(
            type=row["type"],
            position=row["position"],
            step=row["step"],
            closed=Durations.of_row(row),
            skipped_count=row["skipped"],
            waiting_count=row["waiting"],
            oldest_waiting_seconds=whole(row["oldest"]),
            time_share=rounded(row["share"], 3),
            **more,
        )


class RunFlow(Out):
    """Workflow runs: begun and closed in the window, and open now."""

    started_count: int
    completed_count: int
    cancelled_count: int
    completion_share: float | None
    running_count: int
    paused_count: int
    duration: Durations

    @classmethod
    def of_runs(cls, row: Mapping[str, Any], **more: Any) -> Self:
        """From a row of counts with the durations of the completed ones."""
        return cls(
            started_count=row["started"],
            completed_count=row["completed"],
            cancelled_count=row["cancelled"],
            completion_share=share(row["completed"], row["completed"] + row["cancelled"]),
            running_count=row["running"],
            paused_count=row["paused"],
            duration=Durations.of_row(row["duration"]),
            **more,
        )


class Bottleneck(Out):
    """A stage where much of the window's stage time goes."""

    type: str
    position: int
    step: str
    agent: str | None = None
    time_share: float
    waiting_count: int


class RunsAndBottlenecks(RunFlow):
    """Workflow runs, and the stages where most of their time goes."""

    bottlenecks: list[Bottleneck]


class RunsOfType(RunFlow):
    """Workflow runs of one definition."""

    type: str


class MemoryUse(Out):
    """Look-ups in the memory, and tasks done with and without a memory found while they were held."""

    lookups_count: int
    hit_share: float | None
    memories_per_hit_mean: float | None
    failed_tries_count: int
    stored_count: int
    providers: dict[str, int]
    tasks_after_hit_share: float | None
    quality_after_hit_mean_points: float | None
    quality_without_hit_mean_points: float | None


class Quality(Out):
    """The quality of completed tasks, against as many days before, and the gates that were recorded."""

    mean_points: float | None
    rated_count: int
    earlier_mean_points: float | None
    change_points: float | None
    gates: dict[str, int]
    gate_pass_share: float | None


class Trends(Out):
    """Series by day or week (the bucket), the earliest first, and the same figures of as many days before."""

    bucket: Literal["day", "week"]
    first_day: date
    completed_counts: list[int]
    changes_counts: list[int]
    quality_mean_points: list[int | None]
    earlier_completed_count: int
    earlier_cycle_p50_seconds: int | None
    quality: Quality


class AnalyticsOverview(Aged):
    """The numbers of a project in one answer."""

    window: WindowOut
    agents: AgentUse
    workflows: RunsAndBottlenecks
    tasks: TaskFlow
    stories: StoryFlow
    handoffs: HandoffFlow
    memory: MemoryUse
    trends: Trends


class ToolUse(Out):
    """What the agent changed with one tool, in rows of the trail."""

    tool: str
    changes_count: int


class AgentTasks(Out):
    """Tasks that the agent closed in the window or holds now."""

    completed_count: int
    cancelled_count: int
    completion_share: float | None
    cycle: Durations
    under_way_count: int
    oldest_under_way_seconds: int | None


class ActivitySeries(Out):
    """Changes by day or week (the bucket), the earliest first."""

    bucket: Literal["day", "week"]
    first_day: date
    changes_counts: list[int]


class AgentAnalytics(Aged):
    """The numbers of one agent."""

    agent: str
    window: WindowOut
    tasks: AgentTasks
    quality: Quality
    activity: ActivitySeries
    tools: list[ToolUse]
    handoffs: HandoffFlow
    handoffs_given_count: int
    memory: MemoryUse


class WorkflowAnalytics(Aged):
    """Runs by type (those with most runs), the stages that took most time, and the bottlenecks among them."""

    window: WindowOut
    types_count: int
    types: list[RunsOfType]
    stages: list[StageTime]
    bottlenecks: list[Bottleneck]
