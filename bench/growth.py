"""`python -m bench.growth`: what an operation costs as a project, or the number of projects, grows."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from bench.seeding import seeded, told_with_time
from bench.series import Times, in_turn, low, median, slope
from bench.servers import environment, ours
from bench.wire import Child
from bench.work import Work
from bmad_mcp import migrate
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.endpoints import ADMIN_ROLE

OPERATIONS = ("create", "get", "list", "list by status", "list ready", "next", "claim", "heartbeat", "complete",
              "set status", "project status")  # fmt: skip


def measured(env: dict[str, str], projects: dict[str, int], rounds: int) -> dict[str, Times]:
    """Seconds by operation and project, all projects in turn, each with a server of its own."""
    children = {key: Child(ours(key), env) for key in projects}
    try:
        ways: dict[str, dict[str, object]] = {name: {} for name in OPERATIONS}
        for key, child in children.items():
            child.hello()
            for name, way in Work(child.call).ways().items():
                ways[name][key] = way
        return {name: in_turn(by_project, rounds) for name, by_project in ways.items()}  # type: ignore[arg-type]
    finally:
        for child in children.values():
            child.close()


def fitted(times: dict[str, Times], sizes: dict[str, int]) -> dict[str, dict[str, float]]:
    """By operation: the median of the largest against the smallest, the same of the tenth percentiles, and the slope."""
    smallest, largest = min(sizes, key=lambda key: sizes[key]), max(sizes, key=lambda key: sizes[key])
    return {
        name: {
            "ratio": median(by_project[largest]) / median(by_project[smallest]),
            "ratio of p10": low(by_project[largest]) / low(by_project[smallest]),
            "slope": slope([(sizes[key], low(by_project[key])) for key in sizes]),
        }
        for name, by_project in times.items()
    }


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    options.add_argument("--tasks", type=int, default=1_000_000, help="of the large project, beside one of 1000")
    options.add_argument("--rounds", type=int, default=200, help="calls of each operation (default 200)")
    chosen = options.parse_args()
    sizes = {"small": 1_000, "large": chosen.tasks}
    with tempfile.TemporaryDirectory(prefix="bmad-growth-") as place:
        Path(place).chmod(0o711)
        with Cluster(Path(place) / "postgres") as endpoints:
            migrate.upgrade("postgresql://", **endpoints.owner_connect())
            admin = endpoints.connect_args(ADMIN_ROLE) | {"database": endpoints.database}
            asyncio.run(seeded(endpoints.app_connect(), admin, sizes, told_with_time))
            times = measured(environment(Path(place)), sizes, chosen.rounds)
    for name, fit in fitted(times, sizes).items():
        small, large = (low(times[name][key]) * 1000 for key in sizes)
        sys.stdout.write(
            f"{name:<16}{small:>8.2f} ms {large:>8.2f} ms  median x{fit['ratio']:.2f}  p10 x{fit['ratio of p10']:.2f}\n"
        )


if __name__ == "__main__":
    main()
