"""A server whose clock is an hour off, or steps over the end of summer time: leases and keys follow the database's."""

import asyncio
import shutil
import subprocess
import uuid
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import asyncpg
import httpx
import pytest
from commands.command import CLEAN, succeeds
from harness import EXTERNAL
from own_postgresql import own_postgresql
from processes import fresh_key
from server.http_process import HttpServer

from bmad_mcp.jobs.policies import DEFAULTS

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
KNOWN = """
SELECT array_agg(key) FROM mcp_idempotency WHERE project_id = (SELECT id FROM bmad_projects WHERE key = $1)
"""


def moved(offset: str) -> dict[str, str]:
    """The environment of a process with that clock; the wrapper itself would stay between us and the process."""
    said = subprocess.run([FAKETIME, "-f", "+0", "env"], check=True, capture_output=True, text=True).stdout
    (library,) = [line for line in said.splitlines() if line.startswith("LD_PRELOAD=")]
    # Timers go by another clock, which nobody sets.
    return {"LD_PRELOAD": library.partition("=")[2], "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


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
    env = {**CLEAN, "BMAD_DATABASE_URL": url, "BMAD_MEMORY_PROVIDER": "builtin", "TZ": zone, **moved(offset)}
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
