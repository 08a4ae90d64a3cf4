"""workflow_analytics: runs by type, and where their time goes."""

from collections.abc import Sequence

from bmad_mcp.analytics import run_queries
from bmad_mcp.analytics.figures import Bottleneck, RunsOfType, StageTime, WorkflowAnalytics
from bmad_mcp.analytics.rollup_queries import STATE
from bmad_mcp.analytics.window import DAYS, Days, Window
from bmad_mcp.call import Call

BOTTLENECKS = 3
# A stage with less of all the time than this holds nobody up.
LEAST_SHARE = 0.1


async def workflow_analytics(call: Call, days: Days = DAYS) -> WorkflowAnalytics:
    """Read how workflow runs go: completion by type, times of stages, and the stages that hold runs up."""
    state = await call.db.fetchrow(STATE)
    return await run_numbers_of(call, Window(days, state["now"]))


async def run_numbers_of(call: Call, window: Window) -> WorkflowAnalytics:
    """The same of a window."""
    row = await call.db.fetchrow(run_queries.BY_TYPE, window.begins, window.ends, window.now)
    stages = [StageTime.of_stage(stage) for stage in row["stages"] or []]
    return WorkflowAnalytics(
        window=window.out(),
        types_count=row["types_count"],
        types=[RunsOfType.of_runs(runs, type=runs["type"]) for runs in row["types"] or []],
        stages=stages,
        bottlenecks=bottlenecks(stages),
    )


def bottlenecks(stages: Sequence[StageTime]) -> list[Bottleneck]:
    """At most three stages with a tenth of all stage time or more, the longest first."""
    return [
        Bottleneck.of(stage.model_dump(), time_share=stage.time_share)
        for stage in stages[:BOTTLENECKS]
        if stage.time_share is not None and stage.time_share >= LEAST_SHARE
    ]
