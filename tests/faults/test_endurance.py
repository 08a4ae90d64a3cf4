"""Two hours of clients that come and go: memory stays flat, and nothing of them is left."""

import asyncio
import base64
import json
import os
import secrets
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest
from commands.command import CLEAN, succeeds
from data_dirs import new_data_dir
from faults.endurance import verdict
from faults.endurance.collector import forgetful_collector
from faults.endurance.load import IllService, Load, Tally
from faults.endurance.samples import Sampler
from server.http_process import HttpServer

from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.endpoints import ADMIN_ROLE

SECONDS = float(os.environ.get("BMAD_SOAK_SECONDS", "7200"))
SAMPLES = Path(os.environ.get("BMAD_SOAK_SAMPLES", "dist/endurance.json"))
PROJECT = "endurance"
PRINCIPALS = ("ann", "bob", "cleo", "dan")
# Idle connections of the pool are closed after minutes; the last one to go decides.
QUIET_SECONDS = 420.0


class Running:
    """A server with everything on, its PostgreSQL, and a sampler of both."""

    def __init__(self, folder: Path, stack: AsyncExitStack, turn: float) -> None:
        self._folder = folder
        self._stack = stack
        self._turn = turn

    async def start(self) -> None:
        stack = self._stack
        endpoints = stack.enter_context(Cluster(self._folder / "postgres"))
        service = await stack.enter_async_context(IllService(self._turn))
        collector = stack.enter_context(forgetful_collector())
        metrics = secrets.token_urlsafe(24)
        env = {
            **CLEAN,
            "PYTHONWARNINGS": "ignore",
            "BMAD_DATA_DIR": str(self._folder),
            "BMAD_TOOLSETS": "all",
            "BMAD_MEMORY_PROVIDER": "openmemory",
            "BMAD_MEMORY_URL": service.url,
            "BMAD_ENCRYPTION_KEYS": f"k1={base64.b64encode(secrets.token_bytes(32)).decode()}",
            "BMAD_METRICS_TOKEN": metrics,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        }
        self.server = HttpServer(env, "--project", PROJECT, "--port", "0", "--auth")
        stack.callback(self.server.kill)
        self.address = self.server.ready()
        self.tokens = [
            (
                await asyncio.to_thread(succeeds, env, "token", "create", one, "--scope", "write", "--project", PROJECT)
            ).strip()
            for one in PRINCIPALS
        ]
        self.service = service
        admin = await asyncpg.connect(**endpoints.connect_args(ADMIN_ROLE) | {"database": "postgres"})
        stack.push_async_callback(admin.close)
        client = httpx.AsyncClient(base_url=self.address, trust_env=False, timeout=30)
        await stack.enter_async_context(client)
        self.sampler = Sampler(self.server.process.pid, client, metrics, admin, endpoints.database)


async def endure(seconds: float, *, every: float, pause: float, turn: float, quiet: float) -> dict:
    """Run the load so long, and give what was found; it is in SAMPLES after each sample too."""
    async with AsyncExitStack() as stack:
        running = Running(stack.enter_context(new_data_dir()), stack, turn)
        await running.start()
        tally = Tally()
        load = Load(running.address, running.tokens, tally, pause=pause)
        await load.prepare()
        # What is made once, when the first clients come, is no leak.
        await load.run(min(60.0, seconds))
        await asyncio.sleep(quiet)
        tally.forget()
        found = {"seconds": seconds, "before": await running.sampler.take(), "samples": [], "after": {}}

        async def sample() -> None:
            while True:
                found["samples"].append({**await running.sampler.take(), "load": tally.latencies()})
                keep(found, tally, running)
                await asyncio.sleep(every)

        sampling = asyncio.create_task(sample())
        working = asyncio.create_task(load.run(seconds))
        await asyncio.wait({sampling, working}, return_when=asyncio.FIRST_COMPLETED)
        sampling.cancel()
        if sampling.done():
            working.cancel()
            await sampling
        await working
        until = time.monotonic() + quiet
        while True:
            await asyncio.sleep(min(10.0, quiet))
            found["after"] = await running.sampler.take()
            keep(found, tally, running)
            if time.monotonic() > until or not [w for w in verdict.judged(found)[1] if "everybody has left" in w]:
                break
        assert running.server.process.poll() is None
        found["stopped"] = running.server.stop()
        keep(found, tally, running)
        return found


def keep(found: dict, tally: Tally, running: Running) -> None:
    """Write all that is known, so that a run that is stopped has not been for nothing."""
    found |= {
        "unexpected": tally.unexpected,
        "texts": tally.texts,
        "outcomes": dict(tally.outcomes),
        "service": dict(running.service.moods),
        "told": running.server.told[-200:],
    }
    SAMPLES.parent.mkdir(exist_ok=True, parents=True)
    half = SAMPLES.with_suffix(".half")
    half.write_text(json.dumps(found))
    half.replace(SAMPLES)


def sample(at: float, **server: float) -> dict:
    """A sample of a server that holds little, changed as given."""
    held = {"rss": 9e4, "pss": 8e4, "uss": 7e4, "threads": 4, "tasks": 9, "listeners": 0, "pool_in_use": 0}
    more = {"files": {"all": 12, "socket": 7}, "calls": at, "calls_failed": 0, "jobs": 1, "jobs_not_ok": 0}
    postgres = {"heap": 5e4, "connections_all": 4, "locks_held": 0, "locks_waiting": 0}
    return {
        "at": at,
        "server": held | more | server,
        "postgres": postgres | {"idle_in_transaction_seconds": 0.0},
    }


@pytest.mark.parametrize(
    ("growing", "left", "unexpected", "told"),
    [
        (0.0, 0, 0, []),
        (0.02, 0, 0, []),
        (0.08, 0, 0, ["server uss is not flat"]),
        (0.0, 1, 0, ["tasks: 10 and not 9 when everybody has left"]),
        (0.0, 0, 1, ["unexpected errors:"]),
    ],
)
def test_the_verdict_tells_a_leak_from_a_level(growing, left, unexpected, told):
    samples = [sample(at, uss=7e4 * (1 + growing * at / 7200)) for at in range(0, 7230, 30)]
    found = {"samples": samples, "before": sample(0), "after": sample(7300, tasks=9 + left)}
    assert verdict.judged(found | {"unexpected": unexpected, "texts": []})[1] == told


@pytest.mark.soak
async def test_memory_is_flat_and_nothing_is_left_after_hours_of_clients_that_come_and_go():
    found = await endure(
        SECONDS, every=30.0 if SECONDS >= 900 else SECONDS / 30, pause=0.8, turn=30.0, quiet=min(QUIET_SECONDS, SECONDS)
    )
    lines, wrong = verdict.judged(found, min(verdict.WARM_UP_SECONDS, SECONDS / 3))
    sys.stdout.write("\n".join(lines) + "\n")
    assert not wrong, "\n".join(wrong)
    assert found["stopped"] == 0
