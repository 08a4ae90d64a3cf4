"""health: whether database, schema, memory and queue are well."""

import time
from datetime import datetime
from typing import Literal

from bmad_mcp import __version__
from bmad_mcp.analytics import health_queries
from bmad_mcp.analytics.figures import whole
from bmad_mcp.call import Call
from bmad_mcp.memory.embedder import in_a_sentence
from bmad_mcp.migrations_folder import newest_revision
from bmad_mcp.schema_version import version_of
from bmad_mcp.shapes import Out

# A job that waits longer than this has nobody who works on it.
QUEUE_LATE_SECONDS = 300

Word = Literal["ok", "attention"]


class DatabaseHealth(Out):
    """The database answered: its version, how long the question took, its size."""

    status: Word
    server_version: str
    answer_ms: float
    size_bytes: int
    read_only: bool


class MigrationsHealth(Out):
    """The schema's revision and the one that this version needs."""

    status: Word
    revision: str
    needed: str


class LastLookUp(Out):
    """The latest look-up in the memory: who answered and how it ended."""

    provider: str
    outcome: str
    at: datetime


class MemoryHealth(Out):
    """What serves (null: nobody has asked yet), whether vectors are on, deliveries that wait or were given up, and the
    latest look-up.
    """

    status: Word
    provider: str | None
    vectors: str
    waiting_count: int
    given_up_count: int
    last_lookup: LastLookUp | None


class QueueHealth(Out):
    """Jobs of the whole server by status, and how long the oldest due one waits."""

    status: Word
    jobs: dict[str, int]
    oldest_due_seconds: int | None
    metrics_age_seconds: int | None


class Health(Out):
    """Each part with `ok` or `attention`; `status` is the worst of them."""

    status: Word
    database: DatabaseHealth
    migrations: MigrationsHealth
    memory: MemoryHealth
    queue: QueueHealth
    version: str


async def health(call: Call) -> Health:
    """Read whether database, schema, memory and queue are well; `bmad-mcp doctor` says how to mend them."""
    # The first statement opens the transaction; only the question itself is timed.
    await call.db.execute("SELECT 1")
    began = time.perf_counter()
    row = await call.db.fetchrow(health_queries.HEALTH)
    taken = round((time.perf_counter() - began) * 1000, 1)
    needed, late = newest_revision(), (row["oldest_seconds"] or 0) > QUEUE_LATE_SECONDS
    database = DatabaseHealth(
        status="ok",
        server_version=row["server_version"],
        answer_ms=taken,
        size_bytes=row["size_bytes"],
        read_only=row["read_only"],
    )
    version = version_of((row["revision"], row["revision_note"]))
    migrations = MigrationsHealth(status=_word(version.serves_this), revision=row["revision"], needed=needed)
    memory = MemoryHealth(
        status=_word(row["given_up"] == 0),
        provider=_provider(call),
        vectors=in_a_sentence(call.embedder),
        waiting_count=row["waiting"],
        given_up_count=row["given_up"],
        last_lookup=LastLookUp(**row["last"]) if row["last"] else None,
    )
    rolled_until = row["rolled_until"]
    queue = QueueHealth(
        status=_word(not late),
        jobs=row["jobs"] or {},
        oldest_due_seconds=whole(row["oldest_seconds"]),
        metrics_age_seconds=whole((row["now"] - rolled_until).total_seconds()) if rolled_until else None,
    )
    worst = _word(all(part.status == "ok" for part in (database, migrations, memory, queue)))
    return Health(
        status=worst, database=database, migrations=migrations, memory=memory, queue=queue, version=__version__
    )


def _provider(call: Call) -> str | None:
    if call.services is None:
        return "builtin"
    return call.services.known.provider if call.services.known else None


def _word(is_well: bool) -> Word:
    return "ok" if is_well else "attention"
