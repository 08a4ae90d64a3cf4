"""The schema goes up under servers of the release before and of this one, on filled tables: no error, nobody waits long."""

import asyncio
import io
import itertools
import shutil
import subprocess
import sys
import tarfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from commands.command import CLEAN
from own_postgresql import own_postgresql
from server.http_process import HttpServer

from bmad_mcp import migrate, sample
from bmad_mcp.migrations_folder import newest_revision

REPOSITORY = Path(__file__).resolve().parents[2]
API = "/api/v1/bmad"
CLIENTS = 3
LONGEST_WAIT_SECONDS = 1.0
# The last commit whose schema was at 0011.
RELEASE_BEFORE = "27b3b7b~1"
# What the release after this one might bring: a column filled in batches, a constraint, indexes, one of them on partitions.
NEXT = """
from bmad_mcp.migration_steps import add_constraint, backfill, create_index, drop_index, each_alone
from alembic import op

revision = "9000"
down_revision = "{head}"


def upgrade():
    with each_alone():
        op.execute("ALTER TABLE bmad_tasks ADD COLUMN IF NOT EXISTS points integer DEFAULT 1")
    backfill("bmad_tasks", "points = 2", "points = 1 AND number % 10 = 0")
    add_constraint("ck_bmad_tasks_points", "bmad_tasks", "CHECK (points > 0)")
    create_index("ix_bmad_tasks_points", "bmad_tasks", ["project_id", "points"])
    create_index("ix_bmad_agent_activity_principal", "bmad_agent_activity", ["project_id", "principal", "id"])


def downgrade():
    drop_index("ix_bmad_agent_activity_principal")
    drop_index("ix_bmad_tasks_points")
    op.drop_column("bmad_tasks", "points")
"""
FILL = (
    """
INSERT INTO bmad_tasks (project_id, number, title, status, completed_at)
SELECT p.id, 1000 + n, 'Task ' || n, (ARRAY['completed', 'cancelled', 'blocked', 'pending'])[1 + n % 4]::bmad_task_status, now()
FROM bmad_projects p, generate_series(1, {rows}) n
""",
    """
INSERT INTO bmad_agent_activity (project_id, operation, subject, principal, call_id)
SELECT p.id, 'task_update', 'task T-' || (1000 + n), 'local', 'c' FROM bmad_projects p, generate_series(1, {rows}) n
""",
    "INSERT INTO mcp_counters (project_id, kind, value) SELECT id, 'task', {rows} + 2000 FROM bmad_projects"
    " ON CONFLICT (project_id, kind) DO UPDATE SET value = excluded.value",
)
WAITING = """
SELECT max(extract(epoch FROM clock_timestamp() - l.waitstart))::float8 FROM pg_locks l
JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND l.locktype <> 'virtualxid' AND a.application_name <> 'upgrade'
"""


class Load:
    """Clients that create, claim and finish tasks and list them, at each of the servers in turn."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.errors: list[str] = []
        self.seconds: list[float] = []
        self.is_over = False

    async def work(self, number: int) -> None:
        """One task after the other."""
        headers = {"X-Bmad-Session": f"load-{number}"}
        async with httpx.AsyncClient(timeout=30, headers=headers) as web:
            for turn in itertools.count(number):
                if self.is_over:
                    return
                address = self.addresses[turn % len(self.addresses)] + API
                made = await self._ask(web, "POST", f"{address}/tasks/create", {"title": f"T{turn}"})
                key = made["task"]["key"] if made else "T-0"
                claimed = await self._ask(web, "POST", f"{address}/tasks/claim", {"agent": "dev", "task": key})
                lease = claimed["task"]["lease"] if claimed else 0
                await self._ask(web, "POST", f"{address}/tasks/{key}/complete", {"lease": lease, "summary": "done"})
                await self._ask(web, "GET", f"{address}/tasks?status=blocked&limit=5")

    async def _ask(self, web: httpx.AsyncClient, method: str, url: str, body: Any = None) -> Any:
        began = time.monotonic()
        try:
            answer = await web.request(method, url, json=body)
        except httpx.HTTPError as error:
            self.errors.append(f"{url}: {error!r}")
            return None
        self.seconds.append(time.monotonic() - began)
        if not answer.is_success:
            self.errors.append(f"{url}: {answer.status_code} {answer.text}")
            return None
        return answer.json()


async def longest_wait(url: str, is_over: asyncio.Event) -> float:
    """The longest that a query of a server was seen to wait for a lock, in seconds."""
    longest = 0.0
    connection = await asyncpg.connect(url)
    while not is_over.is_set():
        longest = max(longest, await connection.fetchval(WAITING) or 0.0)
        await asyncio.sleep(0.02)
    await connection.close()
    return longest


def release_at(folder: Path, commit: str) -> Path:
    """A checkout of an older commit."""
    done = subprocess.run(["git", "archive", commit, "bmad_mcp", "migrations"], cwd=REPOSITORY, capture_output=True)
    if done.returncode:
        pytest.skip(f"needs the repository with commit {commit}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def next_release(folder: Path) -> Path:
    """This code with one migration more."""
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("bmad_mcp", "migrations"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=skip)
    (folder / "migrations/versions/9000_next.py").write_text(NEXT.format(head=newest_revision()))
    return folder


class Release:
    """The program of one checkout, as processes on one database."""

    def __init__(self, folder: Path, url: str, processes: ExitStack) -> None:
        self._env = {**CLEAN, "PYTHONPATH": str(folder), "BMAD_DATABASE_URL": url, "BMAD_LOG_LEVEL": "warning"}
        self._processes = processes

    async def run(self, *arguments: str) -> str:
        """What a command printed; it has to succeed."""
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "bmad_mcp", *arguments,
            env={**self._env, "PGAPPNAME": "upgrade"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        told = (await done.communicate())[0].decode()
        assert done.returncode == 0, told
        return told

    async def serve(self) -> str:
        """The address of a server of it."""
        command = [sys.executable, "-P", "-m", "bmad_mcp", "serve", "--http", "--port", "0", "--project", "shop"]
        server = HttpServer(self._env, command=command)
        self._processes.callback(server.kill)
        return await asyncio.to_thread(server.ready)


async def under_load(url: str, addresses: list[str], upgrading: Any, more_seconds: float) -> str:
    """Upgrade while clients work at the servers; fails on any error and on any wait over the bound."""
    load, is_over = Load(addresses), asyncio.Event()
    workers = [asyncio.create_task(load.work(number)) for number in range(CLIENTS)]
    watch = asyncio.create_task(longest_wait(url, is_over))
    await asyncio.sleep(more_seconds)
    before, began = max(load.seconds, default=0.0), time.monotonic()
    told = await upgrading
    taken = time.monotonic() - began
    await asyncio.sleep(more_seconds)
    load.is_over = True
    await asyncio.gather(*workers)
    is_over.set()
    waited = await watch
    print(
        f"{told.splitlines()[-1]} {taken:.1f} s, {len(load.seconds)} calls, {len(load.errors)} errors,"
        f" longest lock wait {waited:.3f} s, slowest call {max(load.seconds):.2f} s (before the upgrade {before:.2f} s)"
    )
    assert not load.errors, load.errors[:3]
    assert len(load.seconds) > CLIENTS * 4
    assert waited < LONGEST_WAIT_SECONDS
    return told


async def fill(url: str, rows: int) -> None:
    connection = await asyncpg.connect(url)
    for statement in FILL:
        await connection.execute(statement.format(rows=rows))
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def test_a_server_works_on_while_the_next_release_brings_the_schema_up_and_starts_on_it_again(tmp_path):
    with own_postgresql() as postgresql, ExitStack() as processes:
        url = postgresql.url()
        this, after = (Release(folder, url, processes) for folder in (REPOSITORY, next_release(tmp_path / "next")))
        await this.run("db", "upgrade")
        await this.run("import", str(sample.FOLDER), "--project", "shop")
        await fill(url, 3000)
        served = await this.serve()
        told = await under_load(url, [served], after.run("db", "upgrade"), 0.5)
        assert f"is at revision 9000 (it was {newest_revision()})" in told
        async with httpx.AsyncClient() as web:
            assert (await web.get(f"{served}/health/ready")).status_code == 200
        assert "revision 9000, newer than this version's" in await this.run("doctor", "--project", "shop")
        connection = await asyncpg.connect(url)
        assert (
            await connection.fetchval(
                "SELECT count(*) FROM bmad_tasks WHERE points = 2 AND number BETWEEN 1001 AND 4000"
            )
            == 300
        )
        assert await connection.fetchval("SELECT bool_and(indisvalid) FROM pg_index")
        await connection.close()


@pytest.mark.soak
async def test_a_million_tasks_go_up_under_the_release_before_and_this_one(tmp_path):
    with own_postgresql() as postgresql, ExitStack() as processes:
        url = postgresql.url()
        before = Release(release_at(tmp_path / "before", RELEASE_BEFORE), url, processes)
        this, after = (Release(folder, url, processes) for folder in (REPOSITORY, next_release(tmp_path / "next")))
        await before.run("db", "upgrade")
        await before.run("import", str(sample.FOLDER), "--project", "shop")
        await fill(url, 1_000_000)
        addresses = [await before.serve()]
        # Its seven indexes are made again below: by this release, under the load of that one.
        await asyncio.to_thread(migrate.downgrade, url, "0010")
        await under_load(url, addresses, this.run("db", "upgrade"), 3)
        addresses.append(await this.serve())
        told = await under_load(url, addresses, after.run("db", "upgrade"), 3)
        assert "is at revision 9000" in told
        addresses.append(await after.serve())
        await under_load(url, addresses, after.run("db", "upgrade"), 3)
