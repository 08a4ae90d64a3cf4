"""What `doctor` says of memories: the service in each of its states, what waits, what was given up, and how to mend it."""

import asyncio
import json
import socket
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from commands.command import succeeds
from commands.memory_commands import command_pool, commands_on
from memory.keeping_project import kept_project, one_service
from memory.services.fake_service import FakeMem0, FakeOpenMemory

from bench import faults
from bench.fake_server import FakeServer, Reply
from bmad_mcp.commands.memory_checks import check_deliveries, check_memory
from bmad_mcp.settings import Settings


async def look(url, provider="auto", **more):
    return await check_memory(Settings(memory_url=url, memory_provider=provider, **more))


@pytest.mark.parametrize("provider", ["auto", "openmemory"])
async def test_an_openmemory_that_is_well(provider):
    async with FakeOpenMemory("bmad") as server:
        server.add("Fact")
        found = await look(server.url, provider)
    assert found.level == "ok"
    assert "OpenMemory keeps 1 memory of the user 'bmad'" in found.text
    assert (f"OpenMemory answers at {server.url}" if provider == "auto" else "BMAD_MEMORY_PROVIDER says") in found.text


@pytest.mark.parametrize("provider", ["auto", "openmemory"])
async def test_a_user_that_openmemory_does_not_know(provider):
    async with FakeOpenMemory("somebody") as server:
        found = await look(server.url, provider)
    assert (found.level, "does not know the user" in found.text) == ("warn", True)
    assert "bmad-mcp memory introduce" in found.mend


@pytest.mark.parametrize("provider", ["auto", "mem0"])
@pytest.mark.parametrize(("key", "level"), [(None, "warn"), ("wrong-secret", "warn"), ("right", "ok")])
async def test_the_api_key_of_a_mem0_server(provider, key, level):
    async with FakeMem0(api_key="right") as server:
        found = await look(server.url, provider, memory_api_key=key)
    assert found.level == level
    assert "wrong-secret" not in found.text
    assert ("BMAD_MEMORY_API_KEY" in found.mend) == (level == "warn")


async def test_a_proxy_that_wants_a_key_before_openmemory():
    async with FakeOpenMemory("bmad") as server:
        server.broken["GET /api/v1/stats/"] = Reply({"detail": "no"}, 401)
        found = await look(server.url, "openmemory")
    assert (found.level, found.mend) == ("warn", "Set BMAD_MEMORY_API_KEY.")


async def test_something_else_that_answers():
    async with FakeServer() as server:
        found = await look(server.url)
        assert (found.level, "no memory service" in found.text) == ("warn", True)
        assert "BMAD_MEMORY_URL" in found.mend
    async with FakeMem0() as server:
        found = await look(server.url, "openmemory")
        assert found.level == "warn"
        assert found.mend


async def test_an_absent_service_is_fine_and_one_that_was_asked_for_is_missed():
    absent = "http://127.0.0.1:9"
    assert (await look(absent)).level == "ok"
    for provider in ("openmemory", "mem0"):
        found = await look(absent, provider)
        assert found.level == "warn"
        assert "Start it" in found.mend
    assert (await look(absent, "builtin")).text == "built-in, by BMAD_MEMORY_PROVIDER"


@pytest.mark.parametrize("url", ["not an address", "ftp://127.0.0.1", "http://user:hunter2@127.0.0.1"])
async def test_an_address_that_cannot_be_used(url):
    found = await look(url)
    assert found.level == "warn"
    assert "BMAD_MEMORY_URL" in found.mend
    assert "hunter2" not in found.text


@pytest.mark.parametrize("provider", ["auto", "openmemory", "mem0"])
async def test_a_service_that_hangs_costs_less_than_two_and_a_half_seconds(provider):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        found = await look(f"http://127.0.0.1:{silent.getsockname()[1]}", provider)
    assert time.monotonic() - began < 2.5
    assert (found.level, "in time" in found.text) == ("warn", True)


@pytest.mark.parametrize("fault", [faults.drip, faults.gigabyte, faults.not_http], ids=lambda one: one.__name__)
async def test_a_service_that_misbehaves_costs_no_more(fault):
    async with FakeOpenMemory("bmad") as server:
        server.fault = fault
        began = time.monotonic()
        assert (await look(server.url, "openmemory")).level == "warn"
    assert time.monotonic() - began < 2.5


# --- What waits and what was given up.


@pytest.fixture
async def kept(pool):
    async with one_service("openmemory") as server, kept_project(pool, server) as found:
        yield found


async def deliveries(kept, database, **more):
    # As `doctor` does it: a plain connection without our codecs.
    connection = await asyncpg.connect(**database.app)
    try:
        async with connection.transaction(readonly=True):
            await connection.execute("SELECT set_config('app.project', $1, true)", str(kept.opened.id))
            return {one.name: one async for one in check_deliveries(connection, Settings(**more))}
    finally:
        await connection.close()


async def test_nothing_waits(kept, database):
    await kept.delivered("Fact")
    found = await deliveries(kept, database)
    assert found["Deliveries"].level == "ok"
    assert found["Memories"].text.startswith("1 kept here, 0 answers in the cache")
    assert found["Search"].text.endswith("0 of 1 memory have a vector.")
    assert set(found) == {"Deliveries", "Memories", "Search"}


async def test_what_waits_for_long_is_told_with_what_delivers_it(kept, database):
    await kept.add("New", delivery="queued")
    assert (await deliveries(kept, database))["Deliveries"].level == "ok"
    await kept.add("Old", delivery="queued", created_at=datetime.now(UTC) - timedelta(hours=3, minutes=1))
    found = (await deliveries(kept, database))["Deliveries"]
    assert (found.level, found.text) == ("warn", "2 memories in the queue for the service, the oldest for 3 hours")
    assert "bmad-mcp memory retry --now" in found.mend
    found = (await deliveries(kept, database, memory_provider="builtin"))["Deliveries"]
    assert "BMAD_MEMORY_PROVIDER" in found.mend


async def test_what_was_given_up_is_told_with_the_last_reason_first(kept, database):
    hour = timedelta(hours=1)
    for at, failure in enumerate(["answered 422", "answered 413", "answered 422"]):
        await kept.add("Text", delivery="dead", failure=failure, attempts=1, attempted_at=datetime.now(UTC) - at * hour)
    found = (await deliveries(kept, database))["Given up"]
    assert (found.level, found.text) == ("warn", "3 memories (dead): answered 422 (2); answered 413 (1)")
    assert "bmad-mcp memory retry" in found.mend


async def test_what_was_stored_while_a_server_found_no_service_is_told(kept, database):
    await kept.add("Before there was a service")
    await kept.delivered("Fact")
    assert "Kept here" not in await deliveries(kept, database)
    await kept.add("While it was away")
    found = (await deliveries(kept, database))["Kept here"]
    assert (found.level, found.text) == ("warn", "1 memory only here, though earlier ones went to the service")
    assert "bmad-mcp memory deliver" in found.mend
    assert "Kept here" not in await deliveries(kept, database, memory_provider="builtin")


async def test_failures_of_the_last_day_are_counted_by_kind(kept, database):
    note = """
        INSERT INTO bmad_memory_integrations (project_id, direction, provider, outcome, created_at)
        VALUES (bmad_project(), 'recall', $1, $2, now() - make_interval(hours => $3))
    """
    for provider, outcome, hours in (
        ("openmemory", "TimedOut", 1),
        ("openmemory", "TimedOut", 2),
        ("mem0", "Refused", 3),
        ("openmemory", "found", 1),
        ("openmemory", "Away", 25),
    ):
        await kept.sql(note, provider, outcome, hours)
    found = (await deliveries(kept, database))["Failures"]
    assert found.text == "of the memory service in the last day: TimedOut 2, Refused 1"


async def test_another_projects_queue_is_not_counted(pool, kept, database):
    async with kept_project(pool, kept.server) as other:
        await other.add("Text", delivery="dead", failure="no")
    assert "Given up" not in await deliveries(kept, database)


async def test_the_report_has_the_deliveries_of_the_project(server_env):
    await asyncio.to_thread(succeeds, server_env, "db", "upgrade")
    async with (
        one_service("openmemory") as server,
        command_pool(server_env) as pool,
        commands_on(pool, server_env, server) as kept,
    ):
        await kept.add("Text", delivery="dead", failure="The memory service answered 422")
        found = {one["name"]: one for one in json.loads(await kept.succeeds("doctor", "--json"))}
    assert found["Given up"]["level"] == "warn"
    assert found["Memory"]["level"] == "ok"
