"""`make bench`: cold start and the latency of the core tools beside a no-op tool, interleaved."""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.wire import Child

NOOP = [sys.executable, str(Path(__file__).parent / "noop_server.py")]
OURS = [sys.executable, "-m", "bmad_mcp", "serve", "--project", "bench"]


def cold_start(command: list[str], env: dict[str, str]) -> float:
    """Seconds from the start of the process to the first answered tools/list."""
    child = Child(command, env)
    child.hello()
    child.request("tools/list", {})
    seconds = time.perf_counter() - child.started
    child.close()
    return seconds


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def latencies(env: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """Seconds of each tool call, one of each in turn."""
    noop, ours = Child(NOOP, env), Child(OURS, env)
    noop.hello()
    ours.hello()
    found: dict[str, list[float]] = {name: [] for name in ("no-op", "create", "get", "list", "claim", "complete")}
    ours.call("task_list")
    for number in range(rounds):
        found["no-op"].append(timed(lambda: noop.call("noop"))[0])
        seconds, task = timed(lambda: ours.call("task_create", title=f"Task {number}", agent="dev"))  # noqa: B023
        found["create"].append(seconds)
        key = task["task"]["key"]
        found["get"].append(timed(lambda: ours.call("task_get", task=key))[0])  # noqa: B023
        found["list"].append(timed(lambda: ours.call("task_list"))[0])
        seconds, claim = timed(lambda: ours.call("task_claim", agent="dev"))
        found["claim"].append(seconds)
        held, lease = claim["task"]["key"], claim["lease"]
        found["complete"].append(timed(lambda: ours.call("task_complete", task=held, lease=lease))[0])  # noqa: B023
    noop.close()
    ours.close()
    return found


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    options.add_argument("--starts", type=int, default=7, help="cold starts of each server (default 7)")
    options.add_argument("--rounds", type=int, default=200, help="calls of each tool (default 200)")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "BMAD_DATA_DIR": folder}
        # A process that stays keeps the database up, so that a start is a start of the server and not of PostgreSQL.
        keeper = Child(OURS, env)
        keeper.hello()
        keeper.call("task_list")
        starts: dict[str, list[float]] = {"no-op": [], "bmad-mcp": []}
        for number in range(chosen.starts + 1):
            for name, command in (("no-op", NOOP), ("bmad-mcp", OURS)):
                seconds = cold_start(command, env)
                if number:
                    starts[name].append(seconds)
        calls = latencies(env, chosen.rounds)
        keeper.close()
    report = {"cold start, s": starts, "call, s": calls}
    show("cold start to the first tools/list", starts, "no-op", 1.0, "s")
    show("one call over stdio", calls, "no-op", 1000.0, "ms")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "latest.json").write_text(json.dumps(report, indent=1))


def show(title: str, figures: dict[str, list[float]], yardstick: str, scale: float, unit: str) -> None:
    """Print a table of medians and their ratio to the yardstick."""
    base = statistics.median(figures[yardstick])
    print(f"\n{title}\n  {'':<12}{'median':>10}{'min':>10}{'max':>10}   ratio")  # noqa: T201
    for name, values in figures.items():
        middle = statistics.median(values)
        print(  # noqa: T201
            f"  {name:<12}{middle * scale:>8.2f}{unit}{min(values) * scale:>8.2f}{unit}{max(values) * scale:>8.2f}{unit}"
            f"{middle / base:>8.2f}"
        )


main()
