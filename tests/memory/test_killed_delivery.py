"""A process killed with kill -9 in the middle of deliveries: nothing is lost, and nothing is in the service twice."""

import asyncio
import json
import random
import signal
import sys
from collections import Counter

import pytest
from memory.test_delivery import MEMORIES
from stored_rows import fetch

AGENTS = ("dev", "qa", None)
WAITING_AT_ONCE = 12
# As a server does it, but a dead process's job is taken over after a second.
PROCESS = """
import asyncio, json, sys
import asyncpg
from bmad_mcp.db import open_pool
from bmad_mcp.memory.delivery import Deliveries
from bmad_mcp.memory.delivery_worker import DeliveryWorker
from bmad_mcp.memory.services.choosing import MemoryServices

async def main(app, url):
    services = MemoryServices(url, user="bmad", setting="openmemory")
    deliveries = Deliveries(await open_pool(**app), services, settle_seconds=0.2)
    await DeliveryWorker(lambda: asyncpg.connect(**app), deliveries, heartbeat_seconds=1.0).run()

asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2]))
"""


def creations(service):
    return service.whats().count("POST /api/v1/memories/")


async def begin(database, service):
    return await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, json.dumps(database.app), service.url)


async def end(process):
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.wait()


async def waiting(workspace):
    return [one for one in await fetch(workspace.opened, MEMORIES) if one["delivery"] == "queued"]


async def until(check, process):
    # A machine that is busy with other work lets a new process wait for most of a minute.
    async with asyncio.timeout(180):
        while not await check():
            assert process.returncode is None, "the delivering process ended by itself"
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("kills", [3, pytest.param(200, marks=pytest.mark.soak)])
async def test_no_memory_is_lost_or_stored_twice(do, database, pool, service, beside_service, kills):
    await pool.execute("DELETE FROM mcp_pgqueuer")
    chance = random.Random(kills)
    # The service stores after a while, and also when nobody waits for its answer any more.
    service.create_seconds = 0.02
    kept, broken_off = [], 0
    for _ in range(kills):
        for _ in range(WAITING_AT_ONCE - len(await waiting(beside_service))):
            agent = chance.choice(AGENTS)
            kept.append(f"Fact {len(kept)} of {agent}")
            await do("memory_store", text=kept[-1], **({"agent": agent} if agent else {}))
        process = await begin(database, service)
        try:
            goal = creations(service) + chance.randint(1, 5)

            async def reached(goal=goal):
                return creations(service) >= goal

            await until(reached, process)
            await asyncio.sleep(chance.uniform(0.0, 0.04))
        finally:
            await end(process)
        broken_off += any(one["attempts"] for one in await waiting(beside_service))
    process = await begin(database, service)
    try:

        async def empty():
            return not await waiting(beside_service)

        await until(empty, process)
    finally:
        await end(process)
    # The kills did land between a try and its answer.
    assert broken_off
    print(
        f"{kills} kills, {broken_off} in the middle of a delivery; {len(kept)} memories; {creations(service)} creations"
    )
    found = Counter(row["content"].rpartition(" [bmad:")[0] for row in service.rows)
    assert found == Counter(kept)
    states = Counter(one["delivery"] for one in await fetch(beside_service.opened, MEMORIES))
    assert states == {"delivered": len(kept)}
    for agent in AGENTS:
        sent = [text for text in found if text.endswith(f" of {agent}")]
        assert sent == [text for text in kept if text.endswith(f" of {agent}")], "an agent's memories come in order"
