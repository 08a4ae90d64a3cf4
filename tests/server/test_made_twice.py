"""The guard against making a thing twice: a call asked again without an `idempotency_key`."""

import asyncio
import re
from contextlib import suppress
from dataclasses import replace

import asyncpg
import httpx
import pytest
from docs_blocks import ROOT
from encryption_keys import encrypted_project
from harness import TestWorkspace, new_project
from http_process import HttpServer
from processes import Refused, assistant, fresh_key

from bmad_mcp.call import Caller, OpenProject, open_call
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import open_pool
from bmad_mcp.errors import Conflict
from bmad_mcp.operation import perform
from bmad_mcp.telemetry.events import CallRecord, Observer, observed_by

AT_ONCE = 20
NAMED = re.compile(r"You made task (T-\d+) \d+ s ago under the same title, and this call has no `idempotency_key`")
TASKS = "SELECT count(*) FROM bmad_tasks WHERE project_id = $1"
# What the database's clock says of a thing is moved, as nobody waits for a window to pass.
LONG_AGO = "UPDATE mcp_idempotency SET created_at = created_at - interval '61 s' WHERE project_id = $1"


class Counted(Observer):
    """Remembers how many round trips the last call took."""

    statements = 0

    def call_ended(self, call: CallRecord) -> None:
        self.statements = call.statements


def guarded(opened: OpenProject, seconds: int | None = 60) -> TestWorkspace:
    """The project as a server with the setting has it."""
    return TestWorkspace(replace(opened, similar_seconds=seconds))


async def ask(workspace, name, /, caller=None, **arguments):
    return await perform(BY_NAME[name], arguments, caller or Caller(), workspace)


async def refused(workspace, name, /, **arguments) -> str:
    with pytest.raises(Conflict) as caught:
        await ask(workspace, name, **arguments)
    assert (type(caught.value), caught.value.field) == (Conflict, "title")
    return caught.value.message


async def activated(workspace, agent: str, connection: str) -> Caller:
    caller = Caller(connection=connection)
    await ask(workspace, "agent_activate", caller, agent=agent)
    return caller


async def test_of_twenty_at_once_over_mcp_one_is_made_and_the_others_name_it(server_env):
    project = fresh_key()
    async with assistant(server_env | {"BMAD_SIMILAR_SECONDS": "60"}, project) as call:

        async def made() -> str:
            try:
                return (await call("task_create", title="Write the parser"))["task"]["key"]
            except Refused as error:
                return NAMED.match(str(error))[1] + " refused"

        told = await asyncio.gather(*(made() for _ in range(AT_ONCE)))
        assert sorted(told) == ["T-1", *["T-1 refused"] * (AT_ONCE - 1)]
        assert [task["key"] for task in (await call("task_list"))["items"]] == ["T-1"]


async def test_of_twenty_at_once_over_the_rest_of_two_servers_one_is_made(server_env):
    env = server_env | {"BMAD_SIMILAR_SECONDS": "60"}
    project = fresh_key()
    servers = [HttpServer(env, "--project", project, "--port", "0") for _ in range(2)]
    try:
        addresses = [await asyncio.to_thread(server.ready) for server in servers]
        async with httpx.AsyncClient(timeout=30) as client:

            async def post(number: int) -> httpx.Response:
                address = f"{addresses[number % 2]}/api/v1/bmad/tasks/create"
                return await client.post(address, json={"title": f"Write{' ' * (number % 3 + 1)}the PARSER"})

            answers = await asyncio.gather(*map(post, range(AT_ONCE)))
            assert sorted(answer.status_code for answer in answers) == [201, *[409] * (AT_ONCE - 1)]
            for answer in answers:
                if answer.status_code == 409:
                    assert answer.json()["code"] == "conflict"
                    assert NAMED.match(answer.json()["detail"])[1] == "T-1"
            listed = (await client.get(f"{addresses[0]}/api/v1/bmad/tasks")).json()
            assert [task["key"] for task in listed["items"]] == ["T-1"]
    finally:
        for server in servers:
            server.kill()


@pytest.mark.parametrize("kind", ["alone", "together"])
async def test_of_twenty_at_once_one_is_made_however_the_statements_go(workspace, database, kind):
    """Through the MCP and REST of one server as many run at once as it has connections; here as many as are asked."""
    more = {}
    if kind == "together":
        await ask(workspace, "epic_create", title="Parsing")
        await ask(workspace, "story_create", epic="1", title="A parser")
        more = {"story": "1.1"}
    pools = [await open_pool(begins_in=workspace.opened.id, **database.app) for _ in range(4)]
    homes = [guarded(replace(workspace.opened, pool=pool, begins_in=workspace.opened.id)) for pool in pools]
    try:
        told = await asyncio.gather(
            *(ask(homes[n % 4], "task_create", title="Write it", **more) for n in range(AT_ONCE)),
            return_exceptions=True,
        )
    finally:
        for pool in pools:
            await pool.close()
    messages = [str(one) for one in told if isinstance(one, Conflict)]
    assert len(messages) == AT_ONCE - 1
    assert {NAMED.match(message)[1] for message in messages} == {"T-1"}
    async with workspace.opened.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('app.project', $1, true)", str(workspace.opened.id))
        assert await connection.fetchval(TASKS, workspace.opened.id) == 1


async def test_each_kind_of_thing_is_guarded_for_itself(workspace):
    home = guarded(workspace.opened)
    for name, arguments, key in (
        ("epic_create", {}, "epic 1"),
        ("story_create", {"epic": "1"}, "story 1.1"),
        ("task_create", {"story": "1.1"}, "task T-1"),
        ("workflow_start", {"type": "brownfield-ui"}, "workflow W-1"),
    ):
        await ask(home, name, title="The same words", **arguments)
        assert f"You made {key} " in await refused(home, name, title=" the SAME\u00a0words ", **arguments)
    assert "You made epic 1 " in await refused(home, "epic_create", title="The same words", goal="In other words.")


async def test_what_is_not_the_same_is_made(workspace, pool):
    home = guarded(workspace.opened)
    await ask(home, "epic_create", title="Parsing")
    for title in ("First", "Second"):
        await ask(home, "story_create", epic="1", title=title)
    dev, qa = await activated(home, "dev", "one"), await activated(home, "qa", "two")
    made = [
        await ask(home, "task_create", **arguments)
        for arguments in (
            {"title": "Write it"},
            {"title": "Write it!"},
            {"title": "Write it", "agent": "dev"},
            {"title": "Write it", "agent": "qa"},
            {"title": "Write it", "story": "1.1"},
            {"title": "Write it", "story": "1.2"},
            {"title": "Write it", "caller": dev},
            {"title": "Write it", "caller": qa},
            {"title": "Write it", "caller": Caller("alice", "three")},
        )
    ]
    assert [one.task.key for one in made] == [f"T-{number}" for number in range(1, 10)]
    assert "You made task T-7 " in await refused(home, "task_create", title="Write it", caller=dev)
    other = guarded(await new_project(pool))
    assert (await ask(other, "task_create", title="Write it")).task.key == "T-1"


async def test_when_the_window_has_passed_another_is_made(workspace, database):
    home = guarded(workspace.opened)
    await ask(home, "task_create", title="Write it")
    await refused(home, "task_create", title="Write it")
    admin = await asyncpg.connect(**database.admin)
    await admin.execute(LONG_AGO, workspace.opened.id)
    await admin.close()
    assert (await ask(home, "task_create", title="Write it")).task.key == "T-2"
    assert "You made task T-2 " in await refused(home, "task_create", title="Write it")


async def test_a_window_passes_by_the_clock_of_the_database(workspace):
    home = guarded(workspace.opened, seconds=1)
    await ask(home, "task_create", title="Write it")
    await refused(home, "task_create", title="Write it")
    await asyncio.sleep(1.05)
    assert (await ask(home, "task_create", title="Write it")).task.key == "T-2"


async def test_what_was_not_made_stands_in_nobody_s_way(workspace):
    home = guarded(workspace.opened)
    for name, arguments in (("task_create", {}), ("workflow_start", {"type": "brownfield-ui"})):
        with suppress(ConnectionAbortedError):
            async with open_call(home, Caller(), name) as call:
                await BY_NAME[name].run(call, title="Write it", **arguments)
                raise ConnectionAbortedError
    assert (await ask(home, "task_create", title="Write it")).task.key == "T-1"
    assert (await ask(home, "workflow_start", type="brownfield-ui", title="Write it")).workflow.key == "W-1"


async def test_a_call_with_a_key_is_done_as_before_and_stands_in_the_way_of_one_without(workspace):
    home = guarded(workspace.opened)
    first = await ask(home, "task_create", title="Write it", idempotency_key="a")
    assert await ask(home, "task_create", title="Write it", idempotency_key="a") == first
    assert "You made task T-1 " in await refused(home, "task_create", title="Write it")
    assert (await ask(home, "task_create", title="Write it", idempotency_key="b")).task.key == "T-2"
    assert "You made task T-2 " in await refused(home, "task_create", title="Write it")


async def test_off_it_makes_what_is_asked_and_costs_nothing(workspace, database):
    counted = Counted()
    pool = await open_pool(begins_in=workspace.opened.id, **database.app)
    home = replace(workspace.opened, pool=pool, begins_in=workspace.opened.id)
    try:
        with observed_by(counted):
            for number, (seconds, round_trips) in enumerate([(None, 1), (None, 1), (60, 1)], 1):
                task = (await ask(guarded(home, seconds), "task_create", title="Write it")).task
                assert (task.key, counted.statements) == (f"T-{number}", round_trips)
            await refused(guarded(home), "task_create", title="Write it")
            assert counted.statements == 2, "what was made is looked up"
            await ask(guarded(home), "epic_create", title="E")
            together = counted.statements
            await ask(guarded(home, None), "epic_create", title="E")
            assert counted.statements == together
    finally:
        await pool.close()


async def test_the_refusal_is_the_one_that_the_page_shows(workspace):
    home = guarded(workspace.opened)
    await ask(home, "task_create", title="Write it")
    shown = " ".join(
        (ROOT / "docs/how-to/connect-a-host.md").read_text().partition("```text")[2].partition("```")[0].split()
    )
    told = await refused(home, "task_create", title="Write it")
    assert re.sub(r"\d+ s ago", "3 s ago", told) == shown.replace("T-41", "T-1")


async def test_an_encrypted_project_is_guarded_too(pool):
    sealed = await encrypted_project(pool)
    home = TestWorkspace(replace(sealed.opened, similar_seconds=60))
    await ask(home, "task_create", title="Write it")
    assert "You made task T-1 " in await refused(home, "task_create", title="write it")
