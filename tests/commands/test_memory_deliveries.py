"""`memory retry`, `deliver` and `introduce`: who asks before texts leave, what is sent once, and what is said when not."""

import asyncio
from datetime import UTC, datetime

import pytest
from commands.command import succeeds
from commands.memory_commands import command_pool, commands_on, one_service, settings_of
from processes import held

from bench.fake_server import Reply
from bmad_mcp.commands import memory_delivering
from bmad_mcp.commands.failures import Failure

CREATE = "POST /api/v1/memories/"


@pytest.fixture(scope="module", autouse=True)
def _migrated(server_env):
    succeeds(server_env, "db", "upgrade")


@pytest.fixture
async def pool(server_env):
    async with held(command_pool(server_env)) as found:
        await found.execute("DELETE FROM mcp_pgqueuer")
        yield found


# What differs between the two has tests without processes; the commands are played on both in `make soak`.
@pytest.fixture(params=["openmemory", pytest.param("mem0", marks=pytest.mark.soak)])
async def kept(request, pool, server_env):
    async with one_service(request.param) as server, commands_on(pool, server_env, server) as found:
        yield found


@pytest.fixture
async def beside(pool, server_env):
    async with one_service("openmemory") as server, commands_on(pool, server_env, server) as found:
        yield found


async def states(kept) -> list[str]:
    return [row["delivery"] for row in await kept.sql("SELECT delivery FROM mcp_memories ORDER BY id")]


async def test_deliver_asks_before_texts_leave_and_sends_each_once(kept):
    for at in range(30):
        await kept.add(f"Fact {at}", agent=["dev", "qa", None][at % 3])
    done = await kept.run("memory", "deliver", "--now")
    assert done.returncode == 1
    assert f"Send the texts of 30 memories of {kept.opened.key} to" in done.stderr
    assert kept.server.url in done.stderr
    assert (kept.there(), set(await states(kept))) == ([], {"stored"})
    text = await kept.succeeds("memory", "deliver", "--now", "--yes")
    assert "30 memories queued." in text
    assert "Nothing waits any more: 30 memories delivered to" in text
    assert set(await states(kept)) == {"delivered"}
    assert sorted(kept.there()) == sorted(f"Fact {at}" for at in range(30))
    assert "Nothing is stored here only." in await kept.succeeds("memory", "deliver", "--yes")
    (trail,) = await kept.trail()
    assert (trail["operation"], trail["detail"]["count"]) == ("memory_deliver", 30)


async def test_deliver_without_now_says_who_will(beside):
    await beside.add("Fact")
    assert "a running server delivers them" in await beside.succeeds("memory", "deliver", "--yes")
    assert (await states(beside), beside.there()) == (["queued"], [])
    jobs = await beside.sql("SELECT convert_from(payload, 'utf8') AS payload FROM mcp_pgqueuer")
    assert [one["payload"] for one in jobs] == [f"{beside.opened.id}/"]


async def test_two_that_deliver_at_once_send_nothing_twice(beside):
    for at in range(25):
        await beside.add(f"Fact {at}", delivery="queued")
    await asyncio.gather(
        beside.succeeds("memory", "retry", "--now"), beside.succeeds("memory", "deliver", "--now", "--yes")
    )
    assert sorted(beside.there()) == sorted(f"Fact {at}" for at in range(25))


async def test_retry_brings_back_what_was_given_up_and_tells_when_it_is_again(beside):
    at = datetime.now(UTC)
    await beside.add("Poison", delivery="dead", failure="answered 422", attempts=1, attempted_at=at)
    await beside.add("Fine", delivery="queued")
    assert "2 memories wait for OpenMemory" in await beside.succeeds("memory", "retry")
    answer = beside.server.reply

    async def picky(asked):
        if asked.what == CREATE and "Poison" in asked.body["text"]:
            return Reply({"detail": "no"}, 422)
        return await answer(asked)

    beside.server.reply = picky
    await beside.sql("UPDATE mcp_memories SET attempted_at = now() - interval '1 hour' WHERE attempts > 0")
    told = await beside.fails("memory", "retry", "--now")
    assert "It refused 1 memory." in told
    assert (beside.there(), await states(beside)) == (["Fine"], ["dead", "delivered"])
    beside.server.reply = answer
    await beside.sql("UPDATE mcp_memories SET attempted_at = now() - interval '1 hour' WHERE attempts > 0")
    text = await beside.succeeds("memory", "retry", "--now")
    assert "1 memory queued again." in text
    assert sorted(beside.there()) == ["Fine", "Poison"]
    assert "Nothing was given up." in await beside.succeeds("memory", "retry")


async def test_a_service_that_takes_nothing_is_not_waited_for_without_an_end(beside, server_env, monkeypatch):
    monkeypatch.setattr(memory_delivering, "PATIENCE_SECONDS", 1.5)
    await beside.add("Fact", delivery="queued")
    beside.server.broken[CREATE] = Reply({"error": "Error code: 500"})
    settings = settings_of(server_env, beside.opened.key, memory_url=beside.server.url, memory_provider="openmemory")
    with pytest.raises(Failure, match="OpenMemory takes nothing: 1 memory still waits"):
        await memory_delivering._retry(settings, now=True)
    assert CREATE in beside.server.whats()
    assert await states(beside) == ["queued"]


async def test_without_a_service_nothing_is_queued(beside):
    await beside.add("Fact")
    await beside.add("Dead", delivery="dead", failure="answered 422")
    for words in (["deliver", "--yes"], ["retry"], ["introduce"]):
        told = await beside.fails("memory", *words, BMAD_MEMORY_PROVIDER="builtin")
        assert "BMAD_MEMORY_PROVIDER" in told
    absent = {"BMAD_MEMORY_PROVIDER": "auto", "BMAD_MEMORY_URL": "http://127.0.0.1:9"}
    assert "is not there" in await beside.fails("memory", "deliver", "--yes", **absent)
    assert await states(beside) == ["stored", "dead"]
    assert "1 memory waits until" in await beside.succeeds("memory", "retry", **absent)
    assert "is not there" in await beside.fails("memory", "retry", "--now", **absent)


async def test_introduce_makes_the_user_known_once_and_leaves_nothing(beside):
    beside.server.users.clear()
    assert "bmad-mcp memory introduce" in await beside.succeeds("doctor")
    assert "OpenMemory knows 'bmad' now." in await beside.succeeds("memory", "introduce")
    assert beside.server.users == {"bmad"}
    assert beside.there() == []
    asked = len(beside.server.asked)
    assert "already" in await beside.succeeds("memory", "introduce")
    assert not any(one.path.startswith("/mcp/") for one in beside.server.asked[asked:])


async def test_an_introduction_needs_no_project(beside):
    beside.server.users.clear()
    assert "OpenMemory knows 'bmad' now." in await beside.succeeds("memory", "introduce", "--project", "not-made-yet")


async def test_mem0_needs_no_introduction(pool, server_env):
    async with one_service("mem0") as server, commands_on(pool, server_env, server) as kept:
        assert "nothing to do" in await kept.succeeds("memory", "introduce")
        assert server.rows == []


async def test_an_introduction_that_fails_says_so(beside):
    beside.server.users.clear()
    mcp = "POST /mcp/bmad-mcp/http/bmad"
    beside.server.broken[mcp] = Reply({"detail": "no"}, 500)
    told = await beside.fails("memory", "introduce")
    assert mcp in beside.server.whats()
    assert "answered 500" in told
    assert "bmad-mcp doctor" in told
