"""Buckets of calls: what they hold, who shares them, and what a refusal costs."""

import asyncio
import math
from dataclasses import replace
from uuid import uuid4

import pytest
from harness import TestWorkspace

from bmad_mcp.db import open_pool
from bmad_mcp.errors import RateLimited
from bmad_mcp.identity.rates import Rates
from bmad_mcp.telemetry.events import Observer, observed_by

CLOCK = "SELECT clock_timestamp()"


class Statements(Observer):
    """Counts what the database was asked."""

    count = 0

    def statement_ended(self, seconds: float) -> None:
        self.count += 1


async def took(rates: Rates, **who: object) -> int | None:
    """None when there was a call left, else the seconds to wait."""
    try:
        await rates.take(**who)
    except RateLimited as limited:
        return limited.retry_after
    return None


def refilled(limit: int, before, after) -> int:
    """How many calls at most came back between two times of the database."""
    return math.floor((after - before).total_seconds() * limit / 60)


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_two_servers_together_admit_what_one_bucket_holds(workspace, database, limit):
    other_pool = await open_pool(**database.app)
    try:
        other = TestWorkspace(replace(workspace.opened, pool=other_pool))
        servers = [Rates(one, principal=limit, project=0) for one in (workspace, other)]
        who, asked = uuid4().hex, limit + 50
        before = await workspace.opened.pool.fetchval(CLOCK)
        told = await asyncio.gather(*(took(servers[number % 2], principal=who) for number in range(asked)))
        after = await workspace.opened.pool.fetchval(CLOCK)
    finally:
        await other_pool.close()
    admitted, waits = told.count(None), [seconds for seconds in told if seconds is not None]
    assert limit <= admitted <= limit + refilled(limit, before, after)
    assert waits
    assert all(1 <= seconds <= math.ceil(60 / limit) for seconds in waits)


@pytest.mark.parametrize("limit", [1, 3, 100, 6000])
async def test_a_bucket_holds_a_minutes_calls_and_gives_each_back_when_its_time_is_over(limit):
    now = 1000.0
    rates = Rates(None, principal=limit, project=0, shared=False, clock=lambda: now)
    for _ in range(limit):
        assert await took(rates, principal="ann") is None
    wait = await took(rates, principal="ann")
    assert wait == max(1, math.ceil(60 / limit))
    assert await took(rates, principal="bob") is None
    now += 60 / limit + 1e-4
    assert await took(rates, principal="ann") is None
    assert await took(rates, principal="ann") is not None
    now += 3600
    assert [await took(rates, principal="ann") for _ in range(limit + 1)].count(None) == limit


async def test_who_goes_on_calling_costs_the_database_nothing(workspace):
    rates, who = Rates(workspace, principal=1, project=0), uuid4().hex
    assert await took(rates, principal=who) is None
    seen = Statements()
    with observed_by(seen):
        told = [await took(rates, principal=who) for _ in range(200)]
    assert None not in told
    # What it was told at the first call is all it needs to know.
    assert seen.count == 0


async def test_a_refusal_by_another_server_is_learnt_once(workspace):
    one, two = (Rates(workspace, principal=1, project=0) for _ in range(2))
    who, seen = uuid4().hex, Statements()
    assert await took(one, principal=who) is None
    with observed_by(seen):
        assert [await took(two, principal=who) for _ in range(200)].count(None) == 0
    assert seen.count == 1


async def test_counting_both_is_one_statement(workspace):
    rates, seen = Rates(workspace, principal=10, project=10), Statements()
    with observed_by(seen):
        assert await took(rates, principal=uuid4().hex, project=workspace.opened.id) is None
    assert seen.count == 1


async def test_who_has_no_call_left_takes_none_from_the_project(workspace):
    rates, project = Rates(workspace, principal=2, project=6), workspace.opened.id
    told = [await took(rates, principal="loud", project=project) for _ in range(20)]
    # A fresh server remembers nothing, so this is what the database has.
    fresh = Rates(workspace, principal=0, project=6)
    left = [await took(fresh, project=project) for _ in range(20)]
    assert (told.count(None), left.count(None)) == (2, 4)


async def test_a_project_is_bounded_whoever_calls_and_says_so(workspace):
    rates, project = Rates(workspace, principal=100, project=3), workspace.opened.id
    told = [await took(rates, principal=f"p{number}", project=project) for number in range(9)]
    assert told.count(None) == 3
    with pytest.raises(RateLimited, match=r"^This project may be called 3 times a minute.*call again in \d+ seconds"):
        await rates.take(principal="p0", project=project)
    assert await took(rates, principal="p0", project=uuid4()) is None


async def test_nothing_is_counted_where_the_limits_are_off(workspace):
    rates, seen = Rates(workspace, principal=0, project=0), Statements()
    with observed_by(seen):
        assert [await took(rates, principal="ann", project=workspace.opened.id) for _ in range(100)] == [None] * 100
    assert seen.count == 0


async def test_a_database_that_takes_no_writes_leaves_each_process_its_own_count(workspace, database, caplog):
    reading = await open_pool(read_only=True, **database.app)
    try:
        rates = Rates(TestWorkspace(replace(workspace.opened, pool=reading)), principal=5, project=0)
        told = [await took(rates, principal="ann") for _ in range(20)]
    finally:
        await reading.close()
    assert told.count(None) == 5
    assert caplog.text.count("counted in this process only") == 1


async def test_the_table_tells_no_name(workspace, database):
    who = f"name-{uuid4().hex}"
    await Rates(workspace, principal=5, project=5).take(principal=who, project=workspace.opened.id)
    rows = await workspace.opened.pool.fetch("SELECT b::text AS text FROM mcp_rate_buckets b")
    told = "\n".join(row["text"] for row in rows)
    assert who not in told
    assert str(workspace.opened.id) not in told
