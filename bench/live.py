"""`python -m bench.live`: how soon a change of another process is seen, and what being followed costs those who claim."""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mcp_types import ResourceUpdatedNotification

from bmad_mcp.announcing import AnnouncingPool
from bmad_mcp.app import open_workspace
from bmad_mcp.call import Caller, OneProject, OpenProject
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.operation import perform
from bmad_mcp.server.changes import ChangeFeed
from bmad_mcp.settings import Settings
from tests.processes import assistant

WATCHED = "bmad://tasks/T-1"
PAUSE_SECONDS = 0.25
CONCURRENT = 16
VARIANTS = ("untold", "told", "followed")


async def latencies(env: dict[str, str], mode: str, rounds: int) -> list[float]:
    """Seconds from the call of one process to the notification at a client of another."""
    seen: asyncio.Queue[float] = asyncio.Queue()

    async def hear(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            seen.put_nowait(time.perf_counter())

    found = []
    async with (
        assistant(env, "bench", mode=mode, hear=hear) as ours,
        assistant(env, "bench") as writer,
        AsyncExitStack() as stack,
    ):
        reader = ours.client
        await writer("task_create", title="Watched")
        if mode == "legacy":
            await reader.subscribe_resource(WATCHED)  # type: ignore[deprecated,unused-ignore]
        else:
            stream = await stack.enter_async_context(reader.listen(resource_subscriptions=[WATCHED]))

            async def follow() -> None:
                async for _ in stream:
                    seen.put_nowait(time.perf_counter())

            following = asyncio.create_task(follow())
            stack.callback(following.cancel)
        for number in range(rounds):
            await asyncio.sleep(PAUSE_SECONDS)
            while not seen.empty():
                seen.get_nowait()
            began = time.perf_counter()
            await writer("task_update", task="T-1", note=f"Round {number}")
            found.append(await asyncio.wait_for(seen.get(), 30) - began)
    return found


async def claims(folder: Path, seconds: float, turns: int) -> dict[str, list[float]]:
    """Claim-and-release pairs a second by 16 at once: told to nobody, told, and followed."""
    found: dict[str, list[float]] = {one: [] for one in VARIANTS}

    async def hear(_: object) -> None: ...

    async with open_workspace(Settings(data_dir=folder, project="claims", database_url=None)) as workspace:
        opened = await workspace.project()
        for number in range(CONCURRENT * 2):
            await perform(
                BY_NAME["task_create"], {"title": f"Task {number}", "agent": "dev"}, Caller(), OneProject(opened)
            )
        feed = ChangeFeed(workspace.database.open_listener)
        for turn in range(turns + 1):
            for one in VARIANTS:
                async with AsyncExitStack() as stack:
                    if one == "untold":
                        stack.enter_context(patch.object(AnnouncingPool, "note_change", lambda *_: None))
                    if one == "followed":
                        await stack.enter_async_context(feed.following(opened.id, hear))
                    rate = await claim_rate(opened, seconds)
                # The first turn warms up.
                if turn:
                    found[one].append(rate)
    return found


async def claim_rate(opened: OpenProject, seconds: float) -> float:
    done, end = 0, time.perf_counter() + seconds

    async def work(number: int) -> None:
        nonlocal done
        caller = Caller("local", f"bench-{number}")
        while time.perf_counter() < end:
            held: Any = await perform(BY_NAME["task_claim"], {"agent": "dev"}, caller, OneProject(opened))
            given = {"task": held.task.key, "lease": held.lease, "status": "pending"}
            await perform(BY_NAME["task_update"], given, caller, OneProject(opened))
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(CONCURRENT)))
    return done / (time.perf_counter() - began)


def described(values: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    ordered = sorted(values)
    return {
        "p50_ms": round(statistics.median(ordered) * 1e3, 1),
        "p95_ms": round(statistics.quantiles(ordered, n=20)[-1] * 1e3, 1),
        "max_ms": round(ordered[-1] * 1e3, 1),
    }


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__)
    options.add_argument("--rounds", type=int, default=100, help="changes that are waited for, in each era")
    options.add_argument("--seconds", type=float, default=3, help="of claiming, in each turn")
    options.add_argument("--turns", type=int, default=5)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="bmad-bench-") as name:
        # Run as root, PostgreSQL's own user must be able to enter.
        folder = Path(name)
        folder.chmod(0o711)
        env = {**os.environ, "BMAD_DATA_DIR": name, "PYTHONWARNINGS": "ignore"}
        seen = {mode: described(asyncio.run(latencies(env, mode, chosen.rounds))) for mode in ("auto", "legacy")}
        rates = asyncio.run(claims(folder, chosen.seconds, chosen.turns))
    middle = {one: statistics.median(values) for one, values in rates.items()}
    told = {
        "seen by another process": seen,
        "claims a second, 16 at once": {one: round(value) for one, value in middle.items()},
        "ratio to untold": {one: round(value / middle["untold"], 3) for one, value in middle.items()},
    }
    sys.stdout.write(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
