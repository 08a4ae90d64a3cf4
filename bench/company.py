"""`python -m bench.company`: what a call costs as a whole company grows – projects, agents and tasks – and how it grows.

Each size has a PostgreSQL of its own, so that all sizes are measured in turn. A project has 2,000 tasks and ten agents;
the calls go to one project after the other, as the agents of a company do, and most find no page in a cache.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.growth import OPERATIONS
from bench.report import RESULTS
from bench.seeding import seeded
from bench.series import Times, in_turn, low, median, slope
from bench.servers import environment, ours
from bench.wire import Child
from bench.work import Work
from bmad_mcp import migrate
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.endpoints import ADMIN_ROLE

TASKS_EACH = 2_000
AGENTS_EACH = 10
# A server works in one project; so many of them are asked in turn.
ASKED = 4
STEPS = 3


class Company:
    """A database with so many projects, and servers in some of them."""

    def __init__(self, folder: Path, projects: int, stack: ExitStack) -> None:
        folder.mkdir()
        folder.chmod(0o711)
        endpoints = stack.enter_context(Cluster(folder / "postgres"))
        migrate.upgrade("postgresql://", **endpoints.owner_connect())
        admin = endpoints.connect_args(ADMIN_ROLE) | {"database": endpoints.database}
        keys = [f"project-{number}" for number in range(projects)]
        asyncio.run(seeded(endpoints.app_connect(), admin, dict.fromkeys(keys, TASKS_EACH)))
        self._turn = 0
        self._works: list[dict[str, Callable[[], Any]]] = []
        for key in keys[:: max(projects // ASKED, 1)][:ASKED]:
            child = Child(ours(key), environment(folder))
            stack.callback(child.close)
            child.hello()
            self._works.append(Work(child.call).ways())

    def call(self, operation: str) -> None:
        self._turn += 1
        self._works[self._turn % len(self._works)][operation]()


def measured(tasks: int, rounds: int) -> dict[int, dict[str, list[float]]]:
    """Seconds by tasks in the company and operation."""
    sizes = [tasks // 10**step for step in reversed(range(STEPS))]
    with tempfile.TemporaryDirectory(prefix="bmad-company-") as place, ExitStack() as stack:
        Path(place).chmod(0o711)
        companies = {}
        for size in sizes:
            sys.stderr.write(f"{size // TASKS_EACH} projects, {size:,} tasks …\n")
            companies[str(size)] = Company(Path(place) / str(size), max(size // TASKS_EACH, 1), stack)
        found: dict[int, dict[str, list[float]]] = {size: {} for size in sizes}
        for operation in OPERATIONS:
            ways = {size: (lambda one=one: one.call(operation)) for size, one in companies.items()}  # noqa: B023
            times: Times = in_turn(ways, rounds)
            for size in sizes:
                found[size][operation] = times[str(size)]
        return found


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.company", description=__doc__)
    options.add_argument("--tasks", type=int, default=1_000_000, help="tasks of the largest size (default 1000000)")
    options.add_argument("--rounds", type=int, default=80, help="calls of each operation and size (default 80)")
    chosen = options.parse_args()
    found = measured(chosen.tasks, chosen.rounds)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "company.json").write_text(json.dumps(found, indent=1))
    largest = max(found)
    sys.stdout.write(
        f"{largest // TASKS_EACH} projects, {largest // TASKS_EACH * AGENTS_EACH:,} agents, {largest:,} tasks;"
        " p10 / median in ms, slope of p10\n"
    )
    sys.stdout.write(f"{'tasks':<16}{''.join(f'{size:>18,}' for size in found)}{'slope':>10}\n")
    for operation in OPERATIONS:
        cells = "".join(
            f"{f'{low(one[operation]) * 1000:.2f} / {median(one[operation]) * 1000:.2f}':>18}" for one in found.values()
        )
        grown = slope([(size, low(one[operation])) for size, one in found.items()])
        sys.stdout.write(f"{operation:<16}{cells}{grown:>+10.3f}\n")


if __name__ == "__main__":
    main()
