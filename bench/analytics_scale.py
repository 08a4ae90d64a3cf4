"""`python -m bench.analytics_scale`: the numbers of a project with a million activities and 50,000 tasks.

The history is made up, the same each time, and put in by COPY: `--span` days of agents that work on workdays and
look things up, with the ids that the rows would have got at their moments. Each operation is then performed as a
client would have it, in turn, while nothing else runs; and a real Chromium opens the dashboard of a server.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from bench.pages import chromium, interactive, launched
from bench.servers import environment, ours_over_http
from bmad_mcp import migrate
from bmad_mcp.analytics.rollup import first_id, roll_up
from bmad_mcp.bmad_files.builtins import seed_builtins
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import open_pool
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.endpoints import ADMIN_ROLE
from bmad_mcp.operation import perform
from bmad_mcp.projects.open import open_project

AGENTS = ("dev", "dev", "dev", "dev", "qa", "qa", "sm", "po", "pm", "architect", "analyst", "ux")
OPERATIONS = {
    "task_update": 30, "task_claim": 14, "task_start": 8, "task_complete": 5, "memory_store": 8, "story_update": 8,
    "agent_activate": 6, "agent_deactivate": 6, "handoff_offer": 3, "handoff_accept": 3, "checklist_run": 3,
    "artifact_record": 2, "workflow_advance": 2, "gate_record": 1, "task_create": 1,
}  # fmt: skip
GATES = ("PASS", "PASS", "PASS", "CONCERNS", "FAIL", "WAIVED")
CLOSED_SHARE = 0.94
CANCELLED_SHARE = 0.02
OPEN_STORIES = ("draft", "ready", "in_progress", "review")
PROJECT = "scale"


class Size(NamedTuple):
    """How many rows of each kind, over how many days."""

    activities: int
    tasks: int
    span: int

    @property
    def stories(self) -> int:
        return self.tasks // 10

    @property
    def runs(self) -> int:
        return self.tasks // 50

    @property
    def handoffs(self) -> int:
        return self.tasks // 5

    @property
    def look_ups(self) -> int:
        return self.activities // 10


class History:
    """Rows of a made-up project, table by table, as COPY takes them."""

    def __init__(self, project: UUID, size: Size, now: datetime) -> None:
        self.project, self.size, self.now = project, size, now
        self._chance = random.Random(7)  # noqa: S311
        self._stories = [self._id(self._moment()) for _ in range(size.stories)]
        self._tasks: list[UUID] = []

    def _moment(self) -> datetime:
        """A moment of the span, most of them in the working hours of a workday; today has a whole day's already."""
        if self._chance.random() < 1 / self.size.span:
            midnight = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
            return self.now - (self.now - midnight) * self._chance.random()
        while True:
            found = self.now - timedelta(seconds=self._chance.random() * self.size.span * 86_400)
            weight = 1.0 if found.weekday() < 5 and 7 <= found.hour < 18 else 0.15
            if self._chance.random() < weight:
                return found

    def _id(self, moment: datetime) -> UUID:
        return UUID(int=first_id(moment).int | self._chance.getrandbits(62))

    def tables(self) -> Iterator[tuple[str, tuple[str, ...], Iterable[tuple[Any, ...]]]]:
        """Table, columns and rows, in an order that the foreign keys allow."""
        epic = self._id(self.now - timedelta(days=self.size.span))
        yield "bmad_epics", ("project_id", "id", "key", "number", "title"), [(self.project, epic, "1", 1, "All")]
        yield (
            "bmad_stories",
            ("project_id", "id", "epic_id", "key", "epic_number", "number", "title", "status", "raw_status", "created_at",
             "completed_at"),
            self._story_rows(epic),
        )  # fmt: skip
        yield (
            "bmad_tasks",
            ("project_id", "id", "number", "title", "description", "status", "agent", "lease_agent", "lease_until",
             "story_id", "quality", "created_at", "started_at", "completed_at", "updated_at"),
            self._task_rows(),
        )  # fmt: skip
        yield from self._run_tables()
        yield (
            "bmad_agent_collaborations",
            (
                "project_id",
                "id",
                "number",
                "from_agent",
                "to_agent",
                "task_id",
                "note",
                "status",
                "created_at",
                "accepted_at",
            ),
            self._handoff_rows(),
        )
        yield (
            "bmad_memory_integrations",
            ("project_id", "id", "direction", "provider", "agent", "outcome", "items", "latency_ms", "created_at"),
            self._look_up_rows(),
        )
        yield (
            "bmad_agent_activity",
            ("project_id", "id", "at", "operation", "subject", "agent", "principal", "call_id", "detail"),
            self._activity_rows(),
        )

    def _story_rows(self, epic: UUID) -> Iterator[tuple[Any, ...]]:
        for number, story in enumerate(self._stories, start=1):
            made = self._moment()
            done = made + timedelta(hours=self._chance.expovariate(1 / 60))
            status = "done" if done < self.now else self._chance.choice(OPEN_STORIES)
            if self._chance.random() < CANCELLED_SHARE:
                status = "cancelled"
            # What the file said when it was imported; some were changed since.
            word = status if self._chance.random() < 0.9 else self._chance.choice(OPEN_STORIES)
            yield (self.project, story, epic, f"1.{number}", 1, number, f"Story {number} of those that make the product",
                   status, word, made, done if status == "done" else None)  # fmt: skip

    def _task_rows(self) -> Iterator[tuple[Any, ...]]:
        for number in range(1, self.size.tasks + 1):
            made, agent = self._moment(), self._chance.choice(AGENTS)
            started = made + timedelta(hours=self._chance.expovariate(1 / 20))
            ended = started + timedelta(hours=self._chance.lognormvariate(0.7, 1.1))
            status = "completed" if self._chance.random() < CLOSED_SHARE else self._chance.choice(
                ("cancelled", "pending", "pending", "pending", "in_progress", "review", "blocked"))  # fmt: skip
            if (status == "completed" and ended > self.now) or started > self.now:
                status = "pending"
            is_begun, is_done = status not in ("pending", "cancelled"), status == "completed"
            quality = self._chance.randint(60, 100) if is_done and self._chance.random() < 0.7 else None
            self._tasks.append(self._id(made))
            yield (self.project, self._tasks[-1], number, f"Task {number} of the sprint", "What is to be done. " * 10,
                   status, agent, agent if is_begun else None,
                   self.now + timedelta(hours=1) if status == "in_progress" else None, self._chance.choice(self._stories), quality, made,
                   started if is_begun else None, ended if is_done else None, ended if is_done else made)  # fmt: skip

    def _run_tables(self) -> Iterator[tuple[str, tuple[str, ...], Iterable[tuple[Any, ...]]]]:
        runs, stages = [], []
        for number in range(1, self.size.runs + 1):
            clock = began = self._moment()
            run, definition = (
                self._id(began),
                self._chance.choice(("greenfield-fullstack", "brownfield-service", "own")),
            )
            for position in range(1, 13):
                ended = clock + timedelta(hours=self._chance.expovariate(1 / (8 if position != 7 else 40)))
                is_done = ended < self.now
                stages.append((self.project, self._id(clock), run, position, "agent", self._chance.choice(AGENTS),
                               f"document-{position}.md", "done" if is_done else "active", clock,
                               ended if is_done else None))  # fmt: skip
                clock = ended
                if not is_done:
                    break
            is_done = clock < self.now
            runs.append((self.project, run, number, "custom", definition, "Run", "completed" if is_done else "active",
                         began, clock if is_done else None))  # fmt: skip
        yield (
            "bmad_workflows",
            ("project_id", "id", "number", "type", "definition", "title", "status", "started_at", "completed_at"),
            runs,
        )
        yield (
            "bmad_workflow_stages",
            ("project_id", "id", "workflow_id", "position", "kind", "agent", "creates", "status", "started_at",
             "completed_at"),
            stages,
        )  # fmt: skip

    def _handoff_rows(self) -> Iterator[tuple[Any, ...]]:
        for number in range(1, self.size.handoffs + 1):
            offered = self._moment()
            taken = offered + timedelta(hours=self._chance.expovariate(1 / 3))
            is_taken = taken < self.now and self._chance.random() < 0.95
            yield (self.project, self._id(offered), number, *self._chance.sample(("dev", "qa", "sm", "po"), 2),
                   self._chance.choice(self._tasks), "Please go on.", "accepted" if is_taken else "offered", offered,
                   taken if is_taken else None)  # fmt: skip

    def _look_up_rows(self) -> Iterator[tuple[Any, ...]]:
        for _ in range(self.size.look_ups):
            moment, items = self._moment(), self._chance.choice((0, 1, 3, 5))
            yield (self.project, self._id(moment), "recall", self._chance.choice(("builtin", "openmemory")),
                   self._chance.choice(AGENTS), "found" if items else "nothing", items, self._chance.random() * 40,
                   moment)  # fmt: skip

    def _activity_rows(self) -> Iterator[tuple[Any, ...]]:
        names, weights = list(OPERATIONS), list(OPERATIONS.values())
        for operation in self._chance.choices(names, weights, k=self.size.activities):
            moment = self._moment()
            row_id = self._id(moment)
            detail = {"gate": self._chance.choice(GATES)} if operation == "gate_record" else {"note": "went on with it"}
            yield (self.project, row_id, moment, operation, f"task T-{self._chance.randint(1, self.size.tasks)}",
                   self._chance.choice(AGENTS), self._chance.choice(("ann", "bob", "local")), row_id.hex, detail)  # fmt: skip


async def fill(cluster_admin: dict[str, Any], history: History) -> None:
    """COPY the history in; only a superuser may COPY into tables with row-level security."""
    connection = await asyncpg.connect(**cluster_admin)
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_jsonb, decoder=bytes, format="binary")
    for suffix, start, end in migrate.month_bounds(
        history.now - timedelta(days=history.size.span), history.size.span // 30 + 1
    ):
        partition = f"bmad_agent_activity_{suffix}"
        if await connection.fetchval("SELECT to_regclass($1) IS NULL", partition):
            await connection.execute(
                f"CREATE TABLE {partition} PARTITION OF bmad_agent_activity"
                f" FOR VALUES FROM ('{start} 00:00+00') TO ('{end} 00:00+00')"
            )
    for table, columns, rows in history.tables():
        began = time.perf_counter()
        status = await connection.copy_records_to_table(table, columns=list(columns), records=rows)
        print(f"{table:<28}{status.split()[-1]:>10} rows in {time.perf_counter() - began:5.1f} s")  # noqa: T201
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def _jsonb(value: Any) -> bytes:
    # What COPY takes for jsonb is its version and its text.
    return b"\x01" + json.dumps(value).encode()


CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("analytics_overview", {}),
    ("analytics_overview", {"days": 7}),
    ("analytics_overview", {"days": 90}),
    ("analytics_overview", {"days": 366}),
    ("agent_analytics", {"agent": "dev"}),
    ("workflow_analytics", {}),
    ("activity_list", {}),
    ("activity_list", {"agent": "qa"}),
    ("project_status", {}),
    ("project_board", {}),
    ("project_drift", {}),
    ("epic_burnup", {}),
    ("health", {}),
)


class Workspace(NamedTuple):
    """The project for calls."""

    opened: OpenProject

    async def project(self) -> OpenProject:
        return self.opened

    async def mend(self) -> bool:
        return False


async def measured(app: dict[str, Any], admin: dict[str, Any], size: Size, rounds: int) -> None:
    """Make the project, put the history in, and time rolling up and each call."""
    pool = await open_pool(**app)
    async with pool.acquire() as connection:
        project_id, _ = await open_project(connection, PROJECT, PROJECT)
    opened = OpenProject(project_id, PROJECT, pool)
    await seed_builtins(opened)
    await fill(admin, History(project_id, size, datetime.now(UTC)))
    for told in ("roll up all", "roll up again"):
        began = time.perf_counter()
        await roll_up(pool, project_id)
        print(f"{told:<28}{time.perf_counter() - began:>18.2f} s")  # noqa: T201
    seconds: dict[str, list[float]] = {}
    for turn in range(rounds + 3):
        for name, arguments in CALLS:
            began = time.perf_counter()
            await perform(BY_NAME[name], arguments, Caller(), Workspace(opened))
            # The first turns fill caches and prepare statements.
            if turn >= 3:
                told = " ".join((name, *(f"{key}={value}" for key, value in arguments.items())))
                seconds.setdefault(told, []).append(time.perf_counter() - began)
    print(f"\n{'':<28}{'p50 ms':>10}{'p95 ms':>10}{'max ms':>10}")  # noqa: T201
    for told, times in seconds.items():
        tell(told, times)
    await pool.close()


def tell(name: str, times: Sequence[float]) -> None:
    """One line of the table."""
    cuts = statistics.quantiles(times, n=20, method="inclusive")
    print(f"{name:<28}{cuts[9] * 1000:>10.1f}{cuts[18] * 1000:>10.1f}{max(times) * 1000:>10.1f}")  # noqa: T201


async def page(folder: Path, program: str, rounds: int) -> None:
    """Time the board in a browser, on a server of its own."""
    with ours_over_http(environment(folder), PROJECT) as (port, _):
        async with launched(program) as browser:
            tell("page interactive", await interactive(browser, f"http://127.0.0.1:{port}", rounds))


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.analytics_scale", description=__doc__)
    options.add_argument("--activities", type=int, default=1_000_000, help="rows of the trail (default 1000000)")
    options.add_argument("--tasks", type=int, default=50_000, help="tasks (default 50000)")
    options.add_argument("--span", type=int, default=90, help="days of history (default 90)")
    options.add_argument("--rounds", type=int, default=40, help="times each call is made (default 40)")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="bmad-bench-") as folder:
        # Run as root, PostgreSQL's own user must be able to enter.
        Path(folder).chmod(0o711)
        with Cluster(Path(folder) / "postgres") as endpoints:
            owner, app, admin = (
                endpoints.connect_args(role) for role in (endpoints.owner_role, endpoints.app_role, ADMIN_ROLE)
            )
            migrate.upgrade("postgresql://", **owner)
            size = Size(chosen.activities, chosen.tasks, chosen.span)
            asyncio.run(measured(app, admin, size, chosen.rounds))
            program = chromium()
            if program is not None:
                asyncio.run(page(Path(folder), program, chosen.rounds))


if __name__ == "__main__":
    main()
