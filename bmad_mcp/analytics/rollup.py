"""Keeps a project's daily metrics up to date, by a job and, where none runs, by the answers that need them.

Rows are counted in the order of their ids, which are made from the clock when a row is written: a row that tells of a
day long past has a new id, so it is found, and a row is counted once.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from bmad_mcp.analytics import rollup_queries as queries
from bmad_mcp.call import Call

# A transaction writes its rows and commits within this time: older rows than that are settled.
SETTLED = timedelta(hours=1)
# An answer counts so much more by itself before it stores what it counted.
BEHIND = timedelta(hours=1)
# Few enough days that a statement keeps its time limit in the largest project.
AT_ONCE = timedelta(days=7)
NOTHING_STORED = UUID(int=0)


class Rows(Protocol):
    """What rolling up needs of a transaction."""

    async def fetchrow(self, sql: str, *values: Any) -> Any: ...

    async def execute(self, sql: str, *values: Any) -> str: ...


@dataclass(frozen=True, slots=True)
class Reached:
    """The transaction's moment, and the id from which on rows are not in the daily metrics."""

    now: datetime
    since: UUID


def first_id(moment: datetime) -> UUID:
    """The lowest UUIDv7 of a moment."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=milliseconds << 80 | 0x7 << 76 | 0b10 << 62)


def id_after(rolled_until: datetime | None) -> UUID:
    """The id from which on rows are not in metrics that reach so far."""
    return NOTHING_STORED if rolled_until is None else first_id(rolled_until)


async def roll_up(pool: asyncpg.Pool, project_id: UUID, *, rebuild: bool = False) -> datetime | None:
    """Add what is settled to the daily metrics of a project, in one transaction; how far they reach now.

    Cheap when little is new; running it again, or twice at once, counts nothing twice. None: there is nothing yet.
    `rebuild` forgets what is stored and counts every row.
    """
    async with pool.acquire(timeout=10) as connection, connection.transaction():
        await connection.execute("SELECT set_config('app.project', $1, true)", str(project_id))
        await connection.execute(queries.LOCK)
        if rebuild:
            await connection.execute(queries.FORGET_METRICS)
            await connection.execute(queries.FORGET_REACH)
        return await roll_settled(connection)


async def roll_settled(db: Rows, moment: datetime | None = None) -> datetime | None:
    """The same in a transaction that holds the lock; `moment` is now unless given."""
    state = await db.fetchrow(queries.REACHED, moment)
    reached: datetime | None = state["rolled_until"]
    until: datetime = state["now"] - SETTLED
    if reached is None:
        if state["first"] is None:
            return None
        # Whole milliseconds, as ids have them.
        reached = datetime.fromtimestamp((state["first"].int >> 80) / 1000, UTC)
        start = NOTHING_STORED
    else:
        start = first_id(reached)
    while reached < until:
        reached = min(reached + AT_ONCE, until)
        end = first_id(reached)
        await db.execute(queries.ROLL, start, end)
        await db.execute(queries.REACH, reached)
        start = end
    return reached


async def bring_up(call: Call) -> Reached:
    """How far the metrics reach, brought up first where no job did so for long and the transaction may write."""
    state = await call.db.fetchrow(queries.STATE)
    rolled_until: datetime | None = state["rolled_until"]
    is_behind = rolled_until is None or state["now"] - rolled_until > SETTLED + BEHIND
    if is_behind and state["may_write"] and await call.db.fetchval(queries.TRY_LOCK):
        await roll_settled(call.db)
        rolled_until = (await call.db.fetchrow(queries.STATE))["rolled_until"]
    return Reached(state["now"].astimezone(UTC), id_after(rolled_until))
