"""Retention: archived first and the same, then deleted; nothing is deleted when the archive fails."""

import asyncpg
import pytest
from jobs.old_rows import add_activity, add_integrations, add_memory, archived, count, old, subjects
from stored_rows import change, fetch

from bmad_mcp.analytics.rollup import roll_up
from bmad_mcp.call import Caller
from bmad_mcp.errors import Invalid
from bmad_mcp.jobs import archive, archive_queries
from bmad_mcp.jobs.archive import archive_old, forget_archived, pages, remove
from bmad_mcp.jobs.policies import change_policies, read_policies
from bmad_mcp.memory.keeping import Selection
from bmad_mcp.memory.retention import change_retention

CALLER = Caller("local", "test", "human")
LOST = "CREATE FUNCTION mcp_lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {body} END'"
ON_ARCHIVE = "CREATE TRIGGER mcp_lose BEFORE INSERT ON mcp_archive FOR EACH ROW EXECUTE FUNCTION mcp_lose()"
FAULTS = {
    "refused": "RAISE EXCEPTION ''no space left on device'' USING ERRCODE = ''53100'';",
    "lost": "RETURN NULL;",
    "changed": "NEW.content = ''{\"another\": 1}''; RETURN NEW;",
    "wrong checksum": "NEW.checksum = ''\\x00''; RETURN NEW;",
}


async def limit(opened, **days):
    await change_policies(opened, CALLER, limits=days)


async def test_old_rows_of_the_trail_move_to_the_archive_and_the_numbers_stay(jobs):
    await add_activity(jobs.opened, 400, 3)
    await add_activity(jobs.opened, 20)
    await add_activity(jobs.other, 400)
    before = await fetch(
        jobs.opened, "SELECT to_jsonb(a) AS row FROM bmad_agent_activity a WHERE at < now() - interval '90 days'"
    )
    await limit(jobs.opened, activity=90)
    ran = await jobs.run("retention")
    assert (ran.error, ran.outcome) == (None, {"activity": 3})
    assert await subjects(jobs.opened) == ["task T-20-0"]
    assert await subjects(jobs.other) == ["task T-400-0"]
    kept = await archived(jobs.opened)
    assert [row["kind"] for row in kept] == ["activity"] * 3
    assert sorted(row["content"]["id"] for row in kept) == sorted(row["row"]["id"] for row in before)
    assert all(row["content"] in [one["row"] for one in before] for row in kept)
    (sum_of,) = await fetch(
        jobs.opened,
        "SELECT sum(count)::int AS n FROM mcp_daily_metrics WHERE metric = 'change' AND label = 'task_create'",
    )
    assert sum_of["n"] == 4
    assert (await jobs.run("retention")).outcome == {}
    assert len(await archived(jobs.opened)) == 3


async def test_rows_that_no_metric_has_counted_stay_whatever_their_age(jobs):
    await roll_up(jobs.opened.pool, jobs.opened.id)
    # Told today of a day long past: the id is new.
    await change(
        jobs.opened,
        "INSERT INTO bmad_agent_activity (project_id, at, operation, subject, principal, call_id)"
        " VALUES (bmad_project(), $1, 'task_create', 'task T-9', 'local', 'c')",
        old(400, 0)[0],
    )
    await limit(jobs.opened, activity=30)
    assert (await jobs.run("retention")).outcome == {}
    assert await subjects(jobs.opened) == ["task T-9"]


async def test_the_trail_lets_go_of_nothing_that_is_not_archived_old_and_taken_by_its_owner(jobs):
    await add_activity(jobs.opened, 400)
    for connect in (jobs.database.app, jobs.database.owner):
        connection = await asyncpg.connect(**connect)
        async with connection.transaction():
            await connection.execute("SELECT set_config('app.project', $1, true)", str(jobs.opened.id))
            await connection.execute(archive_queries.LET_GO, "2999-01-01")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.execute("DELETE FROM bmad_agent_activity")
        await connection.close()
    assert await subjects(jobs.opened) == ["task T-400-0"]


async def test_a_process_without_the_owner_s_role_does_the_rest_and_says_who_can(without_owner):
    jobs = without_owner
    await add_activity(jobs.opened, 400)
    await add_integrations(jobs.opened, 400, 2)
    await limit(jobs.opened, activity=90, integrations=90)
    ran = await jobs.run("retention")
    assert "BMAD_DATABASE_URL of the owner" in ran.error
    assert await subjects(jobs.opened) == ["task T-400-0"]
    assert await count(jobs.opened, "bmad_memory_integrations") == 0
    assert {row["kind"] for row in await archived(jobs.opened)} == {"integrations"}


@pytest.mark.parametrize("fault", FAULTS)
async def test_nothing_is_deleted_when_the_archive_fails(jobs, fault):
    await add_activity(jobs.opened, 400, 2)
    await add_integrations(jobs.opened, 400, 2)
    await add_memory(jobs.opened, 400, "Old and wise")
    await change_retention(jobs.opened, CALLER, limits={"TASK_COMPLETION": 30})
    owner = await asyncpg.connect(**jobs.database.owner)
    await owner.execute(LOST.format(body=FAULTS[fault]))
    await owner.execute(ON_ARCHIVE)
    try:
        for days in ({"integrations": 90}, {"activity": 90}, {}):
            await change_policies(
                jobs.opened, CALLER, limits=days, cleared=frozenset({"integrations", "activity"} - days.keys())
            )
            ran = await jobs.run("retention")
            assert ran.error is not None
            assert await count(jobs.opened, "bmad_memory_integrations") == 2
            assert len(await subjects(jobs.opened)) == 2
            assert await count(jobs.opened, "mcp_memories") == 1
            assert await archived(jobs.opened) == []
    finally:
        await owner.execute("DROP FUNCTION mcp_lose() CASCADE")
        await owner.close()
    await limit(jobs.opened, activity=90, integrations=90)
    assert (await jobs.run("retention")).outcome == {"activity": 2, "integrations": 2, "memories": 1}


async def test_a_job_that_was_broken_off_between_batches_is_completed_by_the_next(jobs, monkeypatch):
    await add_integrations(jobs.opened, 400, 5)
    await roll_up(jobs.opened.pool, jobs.opened.id)
    compare, times = archive._compare, []

    async def broken_off(*arguments):
        times.append(1)
        if len(times) == 2:
            raise ConnectionResetError
        await compare(*arguments)

    monkeypatch.setattr(archive, "_compare", broken_off)
    moment, first = old(90, 0)
    with pytest.raises(ConnectionResetError):
        await archive_old(jobs.opened, "integrations", archive.INTEGRATIONS, moment, first, at_once=2)
    assert (await count(jobs.opened, "bmad_memory_integrations"), len(await archived(jobs.opened))) == (3, 2)
    monkeypatch.undo()
    assert await archive_old(jobs.opened, "integrations", archive.INTEGRATIONS, moment, first, at_once=2) == 3
    assert (await count(jobs.opened, "bmad_memory_integrations"), len(await archived(jobs.opened))) == (0, 5)


async def test_memories_over_age_are_archived_whole_and_forgotten_ones_leave_the_archive(jobs):
    await add_memory(jobs.opened, 400, "By alice", by="alice")
    await add_memory(jobs.opened, 300, "By bob", by="bob")
    await add_memory(jobs.opened, 3, "Young")
    (row,) = await fetch(
        jobs.opened, "SELECT to_jsonb(m) - 'search' AS row FROM mcp_memories m WHERE principal = 'alice'"
    )
    await change_retention(jobs.opened, CALLER, limits={"TASK_COMPLETION": 30})
    assert (await jobs.run("retention")).outcome == {"memories": 2}
    assert await count(jobs.opened, "mcp_memories") == 1
    kept = await archived(jobs.opened)
    assert kept[0]["content"] == row["row"]
    assert await forget_archived(jobs.opened, Selection(principal="alice"), CALLER) == 1
    assert [one["content"]["principal"] for one in await archived(jobs.opened)] == ["bob"]
    assert await forget_archived(jobs.opened, Selection(refs=(str(kept[1]["id"]).upper(),)), CALLER) == 1
    assert await archived(jobs.opened) == []


async def test_the_archive_comes_out_whole_and_a_row_that_was_changed_stops_it(jobs):
    await add_integrations(jobs.opened, 400, 3)
    await limit(jobs.opened, integrations=90)
    await jobs.run("retention")
    (page,) = [page async for page in pages(jobs.opened, CALLER)]
    assert len(page.lines) == 3
    await change(
        jobs.opened, "UPDATE mcp_archive SET content = content || '{\"items\": 7}' WHERE id = $1", page.keys[1][1]
    )
    with pytest.raises(Exception, match="checksum differs"):
        _ = [page async for page in pages(jobs.opened, CALLER)]
    assert await remove(jobs.opened, page.keys[:2], CALLER) == 2
    assert [row["id"] for row in await archived(jobs.opened)] == [page.keys[2][1]]
    await limit(jobs.opened, archive=1)
    assert (await jobs.run("retention")).outcome == {}
    await change(jobs.opened, "UPDATE mcp_archive SET archived_at = now() - interval '25 hours'")
    assert (await jobs.run("retention")).outcome == {"archive": 1}


@pytest.mark.parametrize("wrong", [{"activity": 29}, {"results": 0}, {"archive": 36_501}, {"memories": 5}])
async def test_a_limit_that_is_none_is_refused(jobs, wrong):
    with pytest.raises(Invalid, match="days or more"):
        await limit(jobs.opened, **wrong)
    assert await read_policies(jobs.opened, CALLER) == {"results": 30}


@pytest.mark.parametrize(
    "broken", ['"x"', "[1]", '{"activity": "90"}', '{"activity": 1}', '{"activity": true}', "null"]
)
async def test_settings_that_somebody_broke_delete_nothing(jobs, broken):
    await add_activity(jobs.opened, 5_000)
    await change(
        jobs.opened,
        "UPDATE bmad_projects SET settings = jsonb_build_object('retention', $1::text::jsonb) WHERE id = bmad_project()",
        broken,
    )
    assert (await jobs.run("retention")).outcome == {}
    assert len(await subjects(jobs.opened)) == 1
