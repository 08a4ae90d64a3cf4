"""How many rows and blocks a call reads is the same in a large project: every statement finds its rows through an index."""

import asyncio
from contextlib import suppress

import pytest
from harness import run_sql, scratch
from plans import Told, World, fill, world

from bench.seeding import EPIC_STORIES, FRONT, STORY_TASKS, closed_of
from bmad_mcp.catalog import CATALOG
from bmad_mcp.errors import NotFound, Unavailable
from bmad_mcp.lifecycles import StoryStatus, TaskStatus, WorkflowStatus
from bmad_mcp.shapes import encode_cursor

# From 100,000 on there are as many open stories as there ever are (`MOST_OPEN`).
SHORT, SMALL, LARGE = 20_000, 100_000, 1_000_000
# A claim looks at 64 tasks of each kind, a board shows 50 cards of each status.
MOST_ROWS = 1_200
# Until a table is analyzed, a page of the smaller ones (epics, runs, documents) may be sorted out of all of them.
MOST_ROWS_UNTIL_ANALYZED = 12_000
MOST_BLOCKS = 5_000
# How many more blocks a call may touch in a ten times as large project: indexes are a level or two deeper.
GROWTH, FLAT = 1.5, 100
# What counts or searches all there is, and says so. Nothing of it is on the way of a claim.
COUNTS = {
    "project_board query": "looks for a part of each title",
    "epic_burnup": "adds up days",
    "analytics_overview": "adds up what happened in the window",
    "agent_analytics": "adds up what happened in the window",
    "workflow_analytics": "adds up what happened in the window",
    "story_list query": "row-level security lets no text search use an index",
    "key_list story": "row-level security lets no LIKE use an index",
    "key_list epic": "looks for what was typed in the keys of epics, 2,400 of a million tasks",
    "memory_related": "reads each memory of the project, of which it keeps so many",
    **{f"workflow_list status {one}": "goes through the runs, 5,000 of a million tasks" for one in WorkflowStatus},
    "handoff_list agent": "goes through the handoffs for either side",
    "workflow_advance": "looks for documents by their titles",
    "key_list task": "looks for what was typed in the keys of open tasks",
}

# Whether tables have statistics, and the kind of plans.
TURNS = ((False, "custom"), (False, "generic"), (True, "custom"), (True, "generic"))
LAST_TURN = len(TURNS) - 1
# What looks for the latest of each agent, or sorts a page, reads more until the tables are analyzed, which autovacuum
# does within a minute after an import.
UNTIL_ANALYZED = {
    "agent_list", "agent_get", "agent_context", "agent_activate", "story_list", "workflow_list",
    "project_board", "project_status",
}  # fmt: skip


def story_of(place: int) -> str:
    """The key of the story at a place among all, as they were made up."""
    return f"{place // EPIC_STORIES + 1}.{place % EPIC_STORIES + 1}"


class Front:
    """Where the work is in a project with so many tasks: keys of stories and tasks in each status, others each turn."""

    def __init__(self, tasks: int, turn: int = 0) -> None:
        self.tasks, stories = tasks, tasks // STORY_TASKS
        first_of = closed_of(stories) + (turn + 1) * len(FRONT)
        first = {FRONT[number % len(FRONT)]: number - 1 for number in range(first_of + len(FRONT), first_of, -1)}
        self.story = {status: story_of(place) for status, place in first.items()}
        # Ready ones have nothing but pending tasks, the last but one of which waits for the one before.
        self.ready = [f"T-{first['ready'] * STORY_TASKS + number}" for number in range(1, STORY_TASKS + 1)]


async def every_call(at: World, front: Front) -> None:
    """Each operation in each way it can be asked, as one assistant works."""
    call = at.call
    await call("agent_activate", agent="dev", focus="the parser of invoices")
    await call("agent_list")
    await call("agent_list", "status", status="busy")
    await call("agent_get", agent="dev")
    await call("agent_context", agent="qa", focus="the parser")
    await call("agent_context", "no focus", agent="dev")
    await tasks(at, front)
    await stories(at, front)
    await runs(at, front.ready[6])
    memory = (await call("memory_store", text="The parser wants invoices without a byte order mark.")).memory
    for special, more in {"": {}, "category": {"category": "TASK_COMPLETION"}, "agent": {"agent": "dev"}}.items():
        await call("memory_context", special, focus="parser of invoices", **more)
    await call("memory_search", query="parser")
    await call("memory_related", memory=memory.id)
    await call("memory_provenance", memories=[memory.id])
    await definitions(at)
    await call("activity_list")
    await call("activity_list", "agent", agent="qa")
    await call("activity_list", "subject", subject="T-7")
    await call("activity_list", "since", since="2030-01-01T00:00:00Z")
    for kind in ("agent", "story", "epic", "task", "workflow", "template", "checklist"):
        await call("key_list", kind, kind=kind, prefix={"story": front.story["draft"], "task": "T-"}.get(kind, ""))
    await call("project_status")
    await call("project_board")
    await call("project_board", "query", query="Story 7")
    await call("project_drift")
    await call("health")
    # Of a million tasks some take longer than a statement may, until the tables are analyzed.
    for name in ("epic_burnup", "analytics_overview", "workflow_analytics"):
        with suppress(Unavailable):
            await call(name)
    with suppress(Unavailable):
        await call("agent_analytics", agent="dev")
    await call("agent_deactivate", agent="dev", summary="The parser is done.")


async def tasks(at: World, front: Front) -> None:
    call = at.call
    await call("task_create", title="Write the parser", agent="dev")
    waits = {"story": front.story["in_progress"], "depends_on": [front.ready[0], "T-7"]}
    made = (await call("task_create", "that waits", title="Test it", agent="dev", **waits)).task.key
    await call("task_list")
    for status in TaskStatus:
        await call("task_list", f"status {status}", status=status)
    await call("task_list", "agent", agent="qa")
    await call("task_list", "story", story=front.story["in_progress"])
    await call("task_list", "ready", ready=True)
    await call("task_list", "cursor", cursor=encode_cursor(front.tasks - 500))
    await call("task_get", task=made)
    await call("task_get", "closed", task="T-7")
    claimed = await call("task_claim", agent="dev")
    await call("task_claim", "nothing to claim", agent="ux")
    named = await call("task_claim", "named", agent="dev", task=front.ready[2])
    await call("task_start", agent="dev", task=front.ready[3])
    await call("task_heartbeat", task=claimed.task.key, lease=claimed.lease)
    await call("task_update", task=claimed.task.key, lease=claimed.lease, status="in_progress")
    await call("task_update", "release", task=named.task.key, lease=named.lease, status="pending")
    await call("task_update", "block", task=front.ready[4], status="blocked", note="No invoices")
    await call("task_update", "depends_on", task=made, depends_on=[front.ready[0]])
    await call("task_complete", task=claimed.task.key, lease=claimed.lease)
    last = await call("task_claim", "that others wait for", agent="dev", task=front.ready[0])
    await call(
        "task_complete", "with a summary", task=front.ready[0], lease=last.lease, summary="Done", artifacts=["a.py"]
    )


async def stories(at: World, front: Front) -> None:
    call = at.call
    await call("epic_create", title="Accounts")
    await call("epic_list")
    await call("epic_get", epic="1")
    await call("story_create", epic="1", title="Sign in")
    await call("story_list")
    for status in StoryStatus:
        await call("story_list", f"status {status}", status=status)
    await call("story_list", "epic", epic="1")
    await call("story_list", "query", query="sign in")
    await call("story_list", "cursor", cursor=encode_cursor(front.tasks // STORY_TASKS // EPIC_STORIES, 1, ""))
    await call("story_next", "dev")
    key = front.story["draft"]
    version = (await call("story_get", story=key)).version
    await call("agent_activate", "sm", agent="sm")
    changed = await call("story_update", story=key, expected_version=version, section="Dev Notes", text="-")
    changed = await call(
        "story_update", "plan", story=key, expected_version=changed.story.version, title="It", points=3
    )
    await call("story_update", "status", story=key, expected_version=changed.story.version, status="ready")
    await call("agent_activate", "qa", agent="qa")
    await call("gate_record", story=front.story["review"], gate="PASS", reason="Fine")
    await call("gate_get", story=front.story["review"])
    await call("story_next", "qa")
    await call("agent_activate", "again", agent="dev")


async def runs(at: World, at_hand: str) -> None:
    call = at.call
    offered = (await call("handoff_offer", to="qa", note="Look at it", task=at_hand)).handoff.key
    await call("handoff_list")
    await call("handoff_list", "status", status="offered")
    await call("handoff_list", "agent", agent="qa")
    await call("handoff_accept", handoff=offered, agent="qa")
    await call("workflow_types")
    run = (await call("workflow_start", type="greenfield-service", title="The service")).workflow.key
    await call("workflow_list")
    for status in WorkflowStatus:
        await call("workflow_list", f"status {status}", status=status)
    await call("workflow_get", workflow=run)
    await call("workflow_advance", workflow=run, outcome="done")
    await call("workflow_pause", workflow=run)
    await call("workflow_resume", workflow=run)
    await call("workflow_cancel", workflow=run)


async def definitions(at: World) -> None:
    call = at.call
    await call("template_list")
    await call("template_list", "kind", kind="document")
    await call("template_get", template="paper")
    await call("template_render", template="paper", values={"title": "Parsing"})
    await call("checklist_list")
    await call("checklist_get", checklist="ready")
    await call("checklist_run", checklist="ready", subject="story 1.1", results=[{"item": 1, "mark": "pass"}])
    paper = (await call("artifact_record", kind="code", title="The parser", path="parser.py")).artifact.key
    await call("artifact_list")
    await call("artifact_list", "kind", kind="code")
    await call("artifact_get", artifact=paper)
    await call("skill_list")
    with suppress(NotFound):
        await call("skill_get", skill="parse")


def too_much(told: dict[str, Told], *, is_analyzed: bool) -> list[str]:
    """What calls read that they should not have."""
    found, most = [], MOST_ROWS if is_analyzed else MOST_ROWS_UNTIL_ANALYZED
    for name, one in told.items():
        if name in COUNTS or (not is_analyzed and name.split()[0] in UNTIL_ANALYZED):
            continue
        found += [f"{name}: {rows} rows of {table} by {kind}" for table, kind, rows in one.scans() if rows > most]
        if one.blocks() > MOST_BLOCKS:
            found.append(f"{name}: {one.blocks()} blocks")
    return found


async def walked(database, project, tasks: int, plan: str, turn: int) -> dict[str, Told]:
    async with world(database, project, plan) as at:
        await every_call(at, Front(tasks, turn))
        if turn == LAST_TURN:
            # It leaves many rows, which the next turn would read.
            await at.add_up()
        return at.told


async def checked(database, tasks: int) -> dict[str, Told]:
    """Every call, with and without statistics of the tables, by plans of both kinds; what the last round told."""
    await asyncio.to_thread(database.migrate)
    project, wrong = await fill(database, tasks), []
    for turn, (is_analyzed, plan) in enumerate(TURNS):
        if is_analyzed:
            await run_sql(database.admin, "VACUUM ANALYZE")
        told = await walked(database, project, tasks, plan, turn)
        assert all(one.plans for one in told.values()), "a call told no plan: what is measured here?"
        when = f"{plan}, {'with' if is_analyzed else 'without'} statistics"
        # A table of some thousand rows is rightly read as a whole.
        wrong += [f"{when}: {one}" for one in too_much(told, is_analyzed=is_analyzed) if tasks >= SHORT]
    assert not wrong, "\n".join(wrong)
    return told


async def test_a_call_reads_as_much_of_a_large_project_as_of_a_small_one(scratch_database):
    told = await checked(scratch_database, SHORT)
    missing = {one.name for one in CATALOG} - {name.split()[0] for name in told}
    assert not missing, "every operation needs a case in every_call"
    assert not set(COUNTS) - set(told), "what counts must be called"


@pytest.mark.soak
async def test_a_scan_of_the_whole_project_is_noticed(scratch_database):
    await asyncio.to_thread(scratch_database.migrate)
    project = await fill(scratch_database, SHORT)
    await run_sql(scratch_database.admin, "DROP INDEX ix_bmad_tasks_pending_number", "VACUUM ANALYZE")
    async with world(scratch_database, project, "generic") as at:
        await at.call("task_list", "pending", status="pending")
    assert any("rows of bmad_tasks" in line for line in too_much(at.told, is_analyzed=True))


@pytest.mark.soak
def test_ten_times_as_many_tasks_cost_as_few_blocks(cluster):
    told = {}
    for tasks in (SMALL, LARGE):
        with scratch(cluster) as database:
            told[tasks] = asyncio.run(checked(database, tasks))
    grown = {
        name: (small.blocks(), told[LARGE][name].blocks())
        for name, small in told[SMALL].items()
        if name not in COUNTS and told[LARGE][name].blocks() > GROWTH * small.blocks() + FLAT
    }
    assert grown == {}
