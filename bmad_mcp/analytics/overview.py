"""analytics_overview: the numbers of a project in one answer."""

from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID

from bmad_mcp.analytics import flow_queries, run_queries, use_queries
from bmad_mcp.analytics.figures import (
    Ageing,
    AgeingWork,
    AgentBrief,
    AgentUse,
    AnalyticsOverview,
    Durations,
    HandoffFlow,
    InProgress,
    RunsAndBottlenecks,
    StageTime,
    StoryFlow,
    TaskFlow,
    Trends,
    rounded,
    share,
    whole,
)
from bmad_mcp.analytics.rollup import bring_up
from bmad_mcp.analytics.run_numbers import bottlenecks
from bmad_mcp.analytics.use import Sums, memory_use, quality, series
from bmad_mcp.analytics.window import DAYS, Days, Window
from bmad_mcp.call import Call


async def analytics_overview(call: Call, days: Days = DAYS) -> AnalyticsOverview:
    """Read the project's numbers: flow of tasks and stories, workflows, memory, adoption and trends.

    Names end in their unit: count, seconds, share (0–1), points (0–100). Null: there is nothing to tell.
    """
    reached = await bring_up(call)
    return await overview_of(call, Window(days, reached.now), reached.since)


async def overview_of(call: Call, window: Window, since: UUID) -> AnalyticsOverview:
    """The same of a window; `since` is the id from which on rows may be missing in the daily metrics."""
    tasks = await call.db.fetchrow(flow_queries.TASKS, *window.moments)
    stories = await call.db.fetchrow(flow_queries.STORIES, window.begins, window.ends)
    handoffs = await call.db.fetchrow(flow_queries.HANDOFFS, window.begins, window.ends, window.now, None)
    runs = await call.db.fetchrow(run_queries.SUMMARY, window.begins, window.ends, window.now)
    agents = await call.db.fetchrow(use_queries.AGENTS)
    sums = Sums.of(await call.db.fetch(use_queries.USE, window.first_day, window.day_after, since))
    return AnalyticsOverview(
        window=window.out(),
        agents=_agents(agents, tasks, sums),
        workflows=RunsAndBottlenecks.of_runs(
            runs, bottlenecks=bottlenecks([StageTime.of_stage(stage) for stage in runs["stages"] or []])
        ),
        tasks=_tasks(tasks, window),
        stories=StoryFlow(
            done_count=stories["done"],
            under_way_count=stories["under_way"],
            cycle=Durations.of_row(stories["cycle"]),
            lead=Durations.of_row(stories["lead"]),
        ),
        handoffs=handoff_flow(handoffs, sums),
        memory=memory_use(sums),
        trends=_trends(tasks, sums, window),
    )


def handoff_flow(row: Mapping[str, Any], sums: Sums) -> HandoffFlow:
    """From a row of HANDOFFS and the ratings in the daily metrics."""
    rated = sums.count("handoff", "rated")
    return HandoffFlow(
        offered_count=row["offered"],
        accepted_count=row["accepted"],
        accepted_share=share(row["accepted"], row["offered"]),
        wait=Durations.of_row(row["wait"]),
        task_completed_share=share(row["completed"], row["with_task"]),
        returned_share=share(row["returned"], row["with_task"]),
        rated_count=rated,
        quality_mean_points=rounded(sums.total("handoff", "rated") / rated) if rated else None,
        open_count=row["open"],
        oldest_open_seconds=whole(row["oldest"]),
    )


def _tasks(row: Mapping[str, Any], window: Window) -> TaskFlow:
    cycle, open_now = Durations.of_row(row["cycle"]), row["open"] or {}
    return TaskFlow(
        created_count=row["created"],
        completed_count=row["completed"],
        cancelled_count=row["cancelled"],
        completion_share=share(row["completed"], row["completed"] + row["cancelled"]),
        completed_per_day_mean=round(row["completed"] / window.days, 2),
        cycle=cycle,
        lead=Durations.of_row(row["lead"]),
        work_in_progress=InProgress(
            **{f"{status}_count": open_now.get(status, 0) for status in ("active", "in_progress", "review", "blocked")},
            ready_count=row["ready"],
        ),
        ageing=AgeingWork(
            limit_seconds=cycle.p85_seconds,
            over_limit_count=None if cycle.p85_seconds is None else row["ageing"],
            oldest=[
                Ageing(**{**oldest, "age_seconds": round(oldest["age_seconds"])}) for oldest in row["oldest"] or []
            ],
        ),
    )


def _agents(row: Mapping[str, Any], tasks: Mapping[str, Any], sums: Sums) -> AgentUse:
    names = row["names"] or []
    changes = sums.of_metric("change")
    active = {change["agent"] for change in changes} & set(names)
    return AgentUse(
        known_count=len(names),
        active_count=len(active),
        active_share=share(len(active), len(names)),
        in_session_count=row["in_session"],
        principals_count=len(sums.counts("principal")),
        activations_count=sums.count("change", "agent_activate"),
        active_days_count=len(sums.by_day),
        tools_used_count=len({change["label"] for change in changes}),
        changes_count=sums.count("change"),
        top=[
            AgentBrief(
                agent=one["agent"], completed_count=one["completed"], quality_mean_points=rounded(one["quality"])
            )
            for one in tasks["agents"] or []
        ],
    )


def _trends(tasks: Mapping[str, Any], sums: Sums, window: Window) -> Trends:
    by_day = {date.fromisoformat(day): (done, rated, points) for day, done, rated, points in tasks["by_day"] or []}
    completed = series(window, {day: one[0] for day, one in by_day.items()})
    rated = series(window, {day: one[1] for day, one in by_day.items()})
    points = series(window, {day: one[2] for day, one in by_day.items()})
    return Trends(
        bucket="day" if window.bucket_days == 1 else "week",
        first_day=window.first_day,
        completed_counts=completed,
        changes_counts=series(window, sums.by_day),
        quality_mean_points=[
            round(total / count) if count else None for total, count in zip(points, rated, strict=True)
        ],
        earlier_completed_count=tasks["earlier_completed"],
        earlier_cycle_p50_seconds=whole(tasks["earlier_cycle"]),
        quality=quality(tasks, sums),
    )
