"""The strategy's figures of each project as gauges: agent performance, workflow success, memory, adoption."""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from bmad_mcp.analytics.figures import AnalyticsOverview

Read = Callable[[AnalyticsOverview], float | None]

# name → (what it is, how it is read); shares lie between 0 and 1, and what there is no figure for is left out.
READINGS: dict[str, tuple[str, Read]] = {
    # Agent performance.
    "tasks_completed": ("Tasks completed in the window.", lambda of: of.tasks.completed_count),
    "task_completion_ratio": (
        "Completed of the tasks that were closed in the window.",
        lambda of: of.tasks.completion_share,
    ),
    "tasks_ready": ("Tasks that could be claimed now.", lambda of: of.tasks.work_in_progress.ready_count),
    "tasks_blocked": ("Tasks that are blocked now.", lambda of: of.tasks.work_in_progress.blocked_count),
    "quality_points": (
        "Mean quality of the tasks completed in the window, 0 to 100.",
        lambda of: of.trends.quality.mean_points,
    ),
    "gate_pass_ratio": (
        "Gates of the window that passed or were waived.",
        lambda of: of.trends.quality.gate_pass_share,
    ),
    "handoff_acceptance_ratio": ("Accepted of the handoffs offered.", lambda of: of.handoffs.accepted_share),
    # Workflow success.
    "workflows_completed": ("Workflow runs completed in the window.", lambda of: of.workflows.completed_count),
    "workflow_completion_ratio": (
        "Completed of the workflow runs that were closed in the window.",
        lambda of: of.workflows.completion_share,
    ),
    "workflows_running": ("Workflow runs that are active now.", lambda of: of.workflows.running_count),
    "stories_done": ("Stories that became done in the window.", lambda of: of.stories.done_count),
    # Memory use.
    "memory_lookups": ("Look-ups in the memory in the window.", lambda of: of.memory.lookups_count),
    "memory_hit_ratio": ("Look-ups of the window that found something.", lambda of: of.memory.hit_share),
    "memories_stored": ("Memories stored in the window.", lambda of: of.memory.stored_count),
    # Adoption.
    "agents_known": ("Agents that there are.", lambda of: of.agents.known_count),
    "agents_active": ("Agents that changed something in the window.", lambda of: of.agents.active_count),
    "agents_in_session": ("Agents in a session now.", lambda of: of.agents.in_session_count),
    "principals_active": ("Principals that changed something in the window.", lambda of: of.agents.principals_count),
    "agent_activations": ("Activations of agents in the window.", lambda of: of.agents.activations_count),
    "active_days": ("Days of the window on which something changed.", lambda of: of.agents.active_days_count),
    "operations_used": ("Operations that changed something in the window.", lambda of: of.agents.tools_used_count),
    "changes": ("Changes in the window.", lambda of: of.agents.changes_count),
}
# column → what it is.
MEMORIES = {
    "kept": ("memories", "Memories in the project's database."),
    "queued": ("memory_outbox_waiting", "Memories that wait for delivery to the service."),
    "dead": ("memory_outbox_dead", "Memories whose delivery was given up."),
    "oldest_seconds": ("memory_outbox_oldest_seconds", "How long the oldest memory waits for delivery."),
}


class ProjectGauges:
    """Gauges with the label `project`; `add` projects, then take the `families`."""

    def __init__(self, days: int) -> None:
        self._days = days
        told = {name: help_text for name, (help_text, _) in READINGS.items()} | dict(MEMORIES.values())
        self._gauges = {name: self._gauge(name, help_text, "project") for name, help_text in told.items()}
        self._cycle = self._gauge(
            "task_cycle_seconds", "From the first claim to completion, of the window.", "project", "quantile"
        )
        self._by_agent = self._gauge(
            "agent_tasks_completed", "Tasks that the busiest agents completed in the window.", "project", "agent"
        )
        self._quality = self._gauge(
            "agent_quality_points", "Mean quality of what the busiest agents completed.", "project", "agent"
        )

    def add(self, project: str, overview: AnalyticsOverview, memories: Any) -> None:
        """The figures of a project; `memories` is a row of MEMORIES."""
        values = {name: read(overview) for name, (_, read) in READINGS.items()}
        values |= {name: memories[column] for column, (name, _) in MEMORIES.items()}
        for name, value in values.items():
            if value is not None:
                self._gauges[name].add_metric([project], value)
        cycle = overview.tasks.cycle
        for quantile, seconds in (("0.5", cycle.p50_seconds), ("0.85", cycle.p85_seconds), ("0.95", cycle.p95_seconds)):
            if seconds is not None:
                self._cycle.add_metric([project, quantile], seconds)
        for agent in overview.agents.top:
            self._by_agent.add_metric([project, agent.agent], agent.completed_count)
            if agent.quality_mean_points is not None:
                self._quality.add_metric([project, agent.agent], agent.quality_mean_points)

    def families(self) -> Iterable[Metric]:
        """All of them, and how many days the window has."""
        yield GaugeMetricFamily("bmad_project_window_days", "UTC days of the window, today the last.", self._days)
        yield from (*self._gauges.values(), self._cycle, self._by_agent, self._quality)

    @staticmethod
    def _gauge(name: str, help_text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"bmad_project_{name}", help_text, labels=labels)
