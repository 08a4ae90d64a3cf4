"""The feed of changes: what it hears, in which order transactions commit, and that it goes on after a lost connection."""

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest
from harness import TestWorkspace, new_project, run_sql
from stored_rows import change

from bmad_mcp import announcing
from bmad_mcp.activity.trail import NOUNS, Changes, Trail
from bmad_mcp.call import Caller, open_call
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import Transaction, open_pool
from bmad_mcp.errors import Unavailable
from bmad_mcp.operation import perform
from bmad_mcp.server.addresses import SHOWN, address_of
from bmad_mcp.server.changes import ChangeFeed
from bmad_mcp.server.resources import RESOURCES

SECONDS = 20
NEVER = 3600.0
ROW = """
INSERT INTO bmad_agent_activity (project_id, operation, subject, principal, call_id)
VALUES (bmad_project(), 'test', $1, 'test', 'test')
"""
# The same, and nobody is told: what is written is found by looking only.
UNTOLD = ROW.replace("INSERT INTO", "INSERT  INTO")


class Follower:
    """Hears of a project's changes."""

    def __init__(self, workspace):
        self.heard: list[Changes] = []
        self.connections: list[asyncpg.Connection] = []
        self._more = asyncio.Event()
        self._workspace = workspace

    async def hear(self, changes):
        self.heard.append(changes)
        self._more.set()

    async def connect(self):
        connection = await self._workspace.open_listener()
        self.connections.append(connection)
        return connection

    def of(self, noun):
        return {key for changes in self.heard for key in changes.keys.get(noun, ())}

    async def until(self, met):
        async with asyncio.timeout(SECONDS):
            while not met():
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def following(workspace, look_seconds=NEVER):
    follower = Follower(workspace)
    follower.feed = ChangeFeed(follower.connect, look_seconds=look_seconds)
    async with follower.feed.following(workspace.opened.id, follower.hear):
        yield follower


async def test_a_change_is_heard_with_all_that_shows_it(workspace, run):
    epic = (await run("epic_create", title="Tides")).epic.key
    story = (await run("story_create", epic=epic, title="Heights of a day")).story.key
    await run("story_update", story=story, expected_version=1, status="ready")
    first = (await run("task_create", title="Read the gauge", story=story, agent="dev")).task.key
    second = (await run("task_create", title="Draw the curve", agent="qa", depends_on=[first])).task.key
    other = (await run("task_create", title="Something else")).task.key
    async with following(workspace) as follower:
        held = await run("task_claim", agent="dev", task=first)
        await follower.until(lambda: first in follower.of("task"))
        await run("task_complete", task=first, lease=held.lease)
        await follower.until(lambda: len(follower.heard) > 1)
    assert {first, second} <= follower.of("task")
    assert other not in follower.of("task")
    assert follower.of("story") == {story}
    assert follower.of("epic") == {epic}
    assert {"dev", "qa"} <= follower.of("agent")
    touched = {uri for uri in ADDRESSES if any(address_of(uri).shows(changes) for changes in follower.heard)}
    assert touched >= {f"bmad://tasks/{second}", f"bmad://stories/{story}", "bmad://project", "bmad://project/board"}
    assert not touched & {f"bmad://tasks/{other}", "bmad://workflows/W-1"}


ADDRESSES = (
    *("bmad://project", "bmad://project/board", "bmad://stories/1.1", "bmad://tasks/T-1", "bmad://tasks/t-2"),
    *("bmad://tasks/T-2", "bmad://tasks/T-3", "bmad://workflows/W-1"),
)


def test_every_resource_says_what_it_shows():
    for operation, template in RESOURCES:
        assert set(template.variable_names) <= set(NOUNS), (
            f"{operation.name} shows a thing that the trail does not name"
        )
        assert bool(template.variable_names) != (operation.name in SHOWN), f"say in SHOWN what {operation.name} shows"
    assert {noun for nouns in SHOWN.values() for noun in nouns} <= set(NOUNS)
    assert address_of("bmad://tasks/t-41").key == "T-41"
    assert address_of("bmad://agents/dev/context").nouns == ["agent"]
    assert address_of("bmad://tasks/nonsense") is None
    assert address_of("bmad://nowhere") is None


async def test_rows_that_commit_late_and_out_of_order_are_not_missed(workspace, run):
    opened = workspace.opened
    before, late = Transaction(opened.pool, opened.id), Transaction(opened.pool, opened.id)
    await before.execute(ROW, "task T-901")
    async with following(workspace) as follower:
        await late.execute("SAVEPOINT part")
        await late.execute(ROW, "task T-902")
        await late.execute("RELEASE SAVEPOINT part")
        for _ in range(3):
            seen = len(follower.heard)
            await run("task_create", title="In between")
            await follower.until(lambda: len(follower.heard) > seen)  # noqa: B023
        assert not {"T-901", "T-902"} & follower.of("task")
        await late.end("COMMIT")
        await follower.until(lambda: "T-902" in follower.of("task"))
        await before.end("COMMIT")
        await follower.until(lambda: "T-901" in follower.of("task"))
    told = [key for changes in follower.heard for key in changes.keys.get("task", ())]
    assert len(told) == len(set(told)), "a change is told once"


async def test_a_clock_that_goes_back_hides_nothing_for_long(workspace, run):
    trail = Trail(workspace.opened.id)
    connection = await workspace.open_listener()
    try:
        await trail.begin(connection)
        # As if the looks so far had been an hour later than the database's clock is now.
        hour = timedelta(hours=1)
        trail._place += hour
        trail._marks = deque((following, asked + hour) for following, asked in trail._marks)
        await run("task_create", title="After the step")
        assert await trail.read(connection) is None
        assert (await trail.read(connection)).keys["task"] == {"T-1"}
    finally:
        await connection.close()


async def test_many_changes_are_told_in_few_words_and_the_last_is_among_them(workspace, run):
    async with following(workspace) as follower:
        keys = [(await run("task_create", title=f"Task {number}")).task.key for number in range(100)]
        await follower.until(lambda: set(keys) <= follower.of("task"))
    assert len(follower.heard) <= 20


async def test_it_goes_on_where_it_was_after_a_lost_connection(workspace, run, database):
    async with following(workspace) as follower:
        await run("task_create", title="Before")
        await follower.until(lambda: follower.heard)
        pid = follower.connections[0].get_server_pid()
        # Nobody is told of this one, and nobody listens when it comes.
        await run_sql(database.admin, f"SELECT pg_terminate_backend({pid})")
        await change(workspace.opened, UNTOLD, "task T-903")
        await follower.until(lambda: "T-903" in follower.of("task"))
        await run("task_create", title="After")
        await follower.until(lambda: "T-2" in follower.of("task"))
    assert len(follower.connections) == 2


async def test_what_nobody_told_of_is_found_by_looking(workspace):
    async with following(workspace, look_seconds=0.2) as follower:
        await change(workspace.opened, UNTOLD, "epic 7")
        await follower.until(lambda: "7" in follower.of("epic"))


async def test_there_is_a_connection_only_while_somebody_follows(workspace, run):
    follower = Follower(workspace)
    feed = ChangeFeed(follower.connect)
    assert follower.connections == []
    async with feed.following(workspace.opened.id, follower.hear), feed.following(workspace.opened.id, follower.hear):
        assert len(follower.connections) == 1
    async with asyncio.timeout(SECONDS):
        while not follower.connections[0].is_closed():
            await asyncio.sleep(0)
    await run("task_create", title="Unheard")
    assert follower.heard == []
    async with feed.following(workspace.opened.id, follower.hear):
        await run("task_create", title="Heard")
        await follower.until(lambda: "T-2" in follower.of("task"))
    assert "T-1" not in follower.of("task")


async def test_who_leaves_in_the_moment_of_a_change_leaves_no_connection_behind(workspace, database):
    """A cancellation that comes just as the feed wakes may not be lost: the feed would read on for nobody."""
    follower = Follower(workspace)
    feed = ChangeFeed(follower.connect, look_seconds=NEVER)
    notifying = await asyncpg.connect(**database.admin)
    try:
        for moment in range(24):
            async with feed.following(workspace.opened.id, follower.hear):
                # Past what the feed waits after each look.
                await asyncio.sleep(0.12)
                if moment < 8:
                    feed._woken.set()
                    for _ in range(moment):
                        await asyncio.sleep(0)
                else:
                    await notifying.execute("SELECT pg_notify($1, $2)", announcing.CHANNEL, str(workspace.opened.id))
    finally:
        await notifying.close()
    async with asyncio.timeout(SECONDS):
        while not all(one.is_closed() for one in follower.connections):
            await asyncio.sleep(0.01)


async def test_nobody_hears_of_another_project(workspace, run, pool):
    theirs = TestWorkspace(await new_project(pool), workspace.connect)
    async with following(theirs, look_seconds=0.1) as follower:
        await run("task_create", title="Secret")
        await perform(BY_NAME["epic_create"], {"title": "Theirs"}, Caller(), theirs)
        await follower.until(lambda: follower.of("epic"))
    assert follower.of("task") == set()


async def test_a_database_that_is_away_is_told_to_who_begins(workspace):
    async def refuse():
        raise ConnectionRefusedError("nobody answers")

    feed = ChangeFeed(refuse)
    with pytest.raises(Unavailable, match="Subscribe again"):
        async with feed.following(workspace.opened.id, lambda _: None):
            raise AssertionError("it cannot begin")


async def test_a_process_that_ends_tells_what_it_did_last(workspace, database, monkeypatch):
    # So seldom that only the end can tell of the second one.
    monkeypatch.setattr(announcing, "INTERVAL_SECONDS", NEVER)
    pool = await open_pool(**database.app)
    mine = TestWorkspace(workspace.opened.__class__(workspace.opened.id, workspace.opened.key, pool))
    async with following(workspace) as follower:
        for title in ("First", "Second"):
            async with open_call(mine, Caller(), "task_create") as call:
                await BY_NAME["task_create"].run(call, title)
            if title == "First":
                await follower.until(lambda: "T-1" in follower.of("task"))
        assert "T-2" not in follower.of("task")
        await pool.close()
        await follower.until(lambda: "T-2" in follower.of("task"))
