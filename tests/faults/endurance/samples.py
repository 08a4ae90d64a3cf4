"""What a server process and its PostgreSQL hold at a moment, as /proc, /metrics and the database tell it."""

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from server.metrics_reader import scrape

from bench.wire import processor_seconds

# Backends of clients, whichever role they have; `age` in seconds.
BACKENDS = """
SELECT pid, coalesce(state, '-') AS state, backend_type, datname = $1 AND pid <> pg_backend_pid() AS is_ours,
    CASE WHEN state LIKE 'idle in transaction%' THEN extract(epoch FROM now() - state_change)::float8 END AS idle_age,
    extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age
FROM pg_stat_activity
"""
LOCKS = """
SELECT count(*) FILTER (WHERE granted) AS held, count(*) FILTER (WHERE NOT granted) AS waiting
FROM pg_locks WHERE pid <> pg_backend_pid() AND database = (SELECT oid FROM pg_database WHERE datname = $1)
"""


def memory_kib(pid: int) -> dict[str, int]:
    """What the process holds in KiB: resident, its share of it (pss), what is its alone (uss), and its own heap."""
    found: Counter[str] = Counter()
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        found[name.rstrip(":")] += int(value)
    return {
        "rss": found["Rss"],
        "pss": found["Pss"],
        "uss": found["Private_Clean"] + found["Private_Dirty"],
        "heap": found["Anonymous"],
    }


def open_files(pid: int) -> dict[str, int]:
    """How many descriptors the process has open, by kind."""
    kinds: Counter[str] = Counter()
    for one in os.scandir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(one.path)
        except FileNotFoundError:
            continue
        kinds["socket" if target.startswith("socket:") else "pipe" if target.startswith("pipe:") else "other"] += 1
    return {**kinds, "all": kinds.total()}


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


class Sampler:
    """Takes one sample after the other of a server; `admin` is a superuser's connection to its PostgreSQL."""

    def __init__(self, pid: int, client: httpx.AsyncClient, token: str, admin: asyncpg.Connection, name: str) -> None:
        self._pid = pid
        self._client = client
        self._token = token
        self._admin = admin
        self._database = name
        self._began = time.monotonic()

    async def take(self) -> dict[str, Any]:
        """One sample, ready for JSON; memory in KiB, times in seconds."""
        rows = await self._admin.fetch(BACKENDS, self._database)
        locks = await self._admin.fetchrow(LOCKS, self._database)
        postgres = []
        for row in rows:
            try:
                postgres.append(memory_kib(row["pid"]))
            except (FileNotFoundError, ProcessLookupError):
                continue
        ours = [row for row in rows if row["is_ours"] and row["backend_type"] == "client backend"]
        page = await scrape(self._client, {"authorization": f"Bearer {self._token}"})
        value = page.value
        return {
            "at": round(time.monotonic() - self._began, 1),
            "server": {
                **memory_kib(self._pid),
                "cpu_seconds": processor_seconds(self._pid),
                "threads": threads(self._pid),
                "files": open_files(self._pid),
                "tasks": value("bmad_event_loop_tasks"),
                "listeners": value("bmad_listeners"),
                "pool_in_use": value("bmad_pool_connections", state="in_use"),
                "pool_idle": value("bmad_pool_connections", state="idle"),
                "pool_waiting": value("bmad_pool_waiting"),
                "calls": value("bmad_calls_total"),
                "calls_failed": value("bmad_calls_total", outcome="error"),
                "jobs": value("bmad_job_duration_seconds_count"),
                "jobs_not_ok": value("bmad_job_duration_seconds_count")
                - value("bmad_job_duration_seconds_count", outcome="ok"),
                "metrics_series": len(page.samples),
            },
            "postgres": {
                "processes": len(postgres),
                "pss": sum(one["pss"] for one in postgres),
                "uss": sum(one["uss"] for one in postgres),
                "heap": sum(one["heap"] for one in postgres),
                "connections": dict(Counter(row["state"] for row in ours)),
                "connections_all": len(ours),
                "idle_in_transaction_seconds": max((row["idle_age"] or 0.0 for row in ours), default=0.0),
                "transaction_seconds": max((row["age"] or 0.0 for row in ours), default=0.0),
                "locks_held": locks["held"],
                "locks_waiting": locks["waiting"],
                "size_bytes": value("bmad_database_size_bytes"),
            },
            "queue": {
                "jobs": value("bmad_queue_jobs"),
                "oldest_seconds": value("bmad_queue_oldest_due_seconds"),
            },
        }
