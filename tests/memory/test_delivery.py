"""Deliveries to the memory service: in order, once, tried again, given up, and never lost with their worker."""

import asyncio
import contextlib
import uuid
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest
from harness import TestWorkspace, new_project
from pgqueuer.ports.repository import EntrypointExecutionParameter
from stored_rows import fetch

from bench import faults
from bench.fake_server import Reply
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import Transaction
from bmad_mcp.memory import keeping_queries, outbox, service_queries
from bmad_mcp.memory.builtin import BuiltinMemory
from bmad_mcp.memory.delivery import MOST_TRIES, Deliveries, Later
from bmad_mcp.memory.delivery_worker import DeliveryWorker, queries_on
from bmad_mcp.memory.provider import NewMemory
from bmad_mcp.memory.services.choosing import MemoryServices
from bmad_mcp.operation import perform

QUEUE = "SELECT status, entrypoint, convert_from(payload, 'utf8') AS payload FROM mcp_pgqueuer ORDER BY id"
MEMORIES = "SELECT * FROM mcp_memories WHERE project_id = bmad_project() ORDER BY id"
NOTES = """
SELECT direction, provider, outcome, latency_ms, detail FROM bmad_memory_integrations
WHERE provider <> 'builtin' ORDER BY created_at, id
"""


@pytest.fixture(autouse=True)
async def empty_queue(pool):
    await pool.execute("DELETE FROM mcp_pgqueuer")


@pytest.fixture
def deliveries(beside_service, services):
    return Deliveries(beside_service.opened.pool, services, settle_seconds=0.0)


async def states(workspace):
    return [(one["text"], one["delivery"], one["attempts"]) for one in await fetch(workspace.opened, MEMORIES)]


def stored(service):
    return [row["content"].rpartition(" [bmad:")[0] for row in service.rows]


async def until(check, seconds=15.0):
    end = asyncio.get_running_loop().time() + seconds
    while not (found := await check() if asyncio.iscoroutinefunction(check) else check()):
        assert asyncio.get_running_loop().time() < end, "it did not come"
        await asyncio.sleep(0.02)
    return found


@contextlib.asynccontextmanager
async def working(database, deliveries, **more):
    worker = DeliveryWorker(lambda: asyncpg.connect(**database.app), deliveries, **more)
    task = asyncio.create_task(worker.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_the_job_is_in_the_callers_transaction_and_holds_no_text(beside_service, services, do):
    stored = await do("memory_store", text="Deploys need two approvals", agent="dev")
    assert stored.memory.delivery == "queued"
    (job,) = await fetch(beside_service.opened, QUEUE)
    assert job["payload"] == f"{beside_service.opened.id}/dev"
    db = Transaction(beside_service.opened.pool, beside_service.opened.id)
    await outbox.enqueue(db, ["qa"])
    await db.end("ROLLBACK")
    assert len(await fetch(beside_service.opened, QUEUE)) == 1


async def test_a_job_that_waits_takes_the_next_memories_along(do, beside_service):
    for text, agent in (("One", "dev"), ("Two", "dev"), ("Three", "qa"), ("Four", "dev")):
        await do("memory_store", text=text, agent=agent)
    jobs = [job["payload"].rpartition("/")[2] for job in await fetch(beside_service.opened, QUEUE)]
    assert jobs == ["dev", "qa"]


async def test_a_job_begins_after_what_it_takes_along_is_there(do, beside_service, database):
    opened = beside_service.opened
    await do("memory_store", text="One", agent="dev")
    connection = await asyncpg.connect(**database.app)
    limit = {outbox.ENTRYPOINT: EntrypointExecutionParameter(concurrency_limit=2)}

    async def taken():
        return await queries_on(connection).dequeue(1, limit, uuid.uuid4(), None, timedelta(seconds=30))

    db = Transaction(opened.pool, opened.id)
    await BuiltinMemory(db, is_queued=True).remember([NewMemory("Two", "TASK_COMPLETION", "agent", "local", "dev")])
    assert await taken() == []
    await db.end("COMMIT")
    (job,) = await taken()
    assert outbox.queue_of(job.payload) == (opened.id, "dev")
    # One that runs may have looked already: the next memory gets a job of its own.
    await do("memory_store", text="Three", agent="dev")
    assert [one["status"] for one in await fetch(opened, QUEUE)] == ["picked", "queued"]
    await connection.close()


async def test_our_enqueue_writes_what_pgqueuers_own_does(beside_service, database):
    connection = await asyncpg.connect(**database.app)
    payload = outbox.payload_of(beside_service.opened.id, "dev")
    await queries_on(connection).enqueue(outbox.ENTRYPOINT, payload)
    await connection.execute(service_queries.ENQUEUE, outbox.ENTRYPOINT, [payload])
    own = "priority, queue_manager_id, status, entrypoint, dedupe_key, payload, headers, attempts, slot"
    theirs, ours = await connection.fetch(
        f"SELECT {own}, execute_after <= now() AS is_due FROM mcp_pgqueuer ORDER BY id"
    )
    assert dict(ours) == dict(theirs)
    logged = await connection.fetch(
        "SELECT status, priority, entrypoint, traceback, aggregated FROM mcp_pgqueuer_log ORDER BY id DESC LIMIT 2"
    )
    assert dict(logged[0]) == dict(logged[1])
    await connection.close()


async def test_a_stored_memory_reaches_the_service_with_its_key_and_its_category(
    do, service, beside_service, deliveries, database
):
    async with working(database, deliveries):
        kept = await do("memory_store", text="Deploys need two approvals", agent="dev", category="WORKFLOW_PATTERNS")
        await until(lambda: service.rows)

        async def settled():
            return (await states(beside_service))[0][1] == "delivered" and not await fetch(beside_service.opened, QUEUE)

        await until(settled)
    (row,) = service.rows
    assert row["metadata_"]["bmad_key"] == kept.memory.id
    assert row["metadata_"]["category"] == "WORKFLOW_PATTERNS"
    (memory,) = await fetch(beside_service.opened, MEMORIES)
    assert (memory["provider"], memory["service_ref"], memory["failure"]) == ("openmemory", row["id"], None)
    assert await fetch(beside_service.opened, QUEUE) == []
    (note,) = await fetch(beside_service.opened, NOTES)
    assert (note["direction"], note["outcome"], note["detail"]["try"]) == ("store", "stored", 1)
    assert note["latency_ms"] > 0


async def test_the_memories_of_an_agent_arrive_in_their_order(do, service, beside_service, deliveries, database):
    failing = iter([True, False, True, True, False] + [False] * 100)
    answer = service.reply

    async def moody(asked):
        if asked.what == "POST /api/v1/memories/" and next(failing):
            return Reply({"error": "Error code: 500"})
        return await answer(asked)

    service.reply = moody
    for at in range(12):
        await do("memory_store", text=f"Fact {at} of dev", agent="dev")
        await do("memory_store", text=f"Fact {at} of qa", agent="qa")
    async with working(database, deliveries):
        await until(lambda: len(service.rows) == 24, 60)
    for agent in ("dev", "qa"):
        own = [text for text in stored(service) if text.endswith(agent)]
        assert own == [f"Fact {at} of {agent}" for at in range(12)]


async def test_a_try_that_landed_without_an_answer_is_found_by_its_key(do, service, beside_service, deliveries):
    await do("memory_store", text="Deploys need two approvals")
    answer = service.reply

    async def lands_and_fails(asked):
        told = await answer(asked)
        return Reply({"error": "Connection error."}) if asked.what == "POST /api/v1/memories/" else told

    service.reply = lands_and_fails
    with pytest.raises(Later):
        await deliveries.send(beside_service.opened.id, None)
    service.reply = answer
    deliveries._until.clear()
    await deliveries.send(beside_service.opened.id, None)
    assert len(service.rows) == 1
    (memory,) = await fetch(beside_service.opened, MEMORIES)
    assert (memory["delivery"], memory["service_ref"], memory["attempts"]) == ("delivered", service.rows[0]["id"], 2)
    assert [one["outcome"] for one in await fetch(beside_service.opened, NOTES)] == ["Refused", "duplicate"]


async def test_a_try_without_an_answer_is_not_repeated_before_it_may_have_landed(do, service, beside_service, services):
    await do("memory_store", text="Deploys need two approvals")
    deliveries = Deliveries(beside_service.opened.pool, services, settle_seconds=0.6)
    service.fault = faults.close_before_answer
    with pytest.raises(Later) as later:
        await deliveries.send(beside_service.opened.id, None)
    assert later.value.seconds >= 0.6
    service.fault = None
    asked = len(service.asked)
    fresh = Deliveries(beside_service.opened.pool, services, settle_seconds=0.6)
    with pytest.raises(Later):
        await fresh.send(beside_service.opened.id, None)
    assert len(service.asked) == asked
    await asyncio.sleep(0.7)
    fresh._until.clear()
    await fresh.send(beside_service.opened.id, None)
    assert len(service.rows) == 1


async def test_a_memory_that_the_service_refuses_is_dead_and_the_next_one_goes(do, service, beside_service, deliveries):
    answer = service.reply

    async def picky(asked):
        if asked.what == "POST /api/v1/memories/" and "poison" in asked.body["text"]:
            return Reply({"detail": "unprocessable"}, 422)
        return await answer(asked)

    service.reply = picky
    await do("memory_store", text="This one is poison")
    await do("memory_store", text="This one is fine")
    await deliveries.send(beside_service.opened.id, None)
    dead, fine = await fetch(beside_service.opened, MEMORIES)
    assert (dead["delivery"], dead["failure"]) == ("dead", "The memory service answered 422")
    assert fine["delivery"] == "delivered"
    found = await do("memory_context", focus="poison")
    assert "This one is poison" in [one.text for one in found.items]
    service.reply = answer
    db = Transaction(beside_service.opened.pool, beside_service.opened.id)
    assert await outbox.queue_again(db, "dead") == 1
    await db.end("COMMIT")
    await deliveries.send(beside_service.opened.id, None)
    assert sorted(stored(service)) == ["This one is fine", "This one is poison"]


async def test_what_fails_too_often_is_dead_with_the_reason(do, service, beside_service, pool):
    # A breaker that rests between tries would take minutes: each try has services of its own.
    await do("memory_store", text="Deploys need two approvals")
    service.broken["POST /api/v1/memories/"] = Reply({"error": "Error code: 500"})
    for _ in range(MOST_TRIES):
        services = MemoryServices(service.url, user="bmad", setting="openmemory")
        with contextlib.suppress(Later):
            await Deliveries(pool, services, settle_seconds=0.0).send(beside_service.opened.id, None)
        await services.aclose()
    ((_, state, attempts),) = await states(beside_service)
    assert (state, attempts) == ("dead", MOST_TRIES)
    assert (await fetch(beside_service.opened, MEMORIES))[0]["failure"] == "The memory service reported an error"


async def test_a_service_that_is_not_there_kills_nothing(do, service, beside_service, pool):
    await do("memory_store", text="Deploys need two approvals")
    for _ in range(2 * MOST_TRIES):
        services = MemoryServices("http://127.0.0.1:9", user="bmad", setting="openmemory")
        with pytest.raises(Later):
            await Deliveries(pool, services, settle_seconds=0.0).send(beside_service.opened.id, None)
        await services.aclose()
    assert await states(beside_service) == [("Deploys need two approvals", "queued", 1)]


async def test_an_open_breaker_counts_no_try(do, service, beside_service, deliveries):
    await do("memory_store", text="Deploys need two approvals")
    service.broken["POST /api/v1/memories/"] = Reply({"error": "Error code: 500"})
    for _ in range(6):
        with pytest.raises(Later):
            await deliveries.send(beside_service.opened.id, None)
        deliveries._until.clear()
    ((_, state, attempts),) = await states(beside_service)
    assert (state, attempts) == ("queued", 3)


async def test_what_is_being_forgotten_when_its_try_begins_is_not_sent(
    do, service, beside_service, deliveries, pool, monkeypatch
):
    choice = MemoryServices.choice

    async def held(services):
        # Between the look and the try, somebody begins to forget it.
        db = Transaction(pool, beside_service.opened.id)
        await db.execute(keeping_queries.HOLD, [row["id"] for row in await fetch(beside_service.opened, MEMORIES)])
        await db.end("COMMIT")
        return await choice(services)

    await do("memory_store", text="The door code is 4711", agent="dev")
    monkeypatch.setattr(MemoryServices, "choice", held)
    await deliveries.send(beside_service.opened.id, "dev")
    assert stored(service) == []
    assert await states(beside_service) == [("The door code is 4711", "stored", 0)]


async def test_a_delivery_ages_what_was_recalled_before(do, service, beside_service, deliveries):
    await do("memory_context", focus="deploys approvals")
    assert (await do("memory_context", focus="deploys approvals")).freshness == "cached"
    await do("memory_store", text="Deploys need two approvals")
    await deliveries.send(beside_service.opened.id, None)
    assert (await do("memory_context", focus="deploys approvals")).freshness == "fresh"


async def test_one_at_a_time_over_all_workers(do, service, beside_service, services, pool, database):
    now, most = 0, 0
    answer = service.reply

    async def counting(asked):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        told = await answer(asked)
        now -= 1
        return told

    service.reply = counting
    for at in range(20):
        await do("memory_store", text=f"Fact {at}", agent=["dev", "qa", "pm", "sm"][at % 4])
    others = [MemoryServices(service.url, user="bmad", setting="openmemory") for _ in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        for one in others:
            await stack.enter_async_context(working(database, Deliveries(pool, one, settle_seconds=0.0)))
        await until(lambda: len(service.rows) == 20, 60)
    assert (most, len(set(stored(service)))) == (1, 20)
    for one in others:
        await one.aclose()


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionResetError(),
        asyncpg.InterfaceError("the connection is closed"),
        # What asyncpg raises when a connection ends in the middle of another statement.
        asyncpg.InternalClientError("cannot switch to state 12"),
        asyncpg.AdminShutdownError("terminating connection"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_a_worker_goes_on_after_whatever_a_lost_connection_raises(
    do, service, beside_service, deliveries, database, monkeypatch, failure
):
    monkeypatch.setattr("bmad_mcp.memory.delivery_worker.AGAIN_SECONDS", 0.01)
    failures = [failure]

    async def connect():
        if failures:
            raise failures.pop()
        return await asyncpg.connect(**database.app)

    await do("memory_store", text="Fact 1")
    task = asyncio.create_task(DeliveryWorker(connect, deliveries).run())
    try:
        await until(lambda: len(service.rows) == 1)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_worker_that_loses_its_connection_takes_the_queue_up_again(
    do, service, beside_service, deliveries, database, monkeypatch
):
    monkeypatch.setattr("bmad_mcp.memory.delivery_worker.AGAIN_SECONDS", 0.2)
    async with working(database, deliveries):
        await do("memory_store", text="Fact 1")
        await until(lambda: len(service.rows) == 1)
        admin = await asyncpg.connect(**database.admin)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query ILIKE '%pgqueuer%' AND pid <> pg_backend_pid()"
        )
        await admin.close()
        await asyncio.sleep(0.1)

        async def kept():
            try:
                await do("memory_store", text="Fact 2")
            except Exception:
                return False
            return True

        await until(kept)
        await until(lambda: "Fact 2" in stored(service), 40)


async def test_a_job_that_is_broken_off_by_the_end_stays_in_the_queue(
    do, service, beside_service, deliveries, database
):
    service.create_seconds = 5.0
    await do("memory_store", text="Fact 1")
    async with working(database, deliveries):
        await until(lambda: "POST /api/v1/memories/" in service.whats())
    (job,) = await fetch(beside_service.opened, QUEUE)
    assert job["status"] in ("picked", "queued")
    assert await states(beside_service) == [("Fact 1", "queued", 1)]


async def test_auto_without_a_service_queues_nothing(pool):
    services = MemoryServices("http://127.0.0.1:9", user="bmad", setting="auto")
    await services.choice()
    workspace = TestWorkspace(replace(await new_project(pool), services=services))
    kept = await perform(BY_NAME["memory_store"], {"text": "Fact 1"}, Caller(), workspace)
    assert kept.memory.delivery == "stored"
    assert await fetch(workspace.opened, QUEUE) == []
    await services.aclose()
