"""Statements without a transaction around them: where connections begin in the project, and nowhere else."""

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import asyncpg
import pytest
from encryption_keys import encrypted_project
from harness import TestWorkspace, new_project

from bmad_mcp.call import Caller, OneProject, OpenProject, open_call
from bmad_mcp.catalog import BY_NAME, CATALOG
from bmad_mcp.db import begin_in, open_pool, project_transaction
from bmad_mcp.encryption.people import is_pseudonym
from bmad_mcp.errors import NotFound, Unavailable
from bmad_mcp.identity.members import set_role
from bmad_mcp.identity.principals import Principal
from bmad_mcp.identity.verifying import find_role
from bmad_mcp.operation import perform
from bmad_mcp.telemetry.events import CallRecord, Observer, observed_by

ONE_ROUND_TRIP = {
    "task_create": {"title": "Write the parser"},
    "task_list": {},
    "task_get": {"task": "T-1"},
    "task_claim": {"agent": "dev"},
    "task_heartbeat": {"task": "T-1", "lease": 1},
    "task_update": {"task": "T-1", "lease": 1, "status": "review"},
    "task_complete": {"task": "T-1", "lease": 1, "quality": 90},
}


class Counted(Observer):
    """Remembers how many round trips the last call took."""

    statements = 0

    def call_ended(self, call: CallRecord) -> None:
        self.statements = call.statements


@asynccontextmanager
async def beginning_in(database, opened, **settings):
    """The project on connections that begin in it."""
    pool = await open_pool(begins_in=opened.id, **database.app | settings)
    try:
        yield TestWorkspace(OpenProject(opened.id, opened.key, pool, begins_in=opened.id))
    finally:
        await pool.close()


async def ask(workspace, name, /, **arguments):
    return await perform(BY_NAME[name], arguments, Caller(), workspace)


async def test_a_hot_operation_is_one_round_trip(database, workspace):
    counted = Counted()
    async with beginning_in(database, workspace.opened) as home:
        with observed_by(counted):
            for name, arguments in ONE_ROUND_TRIP.items():
                await ask(home, name, **arguments)
                assert counted.statements == 1, name
            await ask(home, "task_create", title="Build it")
            held = await ask(home, "task_claim", agent="dev", task="T-2")
            await ask(home, "task_complete", task="T-2", lease=held.lease, summary="Built by build.py.")
            assert counted.statements == 2, "what the memory tells of the task is read first"
            await ask(home, "task_create", title="Test it", depends_on=["T-1"])
            assert counted.statements > 3, "what it waits for is locked until it is there"
            await ask(home, "task_list", limit=1)
            await ask(workspace, "task_get", task="T-1")
            assert counted.statements == 3, "a pool that begins in no project needs its BEGIN and its end"
            await ask(home, "story_next")
            assert counted.statements == 2, "without a story, a task beside the stories is looked for"
            await ask(home, "epic_create", title="Parsing")
            await ask(home, "story_create", epic="1", title="Parse")
            await ask(home, "story_update", story="1.1", expected_version=1, status="ready")
            await ask(home, "story_next")
            assert counted.statements == 1


async def test_who_has_a_pseudonym_costs_no_round_trip(database, pool):
    sealed = await encrypted_project(pool)
    async with open_call(sealed, Caller(), "member_add") as call:
        await set_role(call, "alice@example.com", "member")
    counted = Counted()
    async with beginning_in(database, sealed.opened) as home:
        workspace = TestWorkspace(replace(home.opened, vaults=sealed.opened.vaults, vault=sealed.opened.vault))
        found = await find_role(workspace, None, Principal("alice@example.com", frozenset({"write"})))
        caller = Caller(found.member.principal)
        assert is_pseudonym(caller.principal)
        with observed_by(counted):
            for name, arguments in ONE_ROUND_TRIP.items():
                await perform(BY_NAME[name], arguments, caller, workspace)
                assert counted.statements == 1, name


async def test_another_project_on_the_same_connections_is_kept_apart(database, pool):
    mine, other = await new_project(pool), await new_project(pool)
    await ask(TestWorkspace(other), "task_create", title="Not yours")
    async with beginning_in(database, mine) as home:
        foreign = OneProject(replace(home.opened, id=other.id, key=other.key))
        await ask(home, "task_create", title="Mine")
        for _ in range(12):
            assert [one.title for one in (await ask(home, "task_list")).items] == ["Mine"]
            assert [one.title for one in (await ask(foreign, "task_list")).items] == ["Not yours"]
        claimed = await ask(foreign, "task_claim", agent="dev")
        assert claimed.task.title == "Not yours"
        assert (await ask(home, "task_claim", agent="dev")).task.title == "Mine"
        assert (await ask(home, "task_claim", agent="dev")).task is None
        with pytest.raises(NotFound):
            await ask(home, "task_get", task="T-2")


@pytest.mark.parametrize("open_before", [1, 2])
async def test_a_pool_may_begin_in_a_project_that_it_found_itself(database, pool, open_before):
    mine = await new_project(pool)
    found = await open_pool(**database.app)
    try:
        if open_before == 2:
            async with found.acquire(), found.acquire():
                pass
        await begin_in(found, mine.id)
        async with found.acquire() as first, found.acquire() as second:
            for connection in (first, second):
                assert await connection.fetchval("SELECT bmad_project()") == mine.id
                assert await connection.fetchval("SHOW statement_timeout") == "30s"
    finally:
        await found.close()


async def test_a_worker_in_another_project_leaves_the_connection_as_it_was(database, pool):
    mine, other = await new_project(pool), await new_project(pool)
    async with beginning_in(database, mine) as home:
        await ask(home, "task_create", title="Mine")
        for verb in ("COMMIT", "ROLLBACK"):
            with suppress(ZeroDivisionError):
                async with project_transaction(home.opened.pool, other.id) as db:
                    assert await db.fetchval("SELECT count(*) FROM bmad_tasks") == 0
                    if verb == "ROLLBACK":
                        raise ZeroDivisionError
            assert len((await ask(home, "task_list")).items) == 1


READS = {one.name for one in CATALOG if one.scope == "read" and one.alone(dict.fromkeys(one.arguments.model_fields))}
GIVEN = {"task_get": {"task": "T-1"}, "story_get": {"story": "1.1"}, "workflow_get": {"workflow": "W-1"}}


@pytest.mark.parametrize("name", sorted(READS))
async def test_what_reads_alone_writes_nothing(name, database, workspace):
    await ask(workspace, "epic_create", title="Accounts")
    await ask(workspace, "story_create", epic="1", title="Sign in")
    await ask(workspace, "workflow_start", type="greenfield-service", title="The service")
    await ask(workspace, "task_create", title="Write the parser", story="1.1")
    read_only = {"server_settings": {"default_transaction_read_only": "on"}}
    async with beginning_in(database, workspace.opened, **read_only) as home:
        assert await ask(home, name, **GIVEN.get(name, {}))


async def test_a_failed_statement_alone_leaves_nothing_and_no_lost_connection(database, workspace):
    async with beginning_in(database, workspace.opened) as home:
        with pytest.raises(NotFound, match="nobody"):
            await ask(home, "task_claim", agent="nobody")
        with pytest.raises(NotFound):
            await ask(home, "task_heartbeat", task="T-9", lease=1)
        assert home.opened.pool.get_idle_size() == home.opened.pool.get_size()
        assert (await ask(home, "task_list")).items == []


async def test_a_write_that_was_under_way_when_the_connection_broke_is_told_as_unknown(database, workspace):
    """Nobody can know whether a statement that commits itself was kept; so it is not tried again in silence."""
    async with beginning_in(database, workspace.opened) as home:
        await ask(home, "task_create", title="One")
        watcher = await asyncpg.connect(**database.admin)
        blocker = await asyncpg.connect(**database.admin)
        try:
            async with blocker.transaction():
                await blocker.execute("LOCK TABLE bmad_tasks IN EXCLUSIVE MODE")
                claim = asyncio.create_task(ask(home, "task_claim", agent="dev"))
                while not await watcher.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'bmad-mcp'"
                ):
                    await asyncio.sleep(0)
                with pytest.raises(Unavailable, match="outcome is not known"):
                    await asyncio.wait_for(claim, 10)
        finally:
            await watcher.close()
            await blocker.close()
