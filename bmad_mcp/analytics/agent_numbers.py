"""agent_analytics: the numbers of one agent."""

from uuid import UUID

from bmad_mcp.agents.lookup import agent_name
from bmad_mcp.analytics import flow_queries, use_queries
from bmad_mcp.analytics.figures import ActivitySeries, AgentAnalytics, AgentTasks, Durations, ToolUse, share, whole
from bmad_mcp.analytics.overview import handoff_flow
from bmad_mcp.analytics.rollup import bring_up
from bmad_mcp.analytics.use import Sums, memory_use, quality, series
from bmad_mcp.analytics.window import DAYS, Days, Window
from bmad_mcp.call import Call
from bmad_mcp.shapes import AgentName

TOOLS_SHOWN = 10


async def agent_analytics(call: Call, agent: AgentName, days: Days = DAYS) -> AgentAnalytics:
    """Read an agent's numbers: completion, durations, quality, activity, tools, handoffs, memory."""
    reached = await bring_up(call)
    return await agent_numbers_of(call, await agent_name(call, agent), Window(days, reached.now), reached.since)


async def agent_numbers_of(call: Call, agent: str, window: Window, since: UUID) -> AgentAnalytics:
    """The same of a window; `since` is the id from which on rows may be missing in the daily metrics."""
    tasks = await call.db.fetchrow(use_queries.TASKS_OF_AGENT, *window.moments, agent)
    handoffs = await call.db.fetchrow(flow_queries.HANDOFFS, window.begins, window.ends, window.now, agent)
    days_read = window.first_day, window.day_after, since
    sums = Sums.of(await call.db.fetch(use_queries.USE_OF_AGENT, *days_read, agent))
    return AgentAnalytics(
        agent=agent,
        window=window.out(),
        tasks=AgentTasks(
            completed_count=tasks["completed"],
            cancelled_count=tasks["cancelled"],
            completion_share=share(tasks["completed"], tasks["completed"] + tasks["cancelled"]),
            cycle=Durations.of_row(tasks["cycle"]),
            under_way_count=tasks["under_way"],
            oldest_under_way_seconds=whole(tasks["oldest"]),
        ),
        quality=quality(tasks, sums),
        activity=ActivitySeries(
            bucket="day" if window.bucket_days == 1 else "week",
            first_day=window.first_day,
            changes_counts=series(window, sums.by_day),
        ),
        tools=[
            ToolUse(tool=tool, changes_count=count) for tool, count in list(sums.counts("change").items())[:TOOLS_SHOWN]
        ],
        handoffs=handoff_flow(handoffs, sums),
        handoffs_given_count=tasks["given"],
        memory=memory_use(sums),
    )
