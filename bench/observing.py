"""`python -m bench.observing`: what measuring costs a call – code without it, off, with metrics, with spans – interleaved."""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from bmad_mcp import db, operation
from bmad_mcp.app import open_workspace
from bmad_mcp.call import Caller, OneProject
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.operation import perform
from bmad_mcp.server.metrics.instruments import Instruments
from bmad_mcp.settings import Settings
from bmad_mcp.telemetry import events, tracing

VARIANTS = ("without", "off", "metrics", "spans")
WARM_UP = 50
CALLS = (("task_list", {}), ("task_create", {"title": "Bench"}))


class Nowhere(SpanExporter):
    """Takes spans as fast as it gets them."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class NotRecorded:
    """Stands for the recording of a call where there is none."""

    def __init__(self, name: str, principal: str) -> None:
        self.record = events.CallRecord(name, principal)

    def __enter__(self) -> events.CallRecord:
        return self.record

    def __exit__(self, *_: object) -> None: ...


@contextmanager
def variant(name: str, instruments: Instruments, provider: TracerProvider) -> Iterator[None]:
    """The process as it is when this much is measured."""
    with ExitStack() as stack:
        if name == "without":
            stack.enter_context(patch.object(operation, "recorded_call", NotRecorded))
        if name == "metrics":
            stack.enter_context(events.observed_by(instruments))
        if name == "spans":
            tracing.use_tracer(provider)
            stack.callback(tracing.use_tracer, None)
            stack.enter_context(provider.get_tracer("bench").start_as_current_span("tools/call"))
        yield


async def measure(folder: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by operation and variant, one of each in turn."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    instruments = Instruments()
    found: dict[str, dict[str, list[float]]] = {name: {one: [] for one in VARIANTS} for name, _ in CALLS}
    async with open_workspace(Settings(data_dir=folder, project="bench", database_url=None)) as workspace:
        opened = await workspace.project()
        # A pool each, so that every variant has connections of the same age and use.
        pools = {one: await workspace.database.open_pool() for one in VARIANTS[1:]}
        with patch.object(db, "ObservedConnection", asyncpg.Connection):
            pools[VARIANTS[0]] = await workspace.database.open_pool()
        for number in range(rounds + WARM_UP):
            # Each goes first in its turn: what comes first finds colder caches.
            for one in VARIANTS[number % 4 :] + VARIANTS[: number % 4]:
                project = OneProject(replace(opened, pool=pools[one]))
                for name, arguments in CALLS:
                    with variant(one, instruments, provider):
                        began = time.perf_counter()
                        await perform(BY_NAME[name], arguments, Caller(), project)
                        taken = time.perf_counter() - began
                    if number >= WARM_UP:
                        found[name][one].append(taken)
        for pool in pools.values():
            await pool.close()
    return found


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.observing", description=__doc__)
    options.add_argument("--rounds", type=int, default=1000)
    rounds = options.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="bmad-bench-") as name:
        # Run as root, PostgreSQL's own user must be able to enter.
        folder = Path(name)
        folder.chmod(0o711)
        found = asyncio.run(measure(folder, rounds))
    told = {
        name: {
            one: {
                "p50_us": round(statistics.median(taken) * 1e6),
                "p95_us": round(statistics.quantiles(taken, n=20)[-1] * 1e6),
            }
            for one, taken in variants.items()
        }
        for name, variants in found.items()
    }
    sys.stdout.write(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
