"""How many tasks, stories, epics and workflows have a status is kept by triggers: it is what counting the rows says."""

import asyncio
import random
from contextlib import asynccontextmanager

import asyncpg
import pytest
from harness import new_project, run_sql
from stored_rows import change, fetch
from test_migrations import names

MISCOUNTS = "SELECT * FROM bmad_miscounts()"
TALLIES = "SELECT count(*)::int AS n FROM mcp_tallies WHERE project_id = bmad_project()"
ADD = """
INSERT INTO bmad_tasks (project_id, number, title, status, agent)
SELECT bmad_project(), n, 'Task', $3::text::bmad_task_status, 'dev' FROM generate_series($1::int, $2::int) n
"""
STATUSES = ("pending", "active", "in_progress", "review", "completed", "blocked", "cancelled")
CHANGES = (
    "UPDATE bmad_tasks SET status = '{status}' WHERE project_id = bmad_project() AND number % {part} = 0",
    "UPDATE bmad_tasks SET agent = '{agent}' WHERE project_id = bmad_project() AND number % {part} = 1",
    "UPDATE bmad_tasks SET open_dependencies = {part} - 2 WHERE project_id = bmad_project() AND number % {part} = 0",
    "UPDATE bmad_tasks SET story_open = NOT story_open WHERE project_id = bmad_project() AND number % {part} = 1",
    "UPDATE bmad_tasks SET title = 'Another' WHERE project_id = bmad_project()",
    "DELETE FROM bmad_tasks WHERE project_id = bmad_project() AND number % 9 = {part}",
    "SELECT bmad_fold_tallies()",
)


@asynccontextmanager
async def transaction_of(database, opened):
    """An open transaction of the server's role in the project, which gives up instead of waiting for a lock."""
    connection = await asyncpg.connect(**database.app)
    try:
        async with connection.transaction():
            await connection.execute("SELECT set_config('app.project', $1, true)", str(opened.id))
            await connection.execute("SET LOCAL lock_timeout = '300ms'")
            yield connection
    finally:
        await connection.close()


async def test_whatever_changes_the_counts_are_those_of_the_rows(workspace):
    chance, opened, number = random.Random(4), workspace.opened, 1
    for _ in range(60):
        if chance.random() < 0.3:
            await change(opened, ADD, number, number + 8, chance.choice(STATUSES))
            number += 9
        await change(
            opened,
            chance.choice(CHANGES).format(
                status=chance.choice(STATUSES), agent=chance.choice(("dev", "qa", "")), part=chance.randint(2, 4)
            ),
        )
        assert await fetch(opened, MISCOUNTS) == []


async def test_the_status_of_a_project_says_them(workspace, run):
    epic = (await run("epic_create", title="Harbour")).epic.key
    story = (await run("story_create", epic=epic, title="Tides")).story.key
    first = (await run("task_create", title="Read", story=story, agent="dev")).task.key
    await run("task_create", title="Write", story=story, agent="qa", depends_on=[first])
    free = (await run("task_create", title="Free", agent="qa")).task.key
    held = await run("task_claim", agent="qa", task=free)
    await run("task_complete", task=free, lease=held.lease)
    await run("story_update", story=story, status="ready", expected_version=1)
    await run("story_update", story=story, status="cancelled", expected_version=2)
    workflow = (await run("workflow_start", type="brownfield-service", title="Run")).workflow.key
    await run("workflow_pause", workflow=workflow, reason="Lunch")
    assert await fetch(workspace.opened, MISCOUNTS) == []
    status = await run("project_status")
    kept = {"bmad_tasks": status.tasks, "bmad_stories": status.stories, "bmad_workflows": status.workflows}
    for table, told in kept.items():
        counted = f"SELECT status::text, count(*)::int AS n FROM {table} WHERE project_id = bmad_project() GROUP BY 1"
        assert told == {row["status"]: row["n"] for row in await fetch(workspace.opened, counted)}


async def test_what_is_added_up_stays_what_it_is_and_is_a_row_for_each_count(workspace):
    await change(workspace.opened, ADD, 1, 40, "pending")
    await change(
        workspace.opened, "UPDATE bmad_tasks SET status = 'blocked' WHERE project_id = bmad_project() AND number <= 10"
    )
    await change(workspace.opened, "SELECT bmad_fold_tallies()")
    (tallies,) = await fetch(workspace.opened, TALLIES)
    assert tallies["n"] == 2
    assert await fetch(workspace.opened, MISCOUNTS) == []


async def test_changes_and_additions_at_once_wait_for_nobody(workspace, database):
    opened = workspace.opened
    await change(opened, ADD, 1, 20, "pending")
    async with transaction_of(database, opened) as one, transaction_of(database, opened) as other:
        for connection, number in ((one, 1), (other, 2), (one, 3), (other, 4)):
            await connection.execute("UPDATE bmad_tasks SET status = 'active' WHERE number = $1", number)
            await connection.execute("SELECT bmad_fold_tallies()")
        # Neither sees what the other has not committed, and both see what there was.
        for connection in (one, other):
            assert await connection.fetch(MISCOUNTS) == []
    assert await fetch(opened, MISCOUNTS) == []


async def test_many_who_change_and_add_up_at_once_count_nothing_twice(workspace, database):
    opened = workspace.opened
    await change(opened, ADD, 1, 160, "pending")

    async def work(place: int) -> None:
        for number in range(place, 161, 8):
            async with transaction_of(database, opened) as connection:
                await connection.execute("UPDATE bmad_tasks SET status = 'completed' WHERE number = $1", number)
                await connection.execute("SELECT bmad_fold_tallies()")

    await asyncio.gather(*(work(place) for place in range(1, 9)))
    assert await fetch(opened, MISCOUNTS) == []
    await change(opened, "SELECT bmad_fold_tallies()")
    counts = "SELECT status, count FROM mcp_tallies WHERE project_id = bmad_project() AND kind = 'task'"
    assert await fetch(opened, counts) == [{"status": "completed", "count": 160}]


async def test_rows_that_came_without_triggers_are_counted_by_the_recount(workspace, database):
    opened = workspace.opened
    add = ADD.replace("bmad_project()", f"'{opened.id}'").replace("$1::int", "1").replace("$2::int", "5")
    await run_sql(
        database.admin, "SET session_replication_role = replica", add.replace("$3::text::bmad_task_status", "'pending'")
    )
    (wrong,) = await fetch(opened, MISCOUNTS)
    assert (wrong["kind"], wrong["status"], wrong["ready_for"], wrong["missing"]) == ("task", "pending", "dev", 5)
    await change(opened, "SELECT bmad_recount()")
    assert await fetch(opened, MISCOUNTS) == []


async def test_another_projects_counts_are_its_own_and_go_with_it(workspace, database):
    other = await new_project(workspace.opened.pool)
    await change(other, ADD, 1, 3, "pending")
    assert await fetch(workspace.opened, "SELECT * FROM mcp_tallies") == []
    await run_sql(database.admin, f"DELETE FROM bmad_projects WHERE id = '{other.id}'")
    assert await names(database, f"SELECT count(*) FROM mcp_tallies WHERE project_id = '{other.id}'") == {0}


@pytest.mark.parametrize("table", ["bmad_tasks", "bmad_stories", "bmad_epics", "bmad_workflows"])
async def test_every_table_that_is_counted_has_both_triggers(database, table):
    triggers = f"SELECT tgname FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND tgname ~ '^bmad_tally'"
    assert await names(database, triggers) == {"bmad_tally", "bmad_tally_change"}
