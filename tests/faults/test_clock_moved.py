"""A server whose clock is an hour off, steps over the end of summer time, or is set while it works.

Leases and keys follow the database's clock, waits go by one that nobody sets.
"""

import asyncio
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from commands.command import CLEAN, succeeds
from harness import EXTERNAL
from own_postgresql import free_port_number, own_postgresql
from processes import fresh_key
from server.http_process import HttpServer

from bmad_mcp.commands.running_jobs import FIRST_LOOK_SECONDS
from bmad_mcp.jobs.policies import DEFAULTS
from bmad_mcp.server.live_stream import LIVE

FAKETIME = shutil.which("faketime")
pytestmark = [
    pytest.mark.skipif(FAKETIME is None, reason="faketime is not installed"),
    pytest.mark.skipif(bool(EXTERNAL), reason="the database keeps its clock on this machine"),
]
LEASE_SECONDS = 300
API = "/api/v1/bmad"
# What faketime makes of the server's clock, and its zone. The last two begin seconds before Berlin's clocks change.
CLOCKS = {
    "an hour ahead": ("+1h", "UTC"),
    "an hour behind": ("-1h", "UTC"),
    "summer time ends": ("@2026-10-25 02:59:55", "Europe/Berlin"),
    "summer time begins": ("@2026-03-29 01:59:55", "Europe/Berlin"),
}


LEFT = """
SELECT extract(epoch FROM lease_until - clock_timestamp())::float8 FROM bmad_tasks
WHERE project_id = (SELECT id FROM bmad_projects WHERE key = $1)
"""

# Nobody waits for minutes: the rest of the lease is a second of the database's.
SHORTEN = """
UPDATE bmad_tasks SET lease_until = clock_timestamp() + interval '1 second'
WHERE project_id = (SELECT id FROM bmad_projects WHERE key = $1)
"""

AGE = """
UPDATE mcp_idempotency SET created_at = now() - make_interval(days => $2::int, mins => $3::int)
WHERE project_id = (SELECT id FROM bmad_projects WHERE key = $1) AND key = $4
"""
# Half an hour less and half an hour more than the project keeps them.
RECORDS = """
INSERT INTO bmad_memory_integrations (project_id, id, created_at, direction, provider, outcome, items)
SELECT p.id, ('01000000' || substr(gen_random_uuid()::text, 9))::uuid, now() - interval '90 days' - make_interval(mins => m),
    'recall', 'builtin', 'found', m
FROM bmad_projects p, unnest(ARRAY[-30, 30]) m WHERE p.key = $1
"""
KEEP = 'UPDATE bmad_projects SET settings = settings || \'{"retention": {"integrations": 90}}\' WHERE key = $1'
KEPT = """
SELECT array_agg(items) FROM bmad_memory_integrations
WHERE project_id = (SELECT id FROM bmad_projects WHERE key = $1) AND created_at < now() - interval '80 days'
"""
# The same of two memories, which people erase by a command.
AGE_MEMORIES = """
UPDATE mcp_memories SET created_at = now() - interval '90 days' - make_interval(mins => text::int)
WHERE project_id = (SELECT id FROM bmad_projects WHERE key = $1)
"""
MEMORIES = """
SELECT array_agg(text) FROM mcp_memories WHERE project_id = (SELECT id FROM bmad_projects WHERE key = $1)
"""
KNOWN = """
SELECT array_agg(key) FROM mcp_idempotency WHERE project_id = (SELECT id FROM bmad_projects WHERE key = $1)
"""


def preloaded() -> dict[str, str]:
    """The environment of a process whose clock can be set; the wrapper itself would stay between us and the process."""
    said = subprocess.run([FAKETIME, "-m", "-f", "+0", "env"], check=True, capture_output=True, text=True).stdout
    (library,) = [line for line in said.splitlines() if line.startswith("LD_PRELOAD=")]
    # Timers go by another clock, which nobody sets.
    return {"LD_PRELOAD": library.partition("=")[2], "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.fixture(scope="module")
def postgresql():
    """A PostgreSQL with the machine's clock."""
    with own_postgresql() as server:
        succeeds({"BMAD_DATABASE_URL": server.url()}, "db", "upgrade")
        yield server


# The first one in every run, the rest in the long ones.
@pytest.mark.parametrize(
    "clock", [one if at == 0 else pytest.param(one, marks=pytest.mark.soak) for at, one in enumerate(CLOCKS)]
)
async def test_leases_and_keys_follow_the_databases_clock(postgresql, clock):
    offset, zone = CLOCKS[clock]
    url = postgresql.url()
    project = fresh_key("clock")
    env = {
        **CLEAN,
        "BMAD_DATABASE_URL": url,
        "BMAD_MEMORY_PROVIDER": "builtin",
        "TZ": zone,
        "FAKETIME": offset,
        **preloaded(),
    }
    server = HttpServer(env, "--project", project, "--port", "0")
    connection = await asyncpg.connect(url)
    try:
        async with httpx.AsyncClient(base_url=await asyncio.to_thread(server.ready), timeout=30) as client:

            async def post(path: str, **given) -> httpx.Response:
                return await client.post(f"{API}/tasks{path}", json=given)

            key = uuid.uuid4().hex
            made = (await post("/create", title="timed", idempotency_key=key)).raise_for_status().json()
            # A lease is as long as it was asked for, by the database's clock.
            held = (await post("/claim", agent="dev", lease_seconds=LEASE_SECONDS)).raise_for_status().json()
            assert 200 < await connection.fetchval(LEFT, project) <= LEASE_SECONDS
            assert (await post("/claim", agent="qa")).json()["task"] is None
            assert (await post("/T-1/heartbeat", lease=held["lease"])).is_success
            # The key is still known, whatever the hour.
            moved_by = await post("/create", title="timed", idempotency_key=key)
            assert moved_by.json() == made
            told = parsedate_to_datetime(moved_by.headers["date"])
            assert abs((datetime.now(UTC) - told).total_seconds()) > 3000, "the server's clock was moved"
            # The job that forgets keys has the same clock: an hour of it would forget one too many, or one too few.
            await connection.execute(AGE, project, DEFAULTS["results"], -30, key)
            old = uuid.uuid4().hex
            (await post("/create", title="old", idempotency_key=old)).raise_for_status()
            await connection.execute(AGE, project, DEFAULTS["results"], 30, old)
            await asyncio.to_thread(succeeds, {**env, "BMAD_PROJECT": project}, "jobs", "run", "expired")
            assert await connection.fetchval(KNOWN, project) == [key]
            await connection.execute(KEEP, project)
            await connection.execute(RECORDS, project)
            await asyncio.to_thread(succeeds, {**env, "BMAD_PROJECT": project}, "jobs", "run", "retention")
            assert await connection.fetchval(KEPT, project) == [-30]
            for text in ("-30", "30"):
                (await client.post(f"{API}/memory/store", json={"text": text})).raise_for_status()
            await connection.execute(AGE_MEMORIES, project)
            erase = ("memory", "retention", "--set", "AGENT_CONTEXT=90", "--apply")
            await asyncio.to_thread(succeeds, {**env, "BMAD_PROJECT": project}, *erase)
            assert await connection.fetchval(MEMORIES, project) == ["-30"]
            assert (await post("/create", title="timed", idempotency_key=key)).json() == made
            await connection.execute(SHORTEN, project)
            await asyncio.sleep(1.1)
            taken = (await post("/T-1/start", agent="dev")).raise_for_status().json()
            assert taken["task"]["key"] == "T-1"
            late = await post("/T-1/complete", lease=held["lease"])
            assert (late.status_code, late.json()["code"]) == (409, "lease_lost")
            assert (await post("/T-1/complete", lease=taken["lease"])).is_success
    finally:
        await connection.close()
        server.kill()


class Clock:
    """The clock of a process, set while it runs."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)
        self.env = preloaded() | {"FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1"}

    def set(self, seconds: int) -> None:
        """So far from the machine's; nobody reads half a file."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        os.replace(new, self._file)


# A minute's calls are used up, and the next may come in so many seconds.
LIMIT, WAIT_SECONDS = 60, 3
BUCKETS = "SELECT array_agg(id) FROM mcp_rate_buckets"
EMPTY = """
UPDATE mcp_rate_buckets SET full_at = clock_timestamp() + make_interval(secs => 60 - 60.0 / $2 + $3) WHERE id <> ALL($1)
"""
# The host's clock would end it, and the database's does not.
EXPIRES_SOON = "UPDATE mcp_tokens SET expires_at = now() + interval '30 minutes'"
IDS = """
SELECT array_agg(id ORDER BY number) FROM bmad_tasks WHERE project_id = (SELECT id FROM bmad_projects WHERE key = $1)
"""
CALL_IDS = """
SELECT count(call_id), count(DISTINCT call_id) FROM bmad_agent_activity
WHERE project_id = (SELECT id FROM bmad_projects WHERE key = $1) AND operation = 'task_create'
"""
RUN = """
SELECT count(*) FROM mcp_jobs WHERE ended_at IS NOT NULL AND failures = 0
    AND project_id = (SELECT id FROM bmad_projects WHERE key = $1)
"""


async def is_alive(client: httpx.AsyncClient) -> None:
    """Ask all the time; the server has to say so."""
    while True:
        assert (await client.get("/health/live")).status_code == 200
        await asyncio.sleep(0.05)


async def follow(client: httpx.AsyncClient, heard: asyncio.Queue[str]) -> None:
    async with client.stream("GET", LIVE, timeout=60) as events:
        async for line in events.aiter_lines():
            await heard.put(line)


@asynccontextmanager
async def beside(work: Awaitable[None]):
    """What goes on while the block runs, and ends neither by itself nor by a failure."""
    task = asyncio.ensure_future(work)
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# The long one waits for the jobs, of which a server looks for the first time after twenty seconds.
@pytest.mark.parametrize("jobs", [False, pytest.param(True, marks=pytest.mark.soak)])
async def test_a_clock_that_is_set_while_the_server_works_is_noticed_by_nobody(postgresql, tmp_path, jobs):
    url, project, clock = postgresql.url(), fresh_key("clock"), Clock(tmp_path)
    # Nobody listens there: the breaker rests, and the memory of the database answers.
    service = {"BMAD_MEMORY_PROVIDER": "openmemory", "BMAD_MEMORY_URL": f"http://127.0.0.1:{free_port_number()}"}
    env = {
        **CLEAN,
        "BMAD_DATABASE_URL": url,
        "BMAD_RATE_PRINCIPAL": str(LIMIT),
        "BMAD_MEMORY_VECTORS": "off",
        **service,
    }
    began = time.monotonic()
    server = HttpServer({**env, **clock.env}, "--project", project, "--port", "0", "--auth")
    connection = await asyncpg.connect(url)
    heard: asyncio.Queue[str] = asyncio.Queue()
    try:
        token = ("token", "create", "--scope", "write", "--project", project)
        address = await asyncio.to_thread(server.ready)
        printed = (asyncio.to_thread(succeeds, env, *token, name) for name in ("alice", "bob"))
        alice, bob = [one.strip() for one in await asyncio.gather(*printed)]
        await connection.execute(EXPIRES_SOON)
        sent = {"authorization": f"Bearer {alice}"}
        async with (
            httpx.AsyncClient(base_url=address, headers=sent, timeout=15) as client,
            beside(is_alive(client)),
            beside(follow(client, heard)),
        ):

            async def admitted() -> float:
                """When bob may call again."""
                while True:
                    answer = await client.get(f"{API}/tasks", headers={"authorization": f"Bearer {bob}"})
                    if answer.status_code == 200:
                        return time.monotonic()
                    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
                    await asyncio.sleep(0.05)

            async def asked(verb: str, path: str, **given) -> Any:
                return (await client.request(verb, f"{API}{path}", **given)).raise_for_status().json()

            made = {"title": "held", "idempotency_key": uuid.uuid4().hex}
            first = await asked("POST", "/tasks/create", json=made)
            held = await asked("POST", "/tasks/claim", json={"agent": "dev", "lease_seconds": LEASE_SECONDS})
            await asked("POST", "/memory/store", json={"text": "Tides repeat."})
            await asked("POST", "/agents/activate", json={"agent": "qa"})
            others = await connection.fetchval(BUCKETS)
            await admitted()
            emptied = time.monotonic()
            assert await connection.execute(EMPTY, others, LIMIT, WAIT_SECONDS) == "UPDATE 1"
            waiting = asyncio.create_task(admitted())
            for seconds in (0, 3600, -3600):
                clock.set(seconds)
                assert await asked("POST", "/tasks/create", json=made) == first
                assert await asked("POST", "/tasks/T-1/heartbeat", json={"lease": held["lease"]})
                assert 200 < await connection.fetchval(LEFT, project) <= LEASE_SECONDS
                told = await client.post(f"{API}/tasks/T-1/start", json={"agent": "qa"})
                assert told.json()["code"] == "conflict"
                new = (await asked("POST", "/tasks/create", json={"title": f"at {seconds}"}))["task"]["key"]
                async with asyncio.timeout(5):
                    while new not in await heard.get():
                        pass
                lately = (await asked("GET", "/activity", params={"since": "10m"}))["items"]
                assert f"task {new}" in {one["subject"] for one in lately}
                found = await asked("GET", "/memory/search", params={"query": "tides", "since": "10m"})
                assert [one["text"] for one in found["items"]] == ["Tides repeat."]
            await connection.execute(SHORTEN, project)
            over = asyncio.create_task(asyncio.sleep(1.1))
            assert WAIT_SECONDS - 0.5 < await waiting - emptied < WAIT_SECONDS + 10
            told = parsedate_to_datetime((await client.get("/health/live")).headers["date"])
            assert abs((datetime.now(UTC) - told).total_seconds()) > 3000, "the server's clock was set"
            ids = await connection.fetchval(IDS, project)
            assert ids == sorted(ids)
            assert len(set(await connection.fetchrow(CALL_IDS, project))) == 1
            ended = await asked("POST", "/agents/qa/deactivate", json={})
            assert ended["session"]["done"] == {"task_create": 3}
            await over
            assert await asked("POST", "/tasks/T-1/start", json={"agent": "qa"})
            late = await client.post(f"{API}/tasks/T-1/complete", json={"lease": held["lease"]})
            assert late.json()["code"] == "lease_lost"
            if jobs:
                async with asyncio.timeout(FIRST_LOOK_SECONDS + 10):
                    while not await connection.fetchval(RUN, project):
                        await asyncio.sleep(0.2)
                assert time.monotonic() - began > FIRST_LOOK_SECONDS - 1
        assert await asyncio.to_thread(server.stop) == 0
    finally:
        await connection.close()
        server.kill()
