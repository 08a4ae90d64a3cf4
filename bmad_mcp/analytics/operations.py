"""What can be asked of the project as a whole."""

from typing import Annotated

from pydantic import Field

from bmad_mcp.analytics import queries
from bmad_mcp.analytics.agent_numbers import agent_analytics
from bmad_mcp.analytics.burnup import epic_burnup
from bmad_mcp.analytics.drift import find_drift
from bmad_mcp.analytics.health import health
from bmad_mcp.analytics.next_actions import next_actions
from bmad_mcp.analytics.overview import analytics_overview
from bmad_mcp.analytics.run_numbers import workflow_analytics
from bmad_mcp.analytics.schemas import (
    Board,
    Card,
    Claim,
    Column,
    Drift,
    HandoffWaiting,
    LeaseEnding,
    LooseTask,
    LooseTasks,
    ProjectName,
    ProjectStatus,
)
from bmad_mcp.call import Call
from bmad_mcp.lifecycles import StoryStatus, agent_status
from bmad_mcp.operation import Operation


async def project_status(call: Call) -> ProjectStatus:
    """The project at a glance: counts, what to do next, and where files and database differ."""
    row = await call.db.fetchrow(queries.STATUS)
    agents: dict[str, int] = {}
    for agent in row["agents"] or []:
        status = agent_status(agent["status"], holds=agent["holds"])
        agents[status] = agents.get(status, 0) + 1
    return ProjectStatus.of(
        {},
        project=ProjectName(key=row["key"], name=row["name"]),
        workflows=row["workflows"] or {},
        stories={status: one["count"] for status, one in (row["stories"] or {}).items()},
        tasks=row["tasks"] or {},
        agents=agents,
        next=next_actions(row),
        drift=find_drift(row["words"] or [], row["files"] or {}, call.project_key, queries.SHOWN),
        in_hand=row["in_hand"],
        review=row["review"],
        blocked=row["blocked"],
        leases=[LeaseEnding.of(lease) for lease in row["leases"] or []] or None,
        handoffs=[HandoffWaiting(**handoff) for handoff in row["handoffs"] or []] or None,
    )


async def project_drift(call: Call) -> Drift:
    """Where files, tracker and database disagree: every group of stories that drift in the same way."""
    row = await call.db.fetchrow(queries.DRIFT)
    return find_drift(row["words"] or [], row["files"] or {}, call.project_key, queries.DRIFT_SHOWN)


async def project_board(
    call: Call, query: Annotated[str | None, Field(max_length=300, description="A part of keys or titles.")] = None
) -> Board:
    """Stories by status, with their tasks and who holds them now; then the tasks without a story."""
    counting = (queries.COUNTS,) if query is None else (queries.COUNTS_FOUND, query)
    looking = (queries.LOOSE,) if query is None else (queries.LOOSE_FOUND, query)
    counts = {row["status"]: row["count"] for row in await call.db.fetch(*counting)}
    rows = await call.db.fetch(queries.BOARD, query)
    loose = await call.db.fetch(*looking)
    tasks = LooseTasks.of(loose[0], items=[LooseTask.of(row) for row in loose]) if loose else None
    return Board(
        project=call.project_key,
        columns=[
            Column(
                status=status,
                count=counts.get(status, 0),
                stories=[
                    Card.of(row, claims=[Claim(**claim) for claim in row["claims"]] if row["claims"] else None)
                    for row in rows
                    if row["status"] == status
                ],
            )
            for status in StoryStatus
        ],
        **({"tasks": tasks} if tasks else {}),
    )


OPERATIONS = (
    Operation(project_status, "GET /status", resource="bmad://project"),
    Operation(project_board, "GET /board", toolset=None, resource="bmad://project/board"),
    Operation(project_drift, "GET /drift", toolset=None),
    Operation(epic_burnup, "GET /epics/burnup", toolset=None, may_be_old=True),
    Operation(analytics_overview, "GET /analytics/overview", toolset="analytics", may_be_old=True),
    Operation(agent_analytics, "GET /agents/{agent}/analytics", toolset="analytics", may_be_old=True),
    Operation(workflow_analytics, "GET /workflows/analytics", toolset="analytics", may_be_old=True),
    Operation(health, "GET /health", toolset="analytics"),
)
