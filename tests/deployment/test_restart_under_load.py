"""Two servers under load while PostgreSQL is restarted and a server is killed: nothing acknowledged is lost."""

import asyncio
import itertools
import time
import uuid
from collections import Counter
from contextlib import suppress

import asyncpg
import httpx
import pytest
from commands.command import CLEAN, succeeds
from own_postgresql import own_postgresql
from processes import fresh_key
from server.http_process import HttpServer

WRITERS = 3
PROGRESS = 12
API = "/api/v1/bmad"


class Load:
    """Writers that try each change until it is acknowledged, at whichever server answers, and keep what was."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.acknowledged: dict[str, str] = {}
        self.refusals: Counter[int] = Counter()
        self._is_over = False

    async def write(self, number: int) -> None:
        """Create tasks one after the other."""
        turns = itertools.cycle(range(number, number + len(self.addresses)))
        async with httpx.AsyncClient(timeout=15) as client:
            for count in itertools.count():
                change = {"title": f"T{number}.{count}", "idempotency_key": uuid.uuid4().hex}
                while not self._is_over:
                    address = self.addresses[next(turns) % len(self.addresses)]
                    if await self._is_done(client, address, change):
                        break
                if self._is_over:
                    return

    async def _is_done(self, client: httpx.AsyncClient, address: str, change: dict[str, str]) -> bool:
        try:
            answer = await client.post(f"{address}{API}/tasks/create", json=change)
        except httpx.TransportError:
            await asyncio.sleep(0.02)
            return False
        if not answer.is_success:
            # Only what a client is told to try again: the database was away.
            assert answer.status_code in (409, 503), answer.text
            self.refusals[answer.status_code] += 1
            await asyncio.sleep(0.02)
            return False
        self.acknowledged[change["title"]] = answer.json()["task"]["key"]
        return True

    async def goes_on(self, seconds: float = 60) -> None:
        """Returns when that many more changes were acknowledged."""
        enough = len(self.acknowledged) + PROGRESS
        async with asyncio.timeout(seconds):
            while len(self.acknowledged) < enough:
                await asyncio.sleep(0.02)

    def end(self) -> None:
        """What is on its way is still answered."""
        self._is_over = True


async def seconds_until_ready(address: str, bound: float = 60) -> float:
    """How long it takes until the server says that it is ready."""
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=2) as client:
        while time.monotonic() - began < bound:
            with suppress(httpx.TransportError):
                if (await client.get(f"{address}/health/ready")).status_code == 200:
                    return time.monotonic() - began
            await asyncio.sleep(0.02)
    raise AssertionError(f"{address} did not become ready")


async def titles_and_keys(url: str) -> list[tuple[str, str]]:
    connection = await asyncpg.connect(url)
    try:
        return [
            (row["title"], f"T-{row['number']}")
            for row in await connection.fetch("SELECT title, number FROM bmad_tasks")
        ]
    finally:
        await connection.close()


async def run_through(rounds: int) -> list[float]:
    """Fast restart, crash, and kill of a server, so many times; how long the servers took to be ready each time."""
    taken: list[float] = []
    with own_postgresql() as database:
        env = {**CLEAN, "BMAD_DATABASE_URL": database.url(), "BMAD_MEMORY_PROVIDER": "builtin"}
        succeeds({"BMAD_DATABASE_URL": database.url()}, "db", "upgrade")
        options = ("--project", fresh_key("load"), "--port")
        servers = [HttpServer(env, *options, "0") for _ in range(2)]
        try:
            load = Load([server.ready() for server in servers])
            writing = asyncio.gather(*(load.write(number) for number in range(WRITERS)))
            await load.goes_on()
            for turn in range(rounds):
                for mode in ("fast", "immediate"):
                    await asyncio.to_thread(database.restart, mode)
                    taken += await asyncio.gather(*(seconds_until_ready(one) for one in load.addresses))
                    await load.goes_on()
                servers[0].kill()
                await load.goes_on()
                if turn == rounds - 1:
                    break
                servers[0] = HttpServer(env, *options, load.addresses[0].rsplit(":", 1)[1])
                await seconds_until_ready(load.addresses[0])
                await load.goes_on()
            load.end()
            await writing
            assert servers[1].stop() == 0
        finally:
            for server in servers:
                server.kill()
        stored = await titles_and_keys(database.url())
    assert len(stored) == len(dict(stored)), "each change was made once, however often it was tried"
    assert load.acknowledged.items() <= dict(stored).items(), "what was acknowledged is there, under its key"
    assert len(load.acknowledged) >= PROGRESS * 3 * rounds
    # A writer may have been answered by nobody at the end: at most its last change is there and not acknowledged.
    assert len(stored) - len(load.acknowledged) <= WRITERS
    print(f"{len(load.acknowledged)} acknowledged, {dict(load.refusals)} refused, ready in {max(taken):.2f} s at most")
    return taken


async def test_nothing_acknowledged_is_lost_when_the_database_restarts_and_a_server_dies():
    await run_through(1)


@pytest.mark.soak
async def test_ten_rounds_of_it_and_the_servers_are_ready_within_five_seconds():
    assert max(await run_through(10)) <= 5
