"""Figures of the database and of its projects, read again when they are old and never while somebody waits for a call."""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import asyncpg
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric

from bmad_mcp.analytics import rollup_queries
from bmad_mcp.analytics.figures import AnalyticsOverview
from bmad_mcp.analytics.overview import overview_of
from bmad_mcp.analytics.rollup import id_after
from bmad_mcp.analytics.window import Window
from bmad_mcp.call import Caller, OneProject, OpenProject, Workspace, open_call
from bmad_mcp.db import DATABASE_FAILURES
from bmad_mcp.errors import BmadError
from bmad_mcp.jobs.known import JOBS
from bmad_mcp.jobs.schedule import State, read_states, schedule_transaction
from bmad_mcp.server.metrics import metrics_queries as queries
from bmad_mcp.server.metrics.project_gauges import ProjectGauges

logger = logging.getLogger("bmad_mcp.metrics")

# Long enough to tell a trend, short enough to follow what people do.
WINDOW_DAYS = 7
# A reader waits so long for figures that are just being read; then it gets those of last time.
PATIENCE_SECONDS = 2.0
CALLER = Caller("metrics", "metrics", "system")


class Figures:
    """Collects for a registry. `most` projects, the served one first; `interval` is how old, in seconds, they may be."""

    def __init__(self, workspace: Workspace, registry: CollectorRegistry, *, most: int, interval: float) -> None:
        self._workspace = workspace
        self._most = most
        self._interval = interval
        self._families: Sequence[Metric] = ()
        self._refreshed = 0.0
        self._tried: float | None = None
        self._failures = 0
        self._refreshing: asyncio.Task[None] | None = None
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """The figures of last time, and how old they are."""
        yield GaugeMetricFamily(
            "bmad_figures_timestamp_seconds",
            "When the figures of database and projects were read; 0: not yet.",
            self._refreshed,
        )
        yield GaugeMetricFamily(
            "bmad_figures_failures", "Tries in a row in which they could not be read.", self._failures
        )
        yield from self._families

    async def keep_fresh(self) -> None:
        """Read the figures when they are old, once for all who ask, and wait a moment for them."""
        is_old = self._tried is None or time.monotonic() - self._tried >= self._interval
        if is_old and (self._refreshing is None or self._refreshing.done()):
            self._tried = time.monotonic()
            self._refreshing = asyncio.create_task(self._refresh())
        if self._refreshing is not None:
            await asyncio.wait({self._refreshing}, timeout=PATIENCE_SECONDS)

    def stop(self) -> None:
        """Leave no reading behind."""
        if self._refreshing is not None:
            self._refreshing.cancel()

    async def _refresh(self) -> None:
        try:
            families = await self._read()
        except (BmadError, TimeoutError, *DATABASE_FAILURES) as error:
            self._failures += 1
            logger.warning("The figures of the projects cannot be read: %s", type(error).__name__)
            return
        self._families, self._refreshed, self._failures = families, time.time(), 0

    async def _read(self) -> list[Metric]:
        opened = await self._workspace.project()
        async with schedule_transaction(opened.pool) as connection:
            rows = await connection.fetch(queries.PROJECTS, opened.id, self._most)
            states = await read_states(connection, JOBS)
            queue = await connection.fetchrow(queries.QUEUE)
            known = await connection.fetchval(queries.HOW_MANY)
        found = _of_database(queue, states)
        found.append(GaugeMetricFamily("bmad_projects", "Projects of the database.", known))
        gauges = ProjectGauges(WINDOW_DAYS)
        for row in rows:
            # Figures hold no texts, so nothing has to be decrypted for them.
            project = replace(opened, id=row["id"], key=row["key"], vault=None)
            try:
                gauges.add(row["key"], *await _of_project(project))
            except asyncpg.QueryCanceledError:
                # The others have their figures all the same.
                logger.warning("The figures of %s take too long and are left out", row["key"])
        return [*found, *gauges.families()]


async def _of_project(project: OpenProject) -> tuple[AnalyticsOverview, Any]:
    async with open_call(OneProject(project), CALLER, "metrics") as call:
        state = await call.db.fetchrow(rollup_queries.STATE)
        overview = await overview_of(call, Window(WINDOW_DAYS, state["now"]), id_after(state["rolled_until"]))
        return overview, await call.db.fetchrow(queries.MEMORIES)


def _of_database(queue: Any, states: Iterable[State]) -> list[Metric]:
    jobs = GaugeMetricFamily("bmad_queue_jobs", "Jobs of the delivery queue, by status.", labels=["status"])
    for status, count in queue["jobs"].items():
        jobs.add_metric([status], count)
    failing = GaugeMetricFamily("bmad_jobs_failing", "Projects in which a job's last run failed.", labels=["job_name"])
    success = GaugeMetricFamily(
        "bmad_job_last_success_timestamp_seconds",
        "When a job last ran well, in the project where that is longest ago; failing ones are left out.",
        labels=["job_name"],
    )
    by_job: dict[str, list[State]] = {}
    for state in states:
        by_job.setdefault(state.unit.job.name, []).append(state)
    for job, found in by_job.items():
        failing.add_metric([job], sum(1 for state in found if state.failures))
        ended = [state.ended_at for state in found if state.ended_at is not None and not state.failures]
        if ended:
            success.add_metric([job], min(ended).timestamp())
    return [
        GaugeMetricFamily("bmad_database_size_bytes", "Size of the database.", queue["size_bytes"]),
        GaugeMetricFamily(
            "bmad_queue_oldest_due_seconds", "How long the oldest due job of the queue waits.", queue["oldest_seconds"]
        ),
        jobs,
        failing,
        success,
    ]
