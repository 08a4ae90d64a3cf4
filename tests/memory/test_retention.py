"""How long memories stay: the border of an age, limits that are no limits, batches, and other projects untouched."""

from datetime import UTC, datetime, timedelta

import pytest
from memory.keeping_project import CALLER, kept_project, one_service

from bench import faults
from bmad_mcp.errors import Invalid, Unavailable
from bmad_mcp.memory.retention import apply_retention, change_retention, over_age, read_retention

NOW = datetime(2026, 3, 30, 12, 0, tzinfo=UTC)
TASKS = "TASK_COMPLETION"


@pytest.fixture
async def kept(pool):
    async with one_service("openmemory") as server, kept_project(pool, server) as found:
        yield found


async def limit(kept, **days):
    return await change_retention(kept.opened, CALLER, limits=days)


async def test_what_is_exactly_as_old_as_its_limit_stays(kept):
    for name, age in (
        ("younger", timedelta(days=30) - timedelta(microseconds=1)),
        ("exactly", timedelta(days=30)),
        ("older", timedelta(days=30) + timedelta(microseconds=1)),
    ):
        await kept.delivered(name, category=TASKS, created_at=NOW - age)
    await limit(kept, TASK_COMPLETION=30)
    (row,) = [one for one in await over_age(kept.opened, CALLER, {TASKS: 30}, now=NOW) if one.category == TASKS]
    assert (row.memories, row.over_age, row.oldest) == (3, 1, NOW - timedelta(days=30, microseconds=1))
    erased = await apply_retention(kept.opened, CALLER, now=NOW)
    assert (erased.here, erased.there) == ({TASKS: 1}, 1)
    assert (await kept.here(), kept.there()) == (["younger", "exactly"], ["younger", "exactly"])
    assert {one["operation"] for one in await kept.trail()} == {"memory_retention"}


async def test_each_category_has_its_own_limit_and_the_others_stay_for_ever(kept):
    for category in (TASKS, "AGENT_SESSIONS", "AGENT_CONTEXT"):
        await kept.add(f"{category} of 20 days", category=category, created_at=NOW - timedelta(days=20))
        await kept.add(f"{category} of 2,000 days", category=category, created_at=NOW - timedelta(days=2_000))
    await limit(kept, TASK_COMPLETION=10, AGENT_SESSIONS=100)
    await apply_retention(kept.opened, CALLER, now=NOW)
    assert await kept.here() == [
        "AGENT_SESSIONS of 20 days",
        "AGENT_CONTEXT of 20 days",
        "AGENT_CONTEXT of 2,000 days",
    ]


async def test_limits_are_changed_one_by_one_and_leave_the_other_settings_alone(kept):
    await kept.sql('UPDATE bmad_projects SET settings = \'{"files": {"a": 1}}\' WHERE id = bmad_project()')
    assert await limit(kept, TASK_COMPLETION=10) == {TASKS: 10}
    assert await limit(kept, AGENT_SESSIONS=20) == {TASKS: 10, "AGENT_SESSIONS": 20}
    assert await change_retention(kept.opened, CALLER, limits={}, cleared=frozenset({TASKS})) == {"AGENT_SESSIONS": 20}
    (row,) = await kept.sql("SELECT settings FROM bmad_projects WHERE id = bmad_project()")
    assert row["settings"] == {"files": {"a": 1}, "memory_retention": {"AGENT_SESSIONS": 20}}
    assert [one["detail"]["days"] for one in await kept.trail()] == [{TASKS: 10}, {"AGENT_SESSIONS": 20}, {TASKS: 0}]
    await limit(kept, AGENT_SESSIONS=20)
    assert len(await kept.trail()) == 3


@pytest.mark.parametrize("wrong", [{TASKS: 0}, {TASKS: -1}, {TASKS: 36_501}, {"NOTHING": 5}])
async def test_a_limit_that_is_none_is_refused(kept, wrong):
    with pytest.raises(Invalid):
        await change_retention(kept.opened, CALLER, limits=wrong)
    assert await read_retention(kept.opened, CALLER) == {}


@pytest.mark.parametrize("broken", ['"x"', "[1]", '{"TASK_COMPLETION": "1"}', '{"TASK_COMPLETION": 0.5}', "null"])
async def test_settings_that_somebody_broke_erase_nothing(kept, broken):
    await kept.add("Old", category=TASKS, created_at=NOW - timedelta(days=5_000))
    await kept.sql(
        "UPDATE bmad_projects SET settings = jsonb_build_object('memory_retention', $1::text::jsonb)"
        " WHERE id = bmad_project()",
        broken,
    )
    assert (await apply_retention(kept.opened, CALLER, now=NOW)).count == 0
    assert await kept.here() == ["Old"]


async def test_many_go_in_batches_with_progress_and_another_project_keeps_its_own(pool, kept):
    old = NOW - timedelta(days=40)
    async with kept_project(pool, kept.server) as other:
        await limit(other, TASK_COMPLETION=30)
        await other.delivered("Old one of another project", category=TASKS, created_at=old)
        await limit(kept, TASK_COMPLETION=30)
        for at in range(410):
            await kept.add(f"Old {at}", category=TASKS, created_at=old)
        told = []
        erased = await apply_retention(kept.opened, CALLER, now=NOW, progress=told.append)
        assert erased.count == 410
        assert [one for one in told if "done" in one] == [
            f"{done} of 410 memories are done" for done in (200, 400, 410)
        ]
        counts = [one["detail"]["count"] for one in await kept.trail() if "count" in one["detail"]]
        assert counts == [200, 200, 10]
        assert await other.here() == ["Old one of another project"]
        assert other.there() == ["Old one of another project"]


async def test_with_the_service_away_nothing_is_erased_and_the_next_time_all_is(kept):
    await limit(kept, TASK_COMPLETION=30)
    await kept.delivered("Old", category=TASKS, created_at=NOW - timedelta(days=31))
    kept.server.fault = faults.close_before_answer
    with pytest.raises(Unavailable):
        await apply_retention(kept.opened, CALLER, now=NOW)
    assert await kept.here() == ["Old"]
    kept.server.fault = None
    assert (await apply_retention(kept.opened, CALLER, now=NOW)).there == 1


async def test_without_anything_over_age_the_service_is_not_asked(kept):
    await limit(kept, TASK_COMPLETION=30)
    await kept.delivered("New", category=TASKS, created_at=NOW)
    assert (await apply_retention(kept.opened, CALLER, now=NOW)).count == 0
    assert kept.server.asked == []
