"""Which memory serves, and the sentence that says why."""

import asyncio

import pytest
from memory.services.fake_service import FakeMem0, FakeOpenMemory, Stopwatch

from bench import faults
from bench.fake_server import FakeServer, Reply
from bmad_mcp.memory.services.choosing import ABSENT_SECONDS, FOUND_SECONDS, MemoryServices
from bmad_mcp.memory.services.mem0 import Mem0
from bmad_mcp.memory.services.openmemory import OpenMemory


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


async def chosen(server, **more):
    services = MemoryServices(server.url, user=more.pop("user", "drj"), **more)
    found = await services.choice()
    await services.aclose()
    return found.provider, found.why


async def test_openmemory_is_found(fake_openmemory):
    assert await chosen(fake_openmemory) == ("openmemory", f"OpenMemory answers at {fake_openmemory.url}")
    assert (await chosen(fake_openmemory, user="nobody"))[0] == "openmemory"


async def test_mem0_is_found(fake_mem0):
    assert await chosen(fake_mem0) == ("mem0", f"A mem0 server answers at {fake_mem0.url}")


async def test_a_key_that_is_missing_is_said_and_one_that_is_given_is_sent():
    async with FakeMem0(api_key="canary") as server:
        provider, why = await chosen(server)
        assert provider == "builtin"
        assert "wants an API key" in why
        assert (await chosen(server, api_key="canary"))[0] == "mem0"
        assert "canary" not in why


async def test_a_server_of_something_else_is_no_memory_service():
    async with FakeServer() as server:
        provider, why = await chosen(server)
    assert (provider, "is no memory service" in why) == ("builtin", True)


async def test_nobody_there():
    async with FakeServer() as server:
        pass
    provider, why = await chosen(server)
    assert (provider, "is not there" in why) == ("builtin", True)


@pytest.mark.parametrize("fault", faults.TIMED_OUT.values(), ids=faults.TIMED_OUT.keys())
async def test_a_probe_takes_its_budget_at_most(fault):
    async with FakeServer() as server:
        server.fault = fault
        with Stopwatch() as watch:
            provider, why = await chosen(server, probe_seconds=0.3)
    assert (provider, "did not answer in time" in why) == ("builtin", True)
    assert watch.seconds < 1.3


async def test_a_setting_is_followed_without_asking(fake_openmemory):
    for setting in ("openmemory", "mem0", "builtin"):
        assert (await chosen(fake_openmemory, setting=setting))[0] == setting
    assert fake_openmemory.asked == []


async def test_the_built_in_memory_needs_no_address():
    services = MemoryServices("nonsense", user="drj", setting="builtin")
    assert services.of_project("builtin", "tidepool") is None
    await services.aclose()
    with pytest.raises(ValueError, match="BMAD_MEMORY_URL"):
        MemoryServices("nonsense", user="drj")


async def test_the_choice_holds_for_a_while_and_then_is_made_again():
    clock = Clock()
    async with FakeOpenMemory() as server:
        services = MemoryServices(server.url, user="drj", clock=clock)
        await services.choice()
        asked = len(server.asked)
        clock.now += FOUND_SECONDS - 1
        await services.choice()
        assert len(server.asked) == asked
        server.fault = faults.plainly(Reply({"hello": "world"}))
        clock.now += 2
        assert (await services.choice()).provider == "builtin"
        asked = len(server.asked)
        clock.now += ABSENT_SECONDS - 1
        await services.choice()
        assert len(server.asked) == asked
        server.fault = None
        clock.now += 2
        assert (await services.choice()).provider == "openmemory"
        await services.aclose()


@pytest.mark.parametrize(
    "fault", [faults.close_before_answer, faults.plainly(Reply(b"oops", 502)), faults.hang_before_headers]
)
async def test_a_service_that_answered_before_is_waited_for(fault):
    clock = Clock()
    async with FakeOpenMemory() as server:
        services = MemoryServices(server.url, user="drj", probe_seconds=0.3, clock=clock)
        server.fault = fault
        assert (await services.choice()).provider == "builtin"
        server.fault = None
        clock.now += ABSENT_SECONDS + 1
        assert (await services.choice()).provider == "openmemory"
        server.fault = fault
        for _ in range(3):
            clock.now += FOUND_SECONDS + 1
            asked = len(server.asked)
            assert (await services.choice()).provider == "openmemory"
            assert len(server.asked) > asked
        await services.aclose()


async def test_many_who_ask_at_once_probe_once(fake_openmemory):
    services = MemoryServices(fake_openmemory.url, user="drj")
    found = await asyncio.gather(*(services.choice() for _ in range(20)))
    await services.aclose()
    assert {one.provider for one in found} == {"openmemory"}
    assert sorted(fake_openmemory.whats()) == ["GET /api/v1/stats/", "GET /memories"]


async def test_projects_share_connections_and_guards_and_nothing_else(fake_openmemory):
    services = MemoryServices(fake_openmemory.url, user="drj")
    one, other = (services.of_project("openmemory", project) for project in ("tidepool", "lagoon"))
    assert isinstance(one, OpenMemory)
    assert isinstance(services.of_project("mem0", "tidepool"), Mem0)
    assert one._guards is other._guards
    assert one._guards is not services.of_project("mem0", "tidepool")._guards
    assert (one._project, other._project) == ("tidepool", "lagoon")
    await services.aclose()
