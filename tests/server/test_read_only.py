"""--read-only is a bound of the database's own: a write is not offered, refused by name, and refused by PostgreSQL."""

from dataclasses import replace

import asyncpg
import pytest
from commands.command import succeeds
from harness import TestWorkspace
from mcp.client import Client
from processes import assistant, fresh_key
from server.rest.example_calls import answers_of

from bmad_mcp.app import open_workspace
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME, CATALOG
from bmad_mcp.db import open_pool
from bmad_mcp.errors import Forbidden, Unavailable
from bmad_mcp.operation import IDEMPOTENCY_FIELD, TOOLSETS, perform
from bmad_mcp.sample import FOLDER
from bmad_mcp.server.mcp import McpFace
from bmad_mcp.settings import Settings

WRITES = {one.name for one in CATALOG if one.scope != "read"}
# A POST because of what it takes; it only computes.
LEAVE_NOTHING = {"template_render"}


@pytest.fixture
async def sample(workspace):
    await import_folder(workspace.opened, FOLDER)
    return workspace


@pytest.fixture
async def reading(sample, database):
    """The same project on connections that may only read."""
    pool = await open_pool(read_only=True, **database.app)
    yield TestWorkspace(replace(sample.opened, pool=pool))
    await pool.close()


async def test_postgresql_refuses_what_each_writing_operation_writes(sample, reading):
    """Each operation runs on the sample project; just before it, the same call is tried where nothing may be written."""
    refused, read = set(), set()

    async def both(name, arguments):
        if name in WRITES - LEAVE_NOTHING:
            for more in ({}, {IDEMPOTENCY_FIELD: "once"}):
                with pytest.raises(Forbidden, match="may not write to its database") as told:
                    await perform(BY_NAME[name], {**arguments, **more}, Caller(), reading)
                assert told.value.__cause__.sqlstate == "25006", name
            refused.add(name)
        else:
            await perform(BY_NAME[name], arguments, Caller(), reading)
            read.add(name)
        result = await perform(BY_NAME[name], arguments, Caller(), sample)
        return result.model_dump(mode="json", exclude_unset=True, by_alias=True)

    await answers_of(both)
    assert refused == WRITES - LEAVE_NOTHING
    assert refused | read == BY_NAME.keys()


async def test_no_statement_lifts_the_bound_by_accident(reading):
    pool = reading.opened.pool
    async with pool.acquire() as connection:
        assert await connection.fetchval("SHOW transaction_read_only") == "on"
        for statement in ("DELETE FROM bmad_tasks", "CREATE TABLE x ()", "SELECT nextval('mcp_pgqueuer_id_seq')"):
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await connection.execute(statement)


async def test_a_way_to_the_database_that_drops_the_bound_is_not_taken(database):
    dropped = {**database.app.get("server_settings", {}), "default_transaction_read_only": "off"}
    with pytest.raises(Unavailable, match="does not keep connections so"):
        await open_pool(read_only=True, **{**database.app, "server_settings": dropped})


async def test_a_server_process_offers_no_write_and_runs_none(server_env):
    async with assistant(server_env, fresh_key("reading"), "--read-only", "--toolsets", "all") as call:
        listed = {tool.name for tool in (await call.client.list_tools()).tools}
        assert listed == {one.name for one in CATALOG if one.toolset and one.scope == "read"}
        for operation in CATALOG:
            if operation.name in WRITES and operation.toolset:
                result = await call.client.call_tool(operation.name, {})
                assert (result.is_error, result.meta["bmad/code"]) == (True, "forbidden"), operation.name
                assert "this server is read-only" in result.content[0].text
        prompt = (await call.client.get_prompt("next-story")).messages[0].content.text
        assert prompt.index("You may only read here.") < prompt.index("1. Call agent_activate")
        # What the start itself makes is there all the same: the project and its definitions.
        assert (await call("agent_list"))["items"]
        assert (await call("health"))["database"]["read_only"] is True


async def test_the_workspace_of_a_read_only_server_has_no_connection_that_may_write(server_env, monkeypatch):
    for name, value in server_env.items():
        monkeypatch.setenv(name, value)
    async with open_workspace(Settings(project=fresh_key("reading")), read_only=True) as workspace:
        opened = await workspace.project()
        assert await opened.pool.fetchval("SHOW default_transaction_read_only") == "on"
        # A face that was not told, as if the first two bounds had failed.
        async with Client(McpFace(workspace, lambda _: Caller(), toolsets=TOOLSETS).server) as client:
            result = await client.call_tool("task_create", {"title": "x"})
            assert (result.is_error, result.meta["bmad/code"]) == (True, "forbidden")
            assert "may not write to its database" in result.content[0].text


def test_the_operators_own_commands_are_no_calls(server_env):
    """The environment of a read-only server is often that of its operator too."""
    env, project = server_env | {"BMAD_READ_ONLY": "true"}, fresh_key("operator")
    succeeds(env, "import", str(FOLDER), "--project", project)
    assert succeeds(env, "token", "create", "alice", "--scope", "read", "--project", project).startswith("bmad_")
