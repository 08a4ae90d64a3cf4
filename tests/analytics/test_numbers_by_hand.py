"""Every number on a data set small enough to compute by hand; the arithmetic stands beside the rows.

Now is 2 March 2026, 12:00 UTC, and the window has seven days: it begins on 24 February 00:00 UTC (B) and crosses the
end of a month. Moments are told in hours after B; now is B + 156 h. Percentiles lie linearly between the two nearest
values: of n sorted values, the place of p is p * (n - 1).
"""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from histories import change, complete, handoff, look_up, story, task, workflow_run

from bmad_mcp.analytics.agent_numbers import agent_numbers_of
from bmad_mcp.analytics.overview import overview_of
from bmad_mcp.analytics.run_numbers import run_numbers_of
from bmad_mcp.analytics.window import Window

B = datetime(2026, 2, 24, tzinfo=UTC)
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
WEEK = Window(7, NOW)
NOTHING_STORED = UUID(int=0)
HOUR = 3600.0


def at(hours: float) -> datetime:
    return B + timedelta(hours=hours)


async def overview(call, window=WEEK):
    return await overview_of(call, window, NOTHING_STORED)


@pytest.fixture
async def tasks(call):
    """
    task  status       by   created  started  completed  cycle  lead  quality
    T-1   completed    dev     -24      -10          0      10    24       90   completed as the window begins: inside
    T-2   completed    dev       0        2          6       4     6       70
    T-3   completed    qa       10       30         50      20    40        -
    T-4   completed    -         1        -          3       -     2        -   closed by an import: never claimed
    T-5   completed    dev     -30       -6         -1       5    29       60   before the window
    T-6   cancelled    dev     -50                                              cancelled at 5
    T-7   cancelled    dev     -50                                              cancelled at -5: before the window
    T-8   in_progress  dev     100      126                                     30 h old
    T-9   review       qa      100      138                                     18 h old
    T-10  active       dev     100      155                                      1 h old
    T-11  blocked      dev     -90                                              never begun: has no age
    T-12  pending      dev     -90                                              ready
    T-13  pending      dev     -90                                              waits for one: not ready
    """
    await task(call, "completed", at(-24), at(-10), at(0), agent="dev", holder="dev", quality=90)
    await task(call, "completed", at(0), at(2), at(6), agent="dev", holder="dev", quality=70)
    await task(call, "completed", at(10), at(30), at(50), agent="qa", holder="qa")
    await task(call, "completed", at(1), None, at(3))
    await task(call, "completed", at(-30), at(-6), at(-1), agent="dev", holder="dev", quality=60)
    await task(call, "cancelled", at(-50), agent="dev", updated=at(5))
    await task(call, "cancelled", at(-50), agent="dev", updated=at(-5))
    await task(call, "in_progress", at(100), at(126), agent="dev", holder="dev")
    await task(call, "review", at(100), at(138), agent="qa", holder="qa")
    await task(call, "active", at(100), at(155), agent="dev", holder="dev")
    await task(call, "blocked", at(-90), agent="dev")
    await task(call, "pending", at(-90), agent="dev")
    await task(call, "pending", at(-90), agent="dev", waits=1)


async def test_counts_and_completion(call, tasks):
    flow = (await overview(call)).tasks
    # Made in the window: T-2, T-3, T-4, T-8, T-9, T-10. Closed: four completed, one cancelled.
    assert (flow.created_count, flow.completed_count, flow.cancelled_count) == (6, 4, 1)
    assert flow.completion_share == 0.8  # 4 / (4 + 1)
    assert flow.completed_per_day_mean == 0.57  # 4 / 7


async def test_cycle_and_lead_times(call, tasks):
    flow = (await overview(call)).tasks
    # Cycle: 4, 10, 20. p50 = 10; p85 at 1.7: 10 + 0.7 * 10 = 17; p95 at 1.9: 10 + 0.9 * 10 = 19.
    assert flow.cycle.model_dump() == {
        "count": 3,
        "p50_seconds": 10 * HOUR,
        "p85_seconds": 17 * HOUR,
        "p95_seconds": 19 * HOUR,
    }
    # Lead: 2, 6, 24, 40. p50 at 1.5: 15; p85 at 2.55: 24 + 0.55 * 16 = 32.8; p95 at 2.85: 24 + 0.85 * 16 = 37.6.
    assert flow.lead.model_dump() == {
        "count": 4,
        "p50_seconds": 15 * HOUR,
        "p85_seconds": pytest.approx(32.8 * HOUR),
        "p95_seconds": pytest.approx(37.6 * HOUR),
    }


async def test_work_in_progress_and_ageing(call, tasks):
    flow = (await overview(call)).tasks
    assert flow.work_in_progress.model_dump() == {
        "active_count": 1,
        "in_progress_count": 1,
        "review_count": 1,
        "blocked_count": 1,
        "ready_count": 1,
    }
    # The limit is the p85 of the cycle times, 17 h: T-8 and T-9 are older.
    assert (flow.ageing.limit_seconds, flow.ageing.over_limit_count) == (17 * HOUR, 2)
    assert [one.model_dump() for one in flow.ageing.oldest] == [
        {"task": "T-8", "status": "in_progress", "agent": "dev", "age_seconds": 30 * HOUR},
        {"task": "T-9", "status": "review", "agent": "qa", "age_seconds": 18 * HOUR},
        {"task": "T-10", "status": "active", "agent": "dev", "age_seconds": 1 * HOUR},
    ]


async def test_throughput_and_quality_by_day(call, tasks):
    trends = (await overview(call)).trends
    # 24 February: T-1, T-2 and T-4; 26 February (B + 48 to 72): T-3.
    assert (trends.bucket, trends.first_day) == ("day", date(2026, 2, 24))
    assert trends.completed_counts == [3, 0, 1, 0, 0, 0, 0]
    assert trends.quality_mean_points == [80, None, None, None, None, None, None]  # (90 + 70) / 2
    assert (trends.earlier_completed_count, trends.earlier_cycle_p50_seconds) == (1, 5 * HOUR)
    quality = trends.quality
    assert (quality.mean_points, quality.rated_count) == (80.0, 2)
    assert (quality.earlier_mean_points, quality.change_points) == (60.0, 20.0)  # 80 - 60


async def test_agents_that_completed_most_come_first(call, tasks):
    top = (await overview(call)).agents.top
    assert [(one.agent, one.completed_count, one.quality_mean_points) for one in top] == [
        ("dev", 2, 80.0),
        ("qa", 1, None),
    ]


async def test_one_agents_tasks(call, tasks):
    told = await agent_numbers_of(call, "dev", WEEK, NOTHING_STORED)
    # dev: T-1 (10 h) and T-2 (4 h) completed, T-6 cancelled; T-8 and T-10 held, the blocked T-11 by nobody.
    assert (told.tasks.completed_count, told.tasks.cancelled_count) == (2, 1)
    assert told.tasks.completion_share == 0.667  # 2 / 3
    # p50 at 0.5: 7; p85 at 0.85: 4 + 0.85 * 6 = 9.1; p95: 4 + 0.95 * 6 = 9.7.
    assert told.tasks.cycle.model_dump() == {
        "count": 2,
        "p50_seconds": 7 * HOUR,
        "p85_seconds": pytest.approx(9.1 * HOUR),
        "p95_seconds": pytest.approx(9.7 * HOUR),
    }
    assert (told.tasks.under_way_count, told.tasks.oldest_under_way_seconds) == (2, 30 * HOUR)
    assert (told.quality.mean_points, told.quality.earlier_mean_points) == (80.0, 60.0)


async def test_stories(call):
    """
    story  status       created  claims of its tasks    done  cycle  lead
    1.1    done             -10                     20    30     10    40
    2.1    done               0            4 (and 9)      24     20    24
    3.1    done               5       (has no task)       15      -    10
    4.1    done             -90                    -50    -1                 before the window
    5.1    in_progress
    6.1    review
    7.1    ready
    """
    for status, created, claims, done in (
        ("done", -10, (20,), 30),
        ("done", 0, (9, 4), 24),
        ("done", 5, (), 15),
        ("done", -90, (-50,), -1),
        ("in_progress", 0, (), None),
        ("review", 0, (), None),
        ("ready", 0, (), None),
    ):
        key = await story(call, status, at(created), None if done is None else at(done))
        for claim in claims:
            await task(call, "completed", at(created), at(claim), at(claim + 1), story=key)
    told = (await overview(call)).stories
    assert (told.done_count, told.under_way_count) == (3, 2)
    # Cycle 10, 20: p50 15; p85 10 + 0.85 * 10 = 18.5; p95 19.5. Lead 10, 24, 40: p50 24; p85 at 1.7: 24 + 0.7 * 16.
    assert told.cycle.model_dump() == {
        "count": 2,
        "p50_seconds": 15 * HOUR,
        "p85_seconds": 18.5 * HOUR,
        "p95_seconds": 19.5 * HOUR,
    }
    assert (told.lead.count, told.lead.p50_seconds) == (3, 24 * HOUR)
    assert told.lead.p85_seconds == pytest.approx(35.2 * HOUR)
    assert told.lead.p95_seconds == pytest.approx(38.4 * HOUR)  # at 1.9: 24 + 0.9 * 16


async def test_handoffs(call):
    """
    from  to   offered  accepted  wait  task
    dev   qa        10        12     2  a: qa completed it
    dev   qa        20        26     6  b: in review; qa gave it back to dev at 30
    qa    dev       30         -     -  b
    qa    dev       40        44     4  c: completed by another than who took it
    sm    dev       -9        -8     1  before the window
    sm    dev     -100         -     -  open since before the window
    """
    a = await task(call, "completed", at(0), at(12), at(15), holder="qa")
    b = await task(call, "review", at(0), at(12), holder="qa")
    c = await task(call, "completed", at(0), at(45), at(46), holder="sm")
    await handoff(call, "dev", "qa", at(10), at(12), a)
    await handoff(call, "dev", "qa", at(20), at(26), b)
    await handoff(call, "qa", "dev", at(30), None, b)
    await handoff(call, "qa", "dev", at(40), at(44), c)
    await handoff(call, "sm", "dev", at(-9), at(-8))
    await handoff(call, "sm", "dev", at(-100))
    # Ratings stand in the trail of the acceptance: qa gave 80, dev 60; one before the window, one said nothing.
    for hours, taker, rated in (
        (12, "qa", {"quality": 80}),
        (26, "qa", {}),
        (44, "dev", {"quality": 60}),
        (-8, "dev", {"quality": 5}),
    ):
        await change(call, at(hours), "handoff_accept", taker, **rated)
    told = (await overview(call)).handoffs
    assert (told.offered_count, told.accepted_count, told.accepted_share) == (4, 3, 0.75)
    # Waits 2, 4, 6: p50 4; p85 at 1.7: 4 + 0.7 * 2 = 5.4; p95 at 1.9: 5.8.
    assert (told.wait.count, told.wait.p50_seconds) == (3, 4 * HOUR)
    assert told.wait.p85_seconds == pytest.approx(5.4 * HOUR)
    assert told.wait.p95_seconds == pytest.approx(5.8 * HOUR)
    # Of three accepted with a task: one completed by its taker, one given back.
    assert (told.task_completed_share, told.returned_share) == (0.333, 0.333)
    assert (told.rated_count, told.quality_mean_points) == (2, 70.0)  # (80 + 60) / 2
    assert (told.open_count, told.oldest_open_seconds) == (2, 256 * HOUR)  # now is 156 after B: 156 + 100
    dev = await agent_numbers_of(call, "dev", WEEK, NOTHING_STORED)
    assert (dev.handoffs.offered_count, dev.handoffs.accepted_share, dev.handoffs_given_count) == (2, 0.5, 2)
    assert (dev.handoffs.rated_count, dev.handoffs.quality_mean_points) == (1, 60.0)


async def test_runs_stages_and_bottlenecks(call):
    """
    run  type  status     started  completed          its stages (hours)
    W-1  a     completed        0         20          1: 0-4 done    2: 4-20 done
    W-2  a     completed      -30         10          1: -30 to -10  2: -10 to 10 done, 10 of its 20 h inside
    W-3  a     cancelled        5          - (at 9)   1: 5-9 skipped
    W-4  a     active         100          -          1: 100-130     2: active since 130, 26 h
    W-5  b     paused          90          -          1: active since 90, its run paused: counts no time
    W-6  b     completed      -90         -1          before the window
    """
    one, two = ("analyst", "project-brief.md"), ("pm", "prd.md")
    await workflow_run(
        call,
        "a",
        "completed",
        at(0),
        at(20),
        stages=((1, *one, "done", at(0), at(4)), (2, *two, "done", at(4), at(20))),
    )
    await workflow_run(
        call, "a", "completed", at(-30), at(10),
        stages=((1, *one, "done", at(-30), at(-10)), (2, *two, "done", at(-10), at(10))),
    )  # fmt: skip
    await workflow_run(call, "a", "cancelled", at(5), updated=at(9), stages=((1, *one, "skipped", at(5), at(9)),))
    await workflow_run(
        call, "a", "active", at(100),
        stages=((1, *one, "done", at(100), at(130)), (2, *two, "active", at(130), None)),
    )  # fmt: skip
    await workflow_run(call, "b", "paused", at(90), stages=((1, *one, "active", at(90), None),))
    await workflow_run(call, "b", "completed", at(-90), at(-1))
    told = await run_numbers_of(call, WEEK)
    a, b = told.types
    assert (a.type, a.started_count, a.completed_count, a.cancelled_count) == ("a", 3, 2, 1)
    assert (a.completion_share, a.running_count, a.paused_count) == (0.667, 1, 0)
    # Durations 20 and 40: p50 30; p85 20 + 0.85 * 20 = 37; p95 39.
    assert a.duration.model_dump() == {
        "count": 2,
        "p50_seconds": 30 * HOUR,
        "p85_seconds": 37 * HOUR,
        "p95_seconds": 39 * HOUR,
    }
    assert (b.type, b.started_count, b.completed_count, b.completion_share) == ("b", 1, 0, None)
    assert (b.running_count, b.paused_count, b.duration.p50_seconds) == (0, 1, None)
    # Inside the window, stage 2: 16 + 10 + 26 = 52 h; stage 1: 4 + 4 + 30 = 38 h; together 90 h.
    second, first = told.stages
    assert (second.type, second.position, second.step, second.agent) == ("a", 2, "prd.md", "pm")
    assert (second.time_share, first.time_share) == (0.578, 0.422)  # 52 / 90, 38 / 90
    # Stage 2 lasted 16 and 20 h where it closed; it waits once, for 26 h. Stage 1 closed inside with 4 and 30 h.
    assert (second.closed.count, second.closed.p50_seconds) == (2, 18 * HOUR)
    assert (second.waiting_count, second.oldest_waiting_seconds, second.skipped_count) == (1, 26 * HOUR, 0)
    assert (first.closed.count, first.closed.p50_seconds, first.skipped_count) == (2, 17 * HOUR, 1)
    assert [(one.position, one.time_share) for one in told.bottlenecks] == [(2, 0.578), (1, 0.422)]
    flow = (await overview(call)).workflows
    assert (flow.started_count, flow.completed_count, flow.running_count, flow.paused_count) == (4, 2, 1, 1)
    assert [one.position for one in flow.bottlenecks] == [2, 1]


async def test_memory(call):
    """
    look-up  by   at    memories
    1        dev   3           2   hit
    2        dev   5           4   hit, while T-1 was held (2 to 6)
    3        qa   33           0   miss, while T-2 was held (30 to 50)
    4        dev  40           0   unavailable
    5        dev  41           0   a service failed; the row after it tells what was found here
    6        dev  41           1   hit
    7        dev  -1           1   before the window
    """
    await look_up(call, at(3), 2)
    await look_up(call, at(5), 4)
    await look_up(call, at(33), 0, agent="qa")
    await look_up(call, at(40), 0, provider="unavailable", outcome="unavailable")
    await look_up(call, at(41), 0, provider="openmemory", outcome="ServiceDown")
    await look_up(call, at(41), 1)
    await look_up(call, at(-1), 1)
    await complete(call, at(2), at(6), "dev", 90)
    await complete(call, at(30), at(50), "qa", 60)
    await complete(call, at(6.5), at(7), "dev", 70)  # dev held it after its look-ups
    await complete(call, None, at(7), None)  # never claimed: says nothing about memory
    await change(call, at(8), "memory_store")
    told = (await overview(call)).memory
    # Look-ups: 1, 2, 3, 4 and 6; hits: 1, 2 and 6, with 2 + 4 + 1 = 7 memories.
    assert (told.lookups_count, told.hit_share, told.failed_tries_count) == (5, 0.6, 1)
    assert told.memories_per_hit_mean == 2.3  # 7 / 3
    assert told.providers == {"builtin": 4, "openmemory": 1, "unavailable": 1}
    assert told.stored_count == 1
    assert told.tasks_after_hit_share == 0.333  # one of three
    assert (told.quality_after_hit_mean_points, told.quality_without_hit_mean_points) == (90.0, 65.0)  # (60 + 70) / 2
    dev = (await agent_numbers_of(call, "dev", WEEK, NOTHING_STORED)).memory
    assert (dev.lookups_count, dev.hit_share, dev.tasks_after_hit_share) == (4, 0.75, 0.5)


async def test_adoption_activity_tools_and_gates(call):
    """
    at    operation       by     principal  call
    -0.1  task_claim      dev    ann        before the window
    0     agent_activate  dev    ann        1
    1     story_update    dev    ann        2, with two rows
    30    gate_record     qa     bob        3, PASS
    31    gate_record     qa     bob        4, FAIL
    32    gate_record     qa     bob        5, WAIVED
    50    task_update     gone   bob        6, by an agent that the project does not have
    51    epic_create     -      bob        7
    """
    await change(call, at(-0.1), "task_claim", "dev", "ann")
    await change(call, at(0), "agent_activate", "dev", "ann")
    await change(call, at(1), "story_update", "dev", "ann", "two")
    await change(call, at(1), "story_update", "dev", "ann", "two")
    for hour, word in ((30, "PASS"), (31, "FAIL"), (32, "WAIVED")):
        await change(call, at(hour), "gate_record", "qa", "bob", gate=word)
    await change(call, at(50), "task_update", "gone", "bob")
    await change(call, at(51), "epic_create", None, "bob")
    told = await overview(call)
    known = await call.db.fetchval("SELECT count(*) FROM bmad_agents WHERE project_id = bmad_project()")
    assert (told.agents.known_count, told.agents.active_count) == (known, 2)
    assert told.agents.active_share == round(2 / known, 3)
    assert (told.agents.principals_count, told.agents.activations_count) == (2, 1)
    assert (told.agents.active_days_count, told.agents.tools_used_count, told.agents.changes_count) == (3, 5, 8)
    assert told.trends.changes_counts == [3, 3, 2, 0, 0, 0, 0]
    assert told.trends.quality.gates == {"FAIL": 1, "PASS": 1, "WAIVED": 1}
    assert told.trends.quality.gate_pass_share == 0.667  # PASS and WAIVED of three
    dev = await agent_numbers_of(call, "dev", WEEK, NOTHING_STORED)
    assert [(one.tool, one.changes_count) for one in dev.tools] == [("story_update", 2), ("agent_activate", 1)]
    assert dev.activity.changes_counts == [3, 0, 0, 0, 0, 0, 0]
