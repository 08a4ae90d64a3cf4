"""The schedule: due or not, one process of all, failures kept and tried again, and jobs whose process went away."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from bmad_mcp.errors import Unavailable
from bmad_mcp.jobs.job import Job
from bmad_mcp.jobs.schedule import INTERRUPTED, LockLost, Unit, schedule_transaction

SECOND = timedelta(seconds=1)


def job(run, name, **more):
    return Job(name, "A test's.", timedelta(hours=2), run, **more)


@pytest.fixture
def seen():
    return []


@pytest.fixture
def counting(seen, request):
    async def run(opened, _):
        seen.append(opened.key)
        return {"rows": len(seen)}

    return job(run, request.node.name)


async def test_a_job_runs_for_each_project_and_then_not_before_its_time(jobs, counting, seen):
    ran = await jobs.schedule(counting).run_due()
    assert {jobs.opened.key, jobs.other.key} <= set(seen)
    assert len(seen) == len(set(seen)) == len(ran)
    state = await jobs.state(counting)
    assert state.result == next(dict(one.outcome) for one in ran if one.unit.key == jobs.opened.key)
    assert abs(state.next_run - state.ended_at - timedelta(hours=2)) < SECOND
    assert (state.failures, state.error, state.is_running) == (0, None, False)
    assert await jobs.schedule(counting).run_due() == []
    await jobs.make_due(counting)
    assert len(await jobs.schedule(counting).run_due()) == len(ran)


async def test_a_job_of_the_database_runs_once_for_all_projects(jobs, request):
    times = []

    async def run(opened, _):
        times.append(opened.id.int)
        return {}

    whole = job(run, request.node.name, is_of_database=True)
    await jobs.schedule(whole).run_due()
    assert times == [0]
    assert (await jobs.state(whole)).unit.key is None


async def test_one_process_of_many_runs_a_job_and_the_others_go_on(jobs, seen, request):
    began, end = asyncio.Event(), asyncio.Event()

    async def slow(opened, _):
        seen.append(opened.key)
        began.set()
        await end.wait()
        return {}

    unit = Unit(job(slow, request.node.name), jobs.opened.id, jobs.opened.key)
    first = asyncio.create_task(jobs.schedule(unit.job).run_now(unit))
    await began.wait()
    assert (await jobs.state(unit.job)).is_running
    assert await asyncio.gather(*(jobs.schedule(unit.job).run_now(unit) for _ in range(4))) == [None] * 4
    end.set()
    assert (await first).error is None
    assert seen == [jobs.opened.key]
    assert not (await jobs.state(unit.job)).is_running


async def test_what_many_find_due_at_once_runs_once(jobs, counting, seen):
    await asyncio.gather(*(jobs.schedule(counting).run_due() for _ in range(6)))
    assert len(seen) == len(set(seen)) > 1


async def test_a_failure_is_kept_and_tried_again_later_and_later(jobs, request):
    failing = {jobs.opened.key}

    async def run(opened, _):
        if opened.key in failing:
            raise Unavailable("The service is away. Start it.")
        return {"rows": 1}

    sometimes = job(run, request.node.name)
    waits = []
    for _ in range(3):
        await jobs.make_due(sometimes)
        await jobs.schedule(sometimes).run_due()
        state = await jobs.state(sometimes)
        waits.append(round((state.next_run - state.ended_at).total_seconds()))
    assert waits == [60, 120, 240]
    assert (state.failures, state.error) == (3, "The service is away. Start it.")
    # The other project is not held up by it.
    assert (await jobs.state(sometimes, jobs.other)).failures == 0
    assert await jobs.schedule(sometimes).run_due() == []
    failing.clear()
    await jobs.make_due(sometimes)
    await jobs.schedule(sometimes).run_due()
    state = await jobs.state(sometimes)
    assert (state.failures, state.error, state.result) == (0, None, {"rows": 1})


async def test_a_failure_in_the_database_is_told_without_values_of_rows(jobs, request):
    async def run(opened, context):
        async with schedule_transaction(context.pool) as connection:
            for _ in range(2):
                await connection.execute("INSERT INTO mcp_jobs (project_id, name) VALUES ($1, 'a secret')", opened.id)
        return {}

    unit = Unit(job(run, request.node.name), jobs.opened.id, jobs.opened.key)
    ran = await jobs.schedule(unit.job).run_now(unit)
    assert ran.error.startswith("UniqueViolationError: duplicate key")
    assert "a secret" not in ran.error


async def test_a_job_that_hangs_is_broken_off(jobs, request):
    async def run(*_):
        await asyncio.Event().wait()

    unit = Unit(job(run, request.node.name), jobs.opened.id, jobs.opened.key)
    ran = await jobs.schedule(unit.job, longest_seconds=0.1).run_now(unit)
    assert "took longer than" in ran.error
    assert (await jobs.state(unit.job)).failures == 1


async def test_a_job_whose_process_ends_in_good_order_is_due_at_once_and_has_not_failed(jobs, seen, request):
    began = asyncio.Event()

    async def run(opened, _):
        seen.append(opened.key)
        began.set()
        if len(seen) == 1:
            await asyncio.Event().wait()
        return {}

    unit = Unit(job(run, request.node.name), jobs.opened.id, jobs.opened.key)
    task = asyncio.create_task(jobs.schedule(unit.job).run_due())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await jobs.state(unit.job)).failures == 0
    await jobs.schedule(unit.job).run_due()
    assert len(seen) > len(set(seen))
    assert (await jobs.state(unit.job)).failures == 0


async def claim_and_die(jobs, unit):
    """What a process leaves that was killed: a run that is marked as begun, and no lock."""
    async with schedule_transaction(jobs.context.pool) as connection:
        await connection.execute(
            "INSERT INTO mcp_jobs (project_id, name, started_at) VALUES ($1, $2, now())"
            " ON CONFLICT (project_id, name) DO UPDATE SET started_at = now(), next_run = now()",
            unit.project_id,
            unit.job.name,
        )


async def test_a_killed_process_s_job_is_taken_over_at_once_and_later_when_it_kills_again(jobs, counting, seen):
    unit = Unit(counting, jobs.opened.id, jobs.opened.key)
    await claim_and_die(jobs, unit)
    await jobs.schedule(counting).run_due()
    assert jobs.opened.key in seen
    assert (await jobs.state(counting)).failures == 0

    async def kill(*_):
        raise LockLost("as if the process had ended")

    deadly = Unit(job(kill, counting.name), unit.project_id, unit.key)
    for _ in range(3):
        await jobs.make_due(counting)
        with pytest.raises(LockLost):
            await jobs.schedule(deadly.job).run_now(deadly)
    state = await jobs.state(counting)
    assert (state.failures, state.error) == (2, INTERRUPTED)
    assert state.next_run > datetime.now(UTC) + timedelta(seconds=100)


# The loss is noticed by the connection itself or by the next beat, whichever comes first.
@pytest.mark.parametrize("heartbeat", [30.0, 0.0])
async def test_a_job_whose_lock_is_lost_is_broken_off(jobs, seen, request, heartbeat):
    began = asyncio.Event()

    async def run(*_):
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("broken off")

    unit = Unit(job(run, request.node.name), jobs.opened.id, jobs.opened.key)
    task = asyncio.create_task(jobs.schedule(unit.job, heartbeat_seconds=heartbeat).run_now(unit))
    await began.wait()
    admin = await asyncpg.connect(**jobs.database.admin | {"database": jobs.database.app["database"]})
    await admin.execute("SELECT pg_terminate_backend($1)", jobs.connections[-1].get_server_pid())
    await admin.close()
    with pytest.raises(LockLost):
        await asyncio.wait_for(task, 10)
    assert seen == ["broken off"]
    state = await jobs.state(unit.job)
    assert not state.is_running
    # Another process may run it by now, so nothing is said of this run.
    assert (state.failures, state.ended_at) == (0, None)


async def test_the_app_sees_other_projects_in_the_schedule_s_transactions_only(jobs):
    async with jobs.context.pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM bmad_projects") == 0
        assert await connection.fetchval("SELECT count(*) FROM mcp_jobs") == 0
    async with schedule_transaction(jobs.context.pool) as connection:
        assert await connection.fetchval("SELECT count(*) FROM bmad_projects") >= 2
        assert await connection.fetchval("SELECT count(*) FROM bmad_agents") == 0
        assert await connection.execute("UPDATE bmad_projects SET name = 'x'") == "UPDATE 0"
        assert await connection.execute("DELETE FROM bmad_projects") == "DELETE 0"
