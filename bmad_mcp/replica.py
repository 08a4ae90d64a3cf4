"""A streaming replica of the database: it answers reads that may be a little old, and tells how old they are."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from bmad_mcp.db import DATABASE_FAILURES, Transaction
from bmad_mcp.errors import BmadError

logger = logging.getLogger("bmad_mcp.replica")

# Who asks has not asked for a replica: the primary answers before anybody waits for long.
PATIENCE_SECONDS = 2.0
AGAIN_SECONDS = 5.0
# What was just written is on its way; without a moment's patience a quiet hour before it would count as lag.
LOOKS = 11
LOOK_SECONDS = 0.05

# The clock first: whatever was acknowledged before that moment is flushed to this place of the log.
FLUSHED = "SELECT clock_timestamp() AS asked_at, pg_current_wal_flush_lsn()::text AS place"
STATE = """
SELECT pg_is_in_recovery() AS is_replica, pg_last_wal_replay_lsn() >= $1::text::pg_lsn AS is_level,
    pg_last_xact_replay_timestamp() AS replayed_at, clock_timestamp() AS now
"""


@dataclass(frozen=True, slots=True)
class Age:
    """Everything committed until `as_of` is there; that was so many seconds before the question."""

    as_of: datetime
    lag_seconds: float


class ReplicaLost(Exception):
    """The replica failed in the middle of a call; the primary can answer it."""


class Replica:
    """One replica and this process's pool on it. While it is away or too far behind, it is left alone for seconds."""

    def __init__(self, open_pool: Callable[[], Awaitable[asyncpg.Pool]], *, most_seconds: float) -> None:
        self._open_pool = open_pool
        self._most = most_seconds
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        self._again_at = 0.0
        self._is_used = True
        # Why it was last left alone.
        self.why = ""

    async def begin(self, primary: asyncpg.Pool, project_id: UUID) -> tuple[Transaction, Age] | None:
        """A transaction on the replica, and how old what it reads is; None: the primary has to answer."""
        if time.monotonic() < self._again_at:
            return None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                transaction, state = await self._ask(await _flushed(primary), project_id)
        except (BmadError, *DATABASE_FAILURES) as error:
            self.leave(str(error) or type(error).__name__)
            return None
        age = _age(state)
        if age is None or age.lag_seconds > self._most:
            await transaction.end("ROLLBACK")
            self.leave("it is no replica of this database" if age is None else f"it is {age.lag_seconds:.0f} s behind")
            return None
        if not self._is_used:
            logger.warning("The replica answers again.")
            self._is_used = True
        return transaction, age

    async def _ask(self, flushed: Any, project_id: UUID) -> tuple[Transaction, Any]:
        async with self._opening:
            self._pool = self._pool or await self._open_pool()
        transaction = Transaction(self._pool, project_id)
        try:
            for look in range(LOOKS):
                await asyncio.sleep(LOOK_SECONDS if look else 0)
                state = await transaction.fetchrow(STATE, flushed["place"] if flushed else None)
                if flushed is None or state["is_level"] or not state["is_replica"]:
                    break
        except BaseException:
            await transaction.abandon()
            raise
        return transaction, dict(state) | {"asked_at": flushed["asked_at"] if flushed else None}

    def leave(self, why: str) -> None:
        """Leave the replica alone for some seconds."""
        self._again_at, self.why = time.monotonic() + AGAIN_SECONDS, why
        if self._is_used:
            logger.warning("The replica is not used, and the primary answers: %s", why)
            self._is_used = False

    def close(self) -> None:
        """Drop its connections; nothing was ever written on them."""
        if self._pool is not None:
            self._pool.terminate()


async def _flushed(primary: asyncpg.Pool) -> Any:
    """How far the primary's log is, and when that was; None when it does not tell."""
    try:
        return await primary.fetchrow(FLUSHED, timeout=PATIENCE_SECONDS / 2)
    except DATABASE_FAILURES:
        return None


def _age(state: dict[str, Any]) -> Age | None:
    """How old the replica's rows are at most; None when nobody knows."""
    if not state["is_replica"]:
        # Promoted, or never one: its rows may be of another history.
        return None
    if state["is_level"]:
        return Age(state["asked_at"], 0.0)
    # Behind, or the primary did not tell: what was committed last before it stopped reading is known for sure.
    replayed_at: datetime | None = state["replayed_at"]
    if replayed_at is None:
        return None
    return Age(replayed_at, max(0.0, ((state["asked_at"] or state["now"]) - replayed_at).total_seconds()))
