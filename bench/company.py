"""`python -m bench.company`: what a call costs as a whole company grows – projects, agents and tasks – and how it grows.

Each size has a PostgreSQL of its own, so that all sizes are measured in turn. The calls go to one project after the
other, as the agents of a company do, and most find no page in a cache. The largest company then has 8 to 64 agents at
once, which shows what is used up first.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from bench import report, saturation
from bench.growth import OPERATIONS
from bench.seeding import filled, told_with_time
from bench.series import Times, in_turn
from bench.servers import environment, ours
from bench.starts import database_mib
from bench.wire import Child, resident_mib
from bench.work import Work
from bmad_mcp import migrate
from bmad_mcp.bmad_files.builtins import seed_builtins
from bmad_mcp.call import OpenProject
from bmad_mcp.db import open_pool
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.endpoints import ADMIN_ROLE, Endpoints
from bmad_mcp.projects.open import open_project

TASKS_EACH = 20_000
AGENTS_EACH = 10
# A server works in one project; so many of them are asked in turn.
ASKED = 4
COUNTED = 20
BOARD, TRAIL = "board", "activity"
MEASURED = (*OPERATIONS, BOARD, TRAIL)
# What is loaded in one transaction needs no log of its own; afterwards all is as it comes.
WHILE_LOADING = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}
COUNTING = {"shared_preload_libraries": "pg_stat_statements"}
COST = """
SELECT sum(shared_blks_hit + shared_blks_read)::float8 AS buffers, sum(shared_blks_read)::float8 AS read,
    sum(wal_bytes)::float8 AS wal, sum(total_exec_time)::float8 AS ms
FROM pg_stat_statements x JOIN pg_roles r ON r.oid = x.userid WHERE r.rolname = 'bmad_app'
"""
DISK = """
SELECT pg_database_size(current_database()) AS "all", pg_table_size('bmad_tasks') AS tasks,
    pg_indexes_size('bmad_tasks') AS "indexes of tasks",
    (SELECT sum(pg_table_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'bmad_agent_activity'::regclass) AS trail,
    (SELECT sum(pg_indexes_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'bmad_agent_activity'::regclass)
        AS "indexes of the trail"
"""


class Company:
    """A database with so many projects, and servers in some of them."""

    def __init__(self, folder: Path, tasks: int, stack: ExitStack) -> None:
        folder.mkdir()
        folder.chmod(0o711)
        self.folder, self.tasks = folder, tasks
        self.keys = [f"project-{number}" for number in range(max(tasks // TASKS_EACH, 1))]
        self.figures: dict[str, Any] = {"projects": len(self.keys), "tasks": tasks}
        self.root = folder / "postgres"
        with Cluster(self.root) as endpoints:
            migrate.upgrade("postgresql://", **endpoints.owner_connect())
            asyncio.run(_altered(endpoints, WHILE_LOADING))
        with Cluster(self.root) as endpoints:
            began = time.monotonic()
            asyncio.run(self._fill(endpoints))
            self.figures["seconds to load"] = round(time.monotonic() - began)
            asyncio.run(_altered(endpoints, dict.fromkeys(WHILE_LOADING) | COUNTING))
        self.endpoints = stack.enter_context(Cluster(self.root))
        asyncio.run(self._weigh())
        self._turn = 0
        self._works: list[dict[str, Callable[[], Any]]] = []
        self._children = []
        for key in self.asked:
            child = Child(ours(key), environment(folder) | {"BMAD_TOOLSETS": "all"})
            stack.callback(child.close)
            child.hello()
            ways = Work(child.call).ways()
            self._works.append(
                ways
                | {
                    BOARD: lambda child=child: child.request("resources/read", {"uri": "bmad://project/board"}),
                    TRAIL: lambda child=child: child.call("activity_list"),
                }
            )
            self._children.append(child)

    @property
    def admin(self) -> dict[str, Any]:
        return self.endpoints.connect_args(ADMIN_ROLE) | {"database": self.endpoints.database}

    @property
    def asked(self) -> list[str]:
        """The keys of some projects, from all over the tables."""
        return self.keys[:: max(len(self.keys) // ASKED, 1)][:ASKED]

    def call(self, operation: str) -> None:
        self._turn += 1
        self._works[self._turn % len(self._works)][operation]()

    def cost(self, operation: str) -> dict[str, float]:
        """Of one call: blocks touched, blocks not found in shared buffers, bytes of WAL, and ms in the database."""
        return asyncio.run(self._cost(operation))

    async def _cost(self, operation: str) -> dict[str, float]:
        connection = await asyncpg.connect(**self.admin)
        try:
            await connection.execute("SELECT pg_stat_statements_reset()")
            for _ in range(COUNTED):
                self.call(operation)
            found = await connection.fetchrow(COST)
            return {name: round(value / COUNTED, 3) for name, value in found.items()}
        finally:
            await connection.close()

    def memory(self) -> dict[str, float]:
        """MiB of one server, and of PostgreSQL with the connections of all of them."""
        return {
            "server": round(resident_mib(self._children[0].process.pid), 1),
            "database": round(database_mib(Cluster(self.root).data_folder), 1),
        }

    async def vacuumed(self) -> float:
        """Seconds that VACUUM ANALYZE of the tasks takes after all of the calls."""
        connection = await asyncpg.connect(**self.admin)
        try:
            began = time.monotonic()
            await connection.execute("VACUUM ANALYZE bmad_tasks", timeout=3600)
            return round(time.monotonic() - began, 2)
        finally:
            await connection.close()

    async def _fill(self, endpoints: Endpoints) -> None:
        ids = {}
        pool = await open_pool(**endpoints.app_connect())
        try:
            for key in self.keys:
                async with pool.acquire() as connection:
                    ids[key], _ = await open_project(connection, key, key)
            await seed_builtins(OpenProject(ids[self.keys[0]], self.keys[0], pool))
        finally:
            await pool.close()
        admin = await asyncpg.connect(**endpoints.connect_args(ADMIN_ROLE) | {"database": endpoints.database})
        try:
            self.figures["agents"] = await _registered(admin, [ids[key] for key in self.keys])
            each = self.tasks // len(self.keys)
            await filled(admin, {ids[key]: each for key in self.keys}, told_with_time)
            told_with_time("vacuum and analyze")
            await admin.execute("SET maintenance_work_mem = '1GB'")
            await admin.execute("VACUUM ANALYZE", timeout=3600)
            await admin.execute("CHECKPOINT", timeout=3600)
        finally:
            await admin.close()

    async def _weigh(self) -> None:
        connection = await asyncpg.connect(**self.admin)
        try:
            await connection.execute("CREATE EXTENSION pg_stat_statements")
            found = await connection.fetchrow(DISK)
            self.figures["bytes of a task"] = {name: round(int(size) / self.tasks) for name, size in found.items()}
        finally:
            await connection.close()


async def _altered(endpoints: Endpoints, settings: dict[str, Any]) -> None:
    """Settings that hold from the next start; None is what it was before."""
    connection = await asyncpg.connect(**endpoints.connect_args(ADMIN_ROLE) | {"database": endpoints.database})
    try:
        for name, value in settings.items():
            await connection.execute(
                f"ALTER SYSTEM SET {name} = '{value}'" if value is not None else f"ALTER SYSTEM RESET {name}"
            )
    finally:
        await connection.close()


async def _registered(admin: asyncpg.Connection, projects: list[Any]) -> int:
    """Every project gets the agents of the first, and more until it has ten; how many there are."""
    columns = ", ".join(
        row["attname"]
        for row in await admin.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'bmad_agents'::regclass AND attnum > 0"
            " AND NOT attisdropped AND attname NOT IN ('project_id', 'id', 'name')"
        )
    )
    have = await admin.fetchval("SELECT count(*) FROM bmad_agents WHERE project_id = $1", projects[0])
    for number in range(have, AGENTS_EACH):
        await admin.execute(
            f"INSERT INTO bmad_agents (project_id, name, {columns}) SELECT project_id, $2::text, {columns}"
            " FROM bmad_agents WHERE project_id = $1 AND name = 'dev'",
            projects[0],
            f"dev-{number}",
        )
    await admin.execute(
        f"INSERT INTO bmad_agents (project_id, name, {columns}) SELECT p.id, a.name, {columns}"
        " FROM bmad_agents a CROSS JOIN unnest($2::uuid[]) AS p(id) WHERE a.project_id = $1",
        projects[0],
        projects[1:],
    )
    return int(await admin.fetchval("SELECT count(*) FROM bmad_agents"))


def measured(options: argparse.Namespace, place: Path, stack: ExitStack) -> dict[str, Any]:
    """Figures, seconds and costs by the number of tasks in the company, and the largest one at its limit."""
    sizes = [options.tasks // 10**step for step in reversed(range(options.sizes))]
    companies: dict[str, Company] = {}
    for size in sizes:
        told_with_time(f"{size:,} tasks in {max(size // TASKS_EACH, 1):,} projects")
        companies[str(size)] = Company(place / str(size), size, stack)
        told_with_time(f"{companies[str(size)].figures}")
    found: dict[str, Any] = {"calls": {size: {} for size in companies}, "costs": {size: {} for size in companies}}
    for operation in MEASURED:
        told_with_time(operation)
        ways = {size: (lambda one=one: one.call(operation)) for size, one in companies.items()}  # noqa: B023
        times: Times = in_turn(ways, options.rounds)
        for size, one in companies.items():
            found["calls"][size][operation] = times[size]
            found["costs"][size][operation] = one.cost(operation)
    for one in companies.values():
        one.figures |= {"MiB": one.memory(), "seconds to vacuum": asyncio.run(one.vacuumed())}
    found["sizes"] = {size: one.figures for size, one in companies.items()}
    largest = companies[str(sizes[-1])]
    told_with_time("agents at once")
    found["at once"] = saturation.measured(
        environment(largest.folder),
        largest.endpoints,
        Cluster(largest.root).data_folder,
        largest.asked,
        options.seconds,
    )
    return found


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.company", description=__doc__)
    options.add_argument("--tasks", type=int, default=1_000_000, help="tasks of the largest size (default 1000000)")
    options.add_argument("--sizes", type=int, default=3, help="how many, each a tenth of the next (default 3)")
    options.add_argument("--rounds", type=int, default=80, help="calls of each operation and size (default 80)")
    options.add_argument("--seconds", type=float, default=3.0, help="how long agents work at once (default 3)")
    options.add_argument("--place", type=Path, help="a folder for the databases, which are deleted at the end")
    chosen = options.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bmad-company-", dir=chosen.place) as folder, ExitStack() as stack:
        Path(folder).chmod(0o711)
        found = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": report.machine(),
            "command": f"python -m bench.company --tasks {chosen.tasks} --sizes {chosen.sizes} --rounds {chosen.rounds}",
        } | measured(chosen, Path(folder), stack)
    report.RESULTS.mkdir(exist_ok=True)
    (report.RESULTS / "company.json").write_text(json.dumps(found, indent=1) + "\n")
    told_with_time(f"took {time.monotonic() - began:.0f} s; `python -m bench.company_page` makes the page")


if __name__ == "__main__":
    main()
