"""Finishing and changing tasks in one round trip, while a transaction that touches the same ones is open."""

import asyncio
import uuid
from contextlib import asynccontextmanager
from unittest.mock import patch

import asyncpg
import pytest
from harness import TestWorkspace

from bmad_mcp.call import Call, Caller, OpenProject, open_call
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import Transaction, open_pool
from bmad_mcp.errors import Conflict
from bmad_mcp.lifecycles import TaskStatus
from bmad_mcp.operation import perform
from bmad_mcp.tasks import functions, queries
from bmad_mcp.tasks.leases import claim_named

WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'bmad-mcp'
"""

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@pytest.fixture
async def alone(database, workspace):
    """Runs operations where connections begin in the project, so that they are one statement each."""
    opened = workspace.opened
    pool = await open_pool(begins_in=opened.id, **database.app)
    home = TestWorkspace(OpenProject(opened.id, opened.key, pool, begins_in=opened.id))

    async def ask(name, /, **arguments):
        return await perform(BY_NAME[name], arguments, Caller(), home)

    yield ask
    await pool.close()


@pytest.fixture
async def waits(database):
    """Tells when somebody waits for a lock of the open transaction."""
    watcher = await asyncpg.connect(**database.admin)

    async def wait():
        async with asyncio.timeout(10):
            while not await watcher.fetchval(WAITING):
                await asyncio.sleep(0)

    yield wait
    await watcher.close()


@asynccontextmanager
async def unfinished(workspace, name, **arguments):
    """The operation has run, and commits when the block ends; so does what is asked for in it."""
    async with open_call(workspace, Caller(), name) as call:

        async def ask(name, /, **arguments):
            operation = BY_NAME[name]
            await operation.run(call, **operation.check(arguments)[0])

        await ask(name, **arguments)
        yield ask


async def claimed(ask, **more):
    """A new task that is held: its key and lease."""
    key = (await ask("task_create", title="First", **more)).task.key
    return key, (await ask("task_claim", agent="dev", task=key)).lease


async def a_story(ask):
    await ask("epic_create", title="E")
    await ask("story_create", epic="1", title="S")
    await ask("story_update", story="1.1", expected_version=1, status="ready")


async def test_a_completion_that_waited_for_a_new_dependent_frees_it(alone, workspace, waits):
    key, lease = await claimed(alone)
    async with unfinished(workspace, "task_create", title="Second", depends_on=[key]):
        completing = asyncio.create_task(alone("task_complete", task=key, lease=lease))
        await waits()
    assert (await completing).unblocked == ["T-2"]
    assert (await alone("task_get", task="T-2")).task.ready is True


async def test_a_completion_that_waited_for_a_new_dependency_of_another_task_frees_it(alone, workspace, waits):
    key, lease = await claimed(alone)
    await alone("task_create", title="Second")
    async with unfinished(workspace, "task_update", task="T-2", depends_on=[key]):
        completing = asyncio.create_task(alone("task_complete", task=key, lease=lease))
        await waits()
    assert (await completing).unblocked == ["T-2"]


async def test_a_dependent_that_waited_for_a_completion_is_ready(alone, workspace, waits):
    key, lease = await claimed(alone)
    async with unfinished(workspace, "task_complete", task=key, lease=lease):
        creating = asyncio.create_task(alone("task_create", title="Second", depends_on=[key]))
        await waits()
    assert (await alone("task_get", task=(await creating).task.key)).task.ready is True


async def test_a_cancellation_that_waited_for_a_new_dependent_frees_it(alone, workspace, waits):
    key = (await alone("task_create", title="First")).task.key
    async with unfinished(workspace, "task_create", title="Second", depends_on=[key]):
        cancelling = asyncio.create_task(alone("task_update", task=key, status="cancelled"))
        await waits()
    assert (await cancelling).task.status == "cancelled"
    assert (await alone("task_get", task="T-2")).task.ready is True


async def test_the_second_of_two_last_dependencies_counts_the_first(alone, workspace, waits):
    (one, lease), (two, other) = await claimed(alone), await claimed(alone)
    await alone("task_create", title="Waits", depends_on=[one, two])
    async with unfinished(workspace, "task_complete", task=one, lease=lease):
        completing = asyncio.create_task(alone("task_complete", task=two, lease=other))
        await waits()
    assert (await completing).unblocked == ["T-3"]


async def test_the_second_of_two_last_tasks_of_a_story_counts_the_first(alone, workspace, waits):
    await a_story(alone)
    (one, lease), (two, other) = await claimed(alone, story="1.1"), await claimed(alone, story="1.1")
    async with unfinished(workspace, "task_complete", task=one, lease=lease):
        completing = asyncio.create_task(alone("task_complete", task=two, lease=other))
        await waits()
    story = (await completing).story
    assert (story.key, story.status, story.tasks_done, story.tasks_total) == ("1.1", "review", 2, 2)
    assert (await alone("story_get", story="1.1")).status == "review"


async def test_a_stale_holder_that_waited_for_the_new_one_is_refused(alone, workspace, waits):
    key, lease = await claimed(alone)
    async with unfinished(workspace, "task_update", task=key, status="pending", lease=lease) as more:
        await more("task_start", task=key, agent="qa")
        completing = asyncio.create_task(alone("task_complete", task=key, lease=lease))
        changing = asyncio.create_task(alone("task_update", task=key, lease=lease, status="review"))
        await waits()
    for refused in await asyncio.gather(completing, changing, return_exceptions=True):
        assert "is not the current lease" in str(refused)
    assert (await alone("task_get", task=key)).task.status == "in_progress"


async def test_a_claim_of_the_best_task_does_not_wait_for_one_that_is_being_taken(alone, workspace):
    await alone("task_create", title="Best", priority="high")
    await alone("task_create", title="Next")
    async with unfinished(workspace, "task_claim", agent="dev"), asyncio.timeout(5):
        assert (await alone("task_claim", agent="qa")).task.title == "Next"


async def test_an_edit_of_other_tasks_that_would_close_a_circle_waits_and_is_refused(alone, workspace, waits):
    for number in range(1, 7):
        await alone("task_create", title=f"Task {number}")
    # Each edit locks its task, what that waits for, and what waits for it: these two have none in common.
    for task, waits_for in (("T-2", "T-3"), ("T-3", "T-4"), ("T-5", "T-6"), ("T-6", "T-1")):
        await alone("task_update", task=task, depends_on=[waits_for])
    async with unfinished(workspace, "task_update", task="T-1", depends_on=["T-2"]):
        closing = asyncio.create_task(alone("task_update", task="T-4", depends_on=["T-5"]))
        await waits()
    with pytest.raises(Conflict, match="is a circle"):
        await closing


async def test_an_edit_that_waited_for_another_one_has_an_old_version(alone, workspace, waits):
    key = (await alone("task_create", title="First")).task.key
    async with unfinished(workspace, "task_update", task=key, note="mine"):
        editing = asyncio.create_task(alone("task_update", task=key, expected_version=1, note="yours"))
        await waits()
    (refused,) = await asyncio.gather(editing, return_exceptions=True)
    assert "is at version 2, not 1" in str(refused)


@pytest.mark.parametrize("created", functions.FUNCTIONS, ids=["complete", "update"])
async def test_the_functions_of_the_database_are_those_of_the_code(database, created):
    """Whoever changes a status table or a statement adds a migration that creates the functions anew."""
    signature = created.split("CREATE FUNCTION ")[1].split("\n")[0]
    definition = f"SELECT pg_get_functiondef('{signature}'::regprocedure)"
    owner = await asyncpg.connect(**database.owner)
    transaction = owner.transaction()
    await transaction.start()
    try:
        migrated = await owner.fetchval(definition)
        await owner.execute(created.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
        assert migrated == await owner.fetchval(definition)
    finally:
        await transaction.rollback()
        await owner.close()


async def test_a_call_that_postgresql_ends_to_break_a_deadlock_runs_again(run, database, waits):
    await run("task_create", title="First")
    await run("task_create", title="Second", depends_on=["T-1"])
    lease = (await run("task_claim", agent="dev", task="T-1")).lease
    other = await asyncpg.connect(**database.admin)
    try:
        # The other one looks for deadlocks much later, so it is the call that is ended.
        await other.execute("SET deadlock_timeout = '60s'")
        before = await other.fetchval(DEADLOCKS)
        held = other.transaction()
        await held.start()
        await other.execute("SELECT FROM bmad_tasks WHERE number = 2 FOR UPDATE")
        # It has T-1 and waits for T-2, whose open dependencies it counts.
        completing = asyncio.create_task(run("task_complete", task="T-1", lease=lease))
        await waits()
        await other.execute("SELECT FROM bmad_tasks WHERE number = 1 FOR UPDATE")
        await held.commit()
        assert (await completing).unblocked == ["T-2"]
        async with asyncio.timeout(10):
            while await other.fetchval(DEADLOCKS) == before:
                await asyncio.sleep(0.05)
    finally:
        await other.close()
    assert [event.operation for event in (await run("task_get", task="T-1")).task.history].count("task_complete") == 1


async def test_a_claim_of_a_task_that_is_freed_between_its_statements_gets_it(run, workspace):
    lease = [(await run("task_start", task=(await run("task_create", title="Wanted")).task.key, agent="qa")).lease]
    opened = workspace.opened
    transaction = Transaction(opened.pool, opened.id)
    call = Call(uuid.uuid4().hex, "task_claim", Caller(), opened.id, opened.key, transaction)
    refused = transaction.fetchrow

    async def fetchrow(sql, *values):
        if sql == queries.STATE and lease:
            # Held when the claim looked, and free when it asks why it was refused.
            await run("task_update", task="T-1", lease=lease.pop(), status="pending")
        return await refused(sql, *values)

    with patch.object(Transaction, "fetchrow", staticmethod(fetchrow)):
        claimed = await claim_named(call, 1, "dev", 900, TaskStatus.ACTIVE)
    await transaction.end("COMMIT")
    assert (claimed.task.held_by, claimed.lease) == ("dev", 2)
