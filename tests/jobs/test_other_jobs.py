"""What the other jobs do to real rows: metrics, remembered results, the queue, partitions, search by meaning."""

from dataclasses import replace

import asyncpg
import pytest
from harness import run_sql
from jobs.old_rows import add_activity, add_memory, count
from memory.services.fake_service import FakeOpenMemory
from stored_rows import change, fetch

from bmad_mcp.call import Caller, OneProject
from bmad_mcp.catalog import BY_NAME as BY_TOOL
from bmad_mcp.jobs import meaning
from bmad_mcp.jobs.known import BY_NAME
from bmad_mcp.memory.embedder import find_embedder
from bmad_mcp.memory.outbox import ENTRYPOINT, payload_of
from bmad_mcp.memory.services.choosing import MemoryServices
from bmad_mcp.operation import perform

ADD_JOB = """
INSERT INTO mcp_pgqueuer (priority, entrypoint, payload, status, updated)
VALUES (0, $1, $2, $3::text::mcp_pgqueuer_status, now() - make_interval(days => $4))
RETURNING id
"""
ADD_LOG = """
INSERT INTO mcp_pgqueuer_log (job_id, status, priority, entrypoint, created)
VALUES ($1, 'successful', 0, 'memory_delivery', now() - make_interval(days => $2))
"""
ADD_SESSION = """
WITH a AS (UPDATE bmad_agents SET status = 'active' WHERE project_id = bmad_project() AND name = $2 RETURNING id)
INSERT INTO bmad_agent_sessions (project_id, agent_id, caller, started_at)
SELECT bmad_project(), a.id, $1, now() - make_interval(hours => $3) FROM a
"""
SEARCHED = {"results": [{"id": "11111111-1111-4111-8111-111111111111", "memory": "x", "score": 0.9}]}


async def test_roll_up_counts_each_project_by_itself(jobs):
    await add_activity(jobs.opened, 3, 2)
    ran = await jobs.run("roll_up")
    assert set(ran.outcome) == {"until"}
    (row,) = await fetch(jobs.opened, "SELECT sum(count)::int AS n FROM mcp_daily_metrics WHERE metric = 'change'")
    assert row["n"] == 2
    assert await count(jobs.other, "mcp_rollups") == 0


async def test_a_recount_mends_what_is_wrong_and_says_how_much(jobs, caplog):
    await change(
        jobs.opened, "INSERT INTO mcp_tallies (project_id, kind, status) VALUES (bmad_project(), 'task', 'pending')"
    )
    assert (await jobs.run("recount")).outcome == {"mended": 1}
    assert "differed from its rows; mended: 1" in caplog.text
    assert (await jobs.run("recount")).outcome == {}


async def test_sessions_in_which_nothing_is_done_end_and_the_others_stay(jobs):
    opened = jobs.opened

    async def do(connection, tool, **arguments):
        return await perform(BY_TOOL[tool], arguments, Caller(connection=connection), OneProject(opened))

    async def begun(connection, agent, hours):
        await change(opened, ADD_SESSION, connection, agent, hours)

    async def left() -> list[str]:
        rows = await fetch(
            opened, "SELECT caller FROM bmad_agent_sessions WHERE project_id = bmad_project() AND ended_at IS NULL"
        )
        return sorted(row["caller"] for row in rows)

    for connection, agent, hours in (
        ("silent", "dev", 9), ("works", "dev", 9), ("holds", "qa", 9), ("young", "sm", 7), ("none", "pm", 9),
    ):  # fmt: skip
        await begun(connection, agent, hours)
    await do("works", "task_create", title="one", agent="qa")
    # Only the lease tells that somebody works as qa: heartbeats leave no row.
    await do("else", "task_claim", agent="qa")
    assert (await jobs.run("sessions")).outcome == {"ended": 2}
    assert await left() == ["holds", "works", "young"]
    status = {one.agent: one.status for one in (await do("works", "agent_list")).items}
    assert (status["dev"], status["qa"], status["sm"], status["pm"]) == ("active", "busy", "active", "idle")
    assert (await jobs.run("sessions")).outcome == {}
    rows = await fetch(
        opened,
        "SELECT subject, agent, principal, detail FROM bmad_agent_activity"
        " WHERE project_id = bmad_project() AND operation = 'agent_deactivate' ORDER BY subject",
    )
    told = {"note": "ended by the server: nothing was done in it for 8 hours"}
    assert [tuple(row.values()) for row in rows] == [
        (f"agent {agent}", None, "scheduled job", told) for agent in ("dev", "pm")
    ]
    await change(opened, "UPDATE bmad_tasks SET lease_until = now() WHERE project_id = bmad_project()")
    assert (await jobs.run("sessions")).outcome == {"ended": 1}
    assert await left() == ["works", "young"]


async def test_expired_results_and_answers_go_and_the_others_stay(jobs):
    for opened in (jobs.opened, jobs.other):
        for key, days in (("old", 31), ("young", 29)):
            await change(
                opened,
                "INSERT INTO mcp_idempotency (project_id, principal, operation, key, request_hash, created_at)"
                " VALUES (bmad_project(), 'local', 'task_create', $1, 'h', now() - make_interval(days => $2))",
                key,
                days,
            )
            await change(
                opened,
                "INSERT INTO mcp_memory_cache (project_id, provider, question_hash, items, looked_up_at, fresh_until)"
                " VALUES (bmad_project(), 'mem0', $1, '[]', now() - make_interval(days => $2), now())",
                key,
                days,
            )
    assert (await jobs.run("expired")).outcome == {"results": 1, "answers": 1}
    assert await fetch(jobs.opened, "SELECT key FROM mcp_idempotency") == [{"key": "young"}]
    assert await fetch(jobs.opened, "SELECT question_hash FROM mcp_memory_cache") == [{"question_hash": "young"}]
    assert await count(jobs.other, "mcp_idempotency") == 2


async def test_the_queue_keeps_what_is_young_and_whatever_still_has_to_be_delivered(jobs):
    pool = jobs.context.pool
    await pool.execute("DELETE FROM mcp_pgqueuer")
    await pool.execute("DELETE FROM mcp_pgqueuer_log")
    await add_memory(jobs.opened, 300, "Waits for the service", delivery="queued")
    waits, delivered = payload_of(jobs.opened.id, None), payload_of(jobs.other.id, None)
    kept = [
        await pool.fetchval(ADD_JOB, ENTRYPOINT, *more)
        for more in (
            (waits, "queued", 400),
            (waits, "picked", 400),
            (waits, "failed", 400),
            (delivered, "failed", 3),
            (delivered, "successful", 3),
        )
    ]
    for more in ((delivered, "failed", 400), (b"no queue", "failed", 400), (delivered, "successful", 400)):
        await pool.fetchval(ADD_JOB, ENTRYPOINT, *more)
    for job_id, days in ((kept[0], 400), (10**9, 400), (10**9, 3)):
        await pool.execute(ADD_LOG, job_id, days)
    assert (await jobs.run("queue_cleanup")).outcome == {"log": 1, "jobs": 3}
    assert [row["id"] for row in await pool.fetch("SELECT id FROM mcp_pgqueuer ORDER BY id")] == kept
    assert {row["job_id"] for row in await pool.fetch("SELECT job_id FROM mcp_pgqueuer_log")} == {kept[0], 10**9}
    assert await count(jobs.opened, "mcp_memories") == 1
    await change(jobs.opened, "UPDATE mcp_memories SET delivery = 'delivered'")
    assert (await jobs.run("queue_cleanup")).outcome == {"jobs": 1}


async def test_a_rate_bucket_goes_when_it_is_full_and_no_sooner(jobs):
    pool = jobs.context.pool
    await pool.execute(
        "INSERT INTO mcp_rate_buckets (id, full_at) SELECT gen_random_uuid(), now() + make_interval(secs => seconds)"
        " FROM unnest(ARRAY[-3600, -1, 3600]) AS seconds"
    )
    assert (await jobs.run("queue_cleanup")).outcome == {"buckets": 2}
    assert await pool.fetchval("SELECT count(*) FROM mcp_rate_buckets WHERE full_at > now()") == 1


async def drop_month(jobs, months):
    connection = await asyncpg.connect(**jobs.database.owner)
    month = await connection.fetchval("SELECT to_char(now() + make_interval(months => $1), 'YYYY_MM')", months)
    await connection.close()
    await run_sql(jobs.database.owner, f"DROP TABLE bmad_agent_activity_{month}")
    return month


async def test_months_to_come_are_made_with_row_level_security(jobs):
    month = await drop_month(jobs, 3)
    ran = await jobs.run("partitions")
    assert ran.outcome == {"until": month.replace("_", "-")}
    assert await jobs.context.pool.fetchval(
        "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relname = $1", f"bmad_agent_activity_{month}"
    )


async def test_only_a_month_that_is_near_is_a_failure_for_who_may_not_make_it(without_owner, jobs):
    await drop_month(jobs, 3)
    assert (await without_owner.run("partitions")).error is None
    near = await drop_month(jobs, 1)
    assert f"no partition for {near.replace('_', '-')}" in (await without_owner.run("partitions")).error
    assert (await jobs.run("partitions")).error is None


@pytest.mark.parametrize("works", [True, False])
async def test_one_probe_of_meaning_serves_every_process(jobs, works):
    async with FakeOpenMemory("bmad") as server:
        if works:
            server.meaning = SEARCHED
        first, second = (MemoryServices(server.url, user="bmad", setting="openmemory") for _ in range(2))
        second.guards("openmemory").finds_meaning = not works
        ran = await replace(jobs, context=replace(jobs.context, services=first)).run("meaning_probe")
        assert ran.outcome == {"service": "here", "meaning": works}
        await meaning.adopt_meaning(jobs.context.pool, second, "another service")
        assert second.guards("openmemory").finds_meaning is not works
        await meaning.adopt_meaning(jobs.context.pool, second, "here")
        assert second.guards("openmemory").finds_meaning is works
        await first.aclose()
        await second.aclose()


async def test_memories_are_embedded_by_a_process_that_has_the_model(jobs):
    await add_memory(jobs.opened, 1, "Hosting costs 4,100 euros")
    await add_memory(jobs.other, 1, "Something else")
    assert not await BY_NAME["embed"].can_run(jobs.context)
    able = replace(jobs, context=replace(jobs.context, embedder=find_embedder()))
    assert await BY_NAME["embed"].can_run(able.context)
    assert (await able.run("embed")).outcome == {"embedded": 1}
    assert (await able.run("embed")).outcome == {}
    assert (await count(jobs.opened, "mcp_memory_vectors"), await count(jobs.other, "mcp_memory_vectors")) == (1, 0)


async def test_a_process_without_openmemory_leaves_the_probe_to_others(jobs):
    assert not await BY_NAME["meaning_probe"].can_run(jobs.context)
    mem0 = MemoryServices("http://127.0.0.1:9", user="bmad", setting="mem0")
    assert not await BY_NAME["meaning_probe"].can_run(replace(jobs.context, services=mem0))
    await mem0.aclose()
