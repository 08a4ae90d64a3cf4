"""The SQL of the numbers against a naive computation over random histories, and rolling up against counting anew."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from histories import change, complete, look_up, task
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmad_mcp.analytics import rollup_queries, use_queries
from bmad_mcp.analytics.overview import overview_of
from bmad_mcp.analytics.rollup import NOTHING_STORED, id_after, roll_settled
from bmad_mcp.analytics.use import Sums
from bmad_mcp.analytics.window import Window

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
RANDOM = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
# Many of them exactly at the border of a day.
MINUTES = st.one_of(st.integers(0, 40 * 1440), st.integers(0, 40).map(lambda days: days * 1440 + 720))
AGENTS = st.sampled_from(["dev", "qa", "pm"])


def ago(minutes: int) -> datetime:
    return NOW - timedelta(minutes=minutes)


def percentile(values: list[float], at: float) -> float | None:
    """Linear between the two nearest values."""
    if not values:
        return None
    ordered = sorted(values)
    place = at * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def near(value: float | None, digits: int = 1) -> Any:
    return None if value is None else pytest.approx(value, abs=0.6 * 10**-digits)


@pytest.fixture
async def undone(call):
    """Takes back what one example of many has written."""

    class Undone:
        async def __aenter__(self) -> None:
            await call.db.execute("SAVEPOINT example")

        async def __aexit__(self, *_: object) -> None:
            await call.db.execute("ROLLBACK TO SAVEPOINT example")

    return Undone()


COMPLETED = st.tuples(
    MINUTES, st.integers(0, 5000), st.integers(0, 5000), AGENTS, st.none() | st.integers(0, 100), st.booleans()
)
OPEN = st.tuples(MINUTES, st.sampled_from(["active", "in_progress", "review", "blocked"]), st.booleans())


@RANDOM
@given(
    days=st.integers(1, 40),
    completed=st.lists(COMPLETED, max_size=25),
    cancelled=st.lists(MINUTES, max_size=5),
    waiting=st.lists(OPEN, max_size=8),
)
async def test_the_flow_of_tasks(call, undone, days, completed, cancelled, waiting):
    window = Window(days, NOW)
    begins = datetime(2026, 3, 3, tzinfo=UTC) - timedelta(days=days)
    earlier = begins - timedelta(days=days)
    cycle, lead, points, cycle_before = [], [], [], []
    inside, created = 0, 0
    async with undone:
        for minutes, worked, waited, agent, quality, claimed in completed:
            end = ago(minutes)
            start, made = end - timedelta(minutes=worked), end - timedelta(minutes=worked + waited)
            await task(call, "completed", made, start if claimed else None, end, holder=agent, quality=quality)
            created += made >= begins
            if end >= begins:
                inside += 1
                lead.append((worked + waited) * 60.0)
                points += [] if quality is None else [quality]
                cycle += [worked * 60.0] if claimed else []
            elif end >= earlier:
                cycle_before += [worked * 60.0] if claimed else []
        for minutes in cancelled:
            await task(call, "cancelled", ago(minutes), updated=ago(minutes))
            created += ago(minutes) >= begins
        ages = []
        for minutes, status, begun in waiting:
            await task(call, status, ago(minutes), ago(minutes) if begun else None)
            created += ago(minutes) >= begins
            ages += [minutes * 60.0] if begun else []
        told = await overview_of(call, window, NOTHING_STORED)
    flow, closed = told.tasks, sum(ago(minutes) >= begins for minutes in cancelled)
    assert (flow.completed_count, flow.cancelled_count, flow.created_count) == (inside, closed, created)
    assert flow.completion_share == near(inside / (inside + closed) if inside + closed else None, 3)
    for durations, values in ((flow.cycle, cycle), (flow.lead, lead)):
        assert durations.count == len(values)
        assert durations.p50_seconds == near(percentile(values, 0.5), 0)
        assert durations.p85_seconds == near(percentile(values, 0.85), 0)
        assert durations.p95_seconds == near(percentile(values, 0.95), 0)
    assert told.trends.earlier_cycle_p50_seconds == near(percentile(cycle_before, 0.5), 0)
    assert told.trends.quality.mean_points == near(sum(points) / len(points) if points else None)
    assert sum(told.trends.completed_counts) == inside
    assert [one.age_seconds for one in flow.ageing.oldest] == sorted(ages, reverse=True)[:5]
    limit = percentile(cycle, 0.85)
    assert flow.ageing.over_limit_count == (None if limit is None else sum(age > limit for age in ages))


@RANDOM
@given(days=st.integers(1, 70), moments=st.lists(MINUTES, max_size=30))
async def test_every_completed_task_is_in_the_bucket_of_its_utc_day(call, undone, days, moments):
    window = Window(days, NOW)
    async with undone:
        # The session's zone must not move a day.
        await call.db.execute("SET LOCAL timezone = 'Pacific/Kiritimati'")
        for minutes in moments:
            await task(call, "completed", ago(minutes), ago(minutes), ago(minutes))
            await change(call, ago(minutes))
        told = await overview_of(call, window, NOTHING_STORED)
    size = 1 if days <= 31 else 7
    expected = defaultdict(int)
    for minutes in moments:
        back = (date(2026, 3, 2) - ago(minutes).date()).days
        if back < days:
            expected[back // size] += 1
    buckets = [expected[place] for place in reversed(range(-(-days // size)))]
    assert told.trends.completed_counts == buckets
    assert told.trends.changes_counts == buckets
    assert told.agents.active_days_count == len(
        {ago(minutes).date() for minutes in moments if (date(2026, 3, 2) - ago(minutes).date()).days < days}
    )


LOOK_UP = st.tuples(MINUTES, AGENTS, st.integers(0, 3))


@RANDOM
@given(look_ups=st.lists(LOOK_UP, max_size=20), completed=st.lists(COMPLETED, max_size=12))
async def test_memory_and_what_it_is_worth(call, undone, look_ups, completed):
    window = Window(40, NOW)
    begins = datetime(2026, 3, 3, tzinfo=UTC) - timedelta(days=40)
    async with undone:
        for minutes, agent, items in look_ups:
            await look_up(call, ago(minutes), items, agent)
        for minutes, worked, _, agent, quality, claimed in completed:
            end = ago(minutes)
            start = end - timedelta(minutes=worked) if claimed else None
            await complete(call, start, end, agent, quality)
        told = (await overview_of(call, window, NOTHING_STORED)).memory
    inside = [one for one in look_ups if ago(one[0]) >= begins]
    hits = [one for one in inside if one[2] > 0]
    assert told.lookups_count == len(inside)
    assert told.hit_share == near(len(hits) / len(inside) if inside else None, 3)
    assert told.memories_per_hit_mean == near(sum(one[2] for one in hits) / len(hits) if hits else None)
    points: dict[bool, list[int | None]] = {True: [], False: []}
    for minutes, worked, _, agent, quality, claimed in completed:
        if claimed and ago(minutes) >= begins:
            is_after = any(
                who == agent and items > 0 and minutes <= then <= minutes + worked for then, who, items in look_ups
            )
            points[is_after].append(quality)
    counted = len(points[True]) + len(points[False])
    assert told.tasks_after_hit_share == near(len(points[True]) / counted if counted else None, 3)
    for found, values in (
        (told.quality_after_hit_mean_points, points[True]),
        (told.quality_without_hit_mean_points, points[False]),
    ):
        rated = [one for one in values if one is not None]
        assert found == near(sum(rated) / len(rated) if rated else None)


STORED = """
SELECT day, metric, agent, label, count, total FROM mcp_daily_metrics WHERE project_id = bmad_project()
ORDER BY day, metric, agent, label
"""
# Writing a row, made so many minutes before it is seen, or rolling up; each takes time. A row of the trail may tell of a
# moment many hours before; look-ups and completions tell of the moment at which they are made.
ROW = st.tuples(
    st.sampled_from(["change", "look up", "complete"]),
    st.integers(0, 900),
    st.integers(0, 59),
    AGENTS,
    st.integers(0, 2),
)
STEPS = st.lists(st.tuples(st.integers(0, 90), st.one_of(ROW, ROW, ROW, st.just("roll up"))), max_size=25)


async def stored(call):
    return [tuple(row) for row in await call.db.fetch(STORED)]


async def forget(call):
    await call.db.execute(rollup_queries.FORGET_METRICS)
    await call.db.execute(rollup_queries.FORGET_REACH)


async def sums(call, window, reached):
    """What an answer reads where the metrics reach so far."""
    rows = await call.db.fetch(use_queries.USE, window.first_day, window.day_after, id_after(reached))
    return sorted(tuple(row.values()) for row in rows)


@RANDOM
@given(steps=STEPS)
async def test_rolling_up_step_by_step_is_counting_anew(call, undone, steps):
    clock, reached = NOW - timedelta(days=3), None
    window = Window(60, NOW)
    async with undone:
        for minutes, step in steps:
            clock += timedelta(minutes=minutes)
            if step == "roll up":
                reached = await roll_settled(call.db, clock)
                continue
            kind, hours, lag, agent, number = step
            written = clock - timedelta(minutes=lag)
            if kind == "look up":
                await look_up(call, written, number, agent)
            elif kind == "complete":
                await complete(call, written - timedelta(hours=9), written, agent, [None, 50, 90][number])
            else:
                operation = ["task_update", "handoff_accept", "gate_record"][number]
                moment, detail = clock - timedelta(hours=hours), {"gate": "PASS", "quality": hours % 101}
                await change(call, moment, operation, agent, written=written, **detail)
        read = await sums(call, window, reached)
        last = await roll_settled(call.db, clock)
        by_steps = await stored(call)
        assert await sums(call, window, last) == read, "reading is the same before and after"
        assert await roll_settled(call.db, clock) == last
        assert await stored(call) == by_steps, "rolling up again changes nothing"
        await forget(call)
        assert await sums(call, window, None) == read, "what is stored and what is new is everything"
        assert await roll_settled(call.db, clock) == last
        assert await stored(call) == by_steps, "all at once is step by step"


async def test_a_row_that_tells_of_a_long_closed_day_is_found(call):
    long_ago = NOW - timedelta(days=20)
    await change(call, long_ago)
    await roll_settled(call.db, NOW)
    await change(call, long_ago, written=NOW)
    await roll_settled(call.db, NOW + timedelta(hours=2))
    [row] = [row for row in await stored(call) if row[1] == "change"]
    assert (row[0], row[4]) == (long_ago.date(), 2)


async def test_rows_whose_transaction_may_still_run_are_left_for_later(call):
    await change(call, NOW - timedelta(minutes=61))
    await change(call, NOW - timedelta(minutes=59))
    assert await roll_settled(call.db, NOW) == NOW - timedelta(hours=1)
    assert [row[4] for row in await stored(call) if row[1] == "change"] == [1]
    assert await roll_settled(call.db, NOW + timedelta(minutes=2)) == NOW - timedelta(minutes=58)
    assert [row[4] for row in await stored(call) if row[1] == "change"] == [2]


async def test_a_clock_that_goes_back_counts_nothing_twice(call):
    await change(call, NOW - timedelta(hours=2))
    reached = await roll_settled(call.db, NOW)
    assert await roll_settled(call.db, NOW - timedelta(days=1)) == reached
    assert [row[4] for row in await stored(call) if row[1] == "change"] == [1]


async def test_a_history_of_months_is_rolled_up_at_once(call):
    for days in range(0, 100, 9):
        await change(call, NOW - timedelta(days=days, hours=3))
    await roll_settled(call.db, NOW)
    assert len([row for row in await stored(call) if row[1] == "change"]) == 12


def test_sums_by_label_are_in_order():
    rows = [{"metric": "gate", "agent": one, "label": word, "count": 1, "total": 0.0, "day": None}
            for one, word in (("a", "FAIL"), ("b", "PASS"), ("c", "PASS"))]  # fmt: skip
    assert list(Sums.of(rows).counts("gate").items()) == [("PASS", 2), ("FAIL", 1)]
