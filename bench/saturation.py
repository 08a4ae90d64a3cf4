"""What is used up first when many agents work at once: a server's processor, PostgreSQL's, its log, or a row."""

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from bench.crowd import Agent, work_at_once
from bench.series import high, median
from bench.servers import ours_over_http
from bench.wire import processor_seconds
from bmad_mcp.db import uuid7
from bmad_mcp.embedded.endpoints import ADMIN_ROLE, Endpoints
from bmad_mcp.projects.open import open_project
from bmad_mcp.tasks import queries

LEVELS = (8, 16, 32, 64)
CONNECTIONS = (1, 4, 16, 64)
CLAIM, CREATE = "claim and give back", "create"
WAITS = """
SELECT coalesce(wait_event_type || ' ' || wait_event, 'on the processor') AS waits, count(*) AS count
FROM pg_stat_activity WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid() GROUP BY 1
"""


class Watch:
    """Processor seconds of each part, and what PostgreSQL's connections wait for, while something runs."""

    def __init__(self, admin: dict[str, Any], data_folder: Path, servers: Sequence[int]) -> None:
        self._admin, self._servers = admin, servers
        self._postmaster = int((data_folder / "postmaster.pid").read_text().splitlines()[0])
        self._waits: Counter[str] = Counter()
        self._over = threading.Event()

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._sample()))
        self._thread.start()
        self._began, self._busy = time.monotonic(), self._used()
        return self

    def __exit__(self, *_: object) -> None:
        taken = time.monotonic() - self._began
        self.processors = {name: round((used - self._busy[name]) / taken, 2) for name, used in self._used().items()}
        self._over.set()
        self._thread.join()
        total = sum(self._waits.values())
        self.waits = {name: round(count / total, 2) for name, count in self._waits.most_common(6)}

    def _used(self) -> dict[str, float]:
        children = Path(f"/proc/{self._postmaster}/task/{self._postmaster}/children").read_text().split()
        return {
            "servers": sum(processor_seconds(pid) for pid in self._servers),
            "PostgreSQL": sum(processor_seconds(int(pid)) for pid in children),
            "agents": processor_seconds(os.getpid()),
        }

    async def _sample(self) -> None:
        connection = await asyncpg.connect(**self._admin)
        try:
            while not self._over.is_set():
                self._waits.update({row["waits"]: row["count"] for row in await connection.fetch(WAITS)})
                await asyncio.sleep(0.05)
        finally:
            await connection.close()


def measured(
    env: dict[str, str], endpoints: Endpoints, data_folder: Path, projects: list[str], seconds: float
) -> dict[str, Any]:
    """Through one server, through one for each project, and by bare connections in one and in several projects."""
    admin = endpoints.connect_args(ADMIN_ROLE) | {"database": endpoints.database}
    found: dict[str, Any] = {"through servers": {}, "bare connections": {}}
    for name, keys in (("one server", projects[:1]), (f"{len(projects)} servers", projects)):
        with ExitStack() as stack:
            servers = [stack.enter_context(ours_over_http(env, key)) for key in keys]
            found["through servers"][name] = {
                str(level): _through(servers, level, admin, data_folder, seconds) for level in LEVELS
            }
    ids = asyncio.run(_ids(endpoints, projects))
    for operation in (CREATE, CLAIM):
        for name, of in (("one project", ids[:1]), (f"{len(ids)} projects", ids)):
            found["bare connections"][f"{operation} in {name}"] = {
                str(level): _bare(endpoints, admin, data_folder, operation, of, level, seconds) for level in CONNECTIONS
            }
    return found


def _through(
    servers: list[tuple[int, int]], level: int, admin: dict[str, Any], data_folder: Path, seconds: float
) -> dict[str, Any]:
    agents = [Agent(servers[number % len(servers)][0], does_nothing=False) for number in range(level)]
    for agent in agents:
        agent.arrive()
    with Watch(admin, data_folder, [pid for _, pid in servers]) as watch:
        taken = work_at_once(agents, seconds)
    return _told([one for agent in agents for one in agent.seconds], taken, watch)


def _bare(
    endpoints: Endpoints,
    admin: dict[str, Any],
    data_folder: Path,
    operation: str,
    projects: list[UUID],
    level: int,
    seconds: float,
) -> dict[str, Any]:
    times: list[float] = []

    async def agent(connection: asyncpg.Connection, until: float) -> None:
        while (began := time.perf_counter()) < until:
            if operation == CREATE:
                made = (uuid7(), "Title", "", "medium", "dev", None, None, 0, True, "local", "local", "bench")
                await connection.fetchrow(queries.CREATE, *made)
            else:
                # Given back, so that there is always one to claim.
                taken = await connection.fetchrow(queries.CLAIM, "dev", 900, "task_claim", "local", "bench")
                number, lease = int(taken["key"].removeprefix("T-")), taken["lease"]
                back = (number, "pending", None, None, None, None, lease, "local", "bench")
                await connection.fetchrow(queries.UPDATE, *back)
            times.append(time.perf_counter() - began)

    async def all_agents() -> tuple[float, Watch]:
        connections = [
            await asyncpg.connect(
                **endpoints.app_connect(), server_settings={"app.project": str(projects[number % len(projects)])}
            )
            for number in range(level)
        ]
        try:
            with Watch(admin, data_folder, []) as watch:
                began = time.perf_counter()
                await asyncio.gather(*(agent(one, began + seconds) for one in connections))
                return time.perf_counter() - began, watch
        finally:
            for one in connections:
                await one.close()

    return _told(times, *asyncio.run(all_agents()))


async def _ids(endpoints: Endpoints, keys: list[str]) -> list[UUID]:
    connection = await asyncpg.connect(**endpoints.app_connect())
    try:
        return [(await open_project(connection, key, key))[0] for key in keys]
    finally:
        await connection.close()


def _told(times: list[float], taken: float, watch: Watch) -> dict[str, Any]:
    return {
        "calls_per_second": round(len(times) / taken),
        "median_ms": round(median(times) * 1000, 2),
        "p95_ms": round(high(times) * 1000, 2),
        "processors": watch.processors,
        "waits": watch.waits,
    }
