"""How often principals and projects may call: a bucket each, in the database that all servers of a project share."""

import hashlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from bmad_mcp.call import OpenProject, Workspace
from bmad_mcp.errors import RateLimited
from bmad_mcp.identity import queries
from bmad_mcp.identity.verifying import on_database

logger = logging.getLogger("bmad_mcp.identity")

# A full bucket holds the calls of a minute.
MINUTE = timedelta(minutes=1)
REMEMBERED_BUCKETS = 10_000
# What a database answers that lets nobody write: a role that may only read, a read-only session, a standby.
CANNOT_WRITE = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.FeatureNotSupportedError,
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Who is counted, how many calls a minute that one has, and what it is called in a refusal."""

    id: UUID
    limit: int
    words: str

    @property
    def step(self) -> timedelta:
        """How long one call takes to come back."""
        return MINUTE // self.limit


class Rates:
    """Calls a minute of a principal and of a project; 0 is no limit.

    A refusal is remembered until the bucket can have a call again, so who goes on calling costs the database nothing.
    With `shared` False, and where the database takes no writes, each process counts by itself.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        principal: int,
        project: int,
        shared: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workspace = workspace
        self._principal = principal
        self._project = project
        self._is_shared = shared
        self._clock = clock
        # When a bucket is full again, at the earliest: nobody but time puts calls back.
        self._full_at: OrderedDict[UUID, float] = OrderedDict()

    async def take(self, *, principal: str | None = None, project: UUID | None = None) -> None:
        """Take one call from each; raises RateLimited when one of them has none, or Unavailable."""
        buckets = []
        if principal is not None and self._principal:
            words = f"You may call {self._principal} times a minute, and you did"
            buckets.append(Bucket(_id("principal", principal), self._principal, words))
        if project is not None and self._project:
            words = f"This project may be called {self._project} times a minute, and it was"
            buckets.append(Bucket(_id("project", str(project)), self._project, words))
        if not buckets:
            return
        for bucket in buckets:
            self._refuse_if_known(bucket)
        if self._is_shared:
            await self._take_shared(buckets)
        # Not `else`: the database may just have refused to count.
        if not self._is_shared:
            for bucket in buckets:
                self._remember(bucket, max(self._full_at.get(bucket.id, 0.0), self._clock()) + _seconds(bucket.step))

    def _refuse_if_known(self, bucket: Bucket) -> None:
        wait = self._full_at.get(bucket.id, 0.0) - self._clock() - _seconds(MINUTE - bucket.step)
        # A hair of tolerance, as the sum of many steps is not exact in floating point.
        if wait > 1e-6:
            raise _refusal(bucket, wait)

    async def _take_shared(self, buckets: list[Bucket]) -> None:
        first, second = buckets[0], buckets[1] if len(buckets) > 1 else None
        more = (second.id, second.step) if second is not None else (None, None)
        # The clock before the question: what is remembered is never later than what the database has.
        asked = self._clock()

        async def take(opened: OpenProject) -> Any:
            async with opened.pool.acquire(timeout=opened.capacity.wait_seconds) as connection:
                try:
                    return await connection.fetchrow(queries.TAKE, first.id, first.step, *more)
                except TimeoutError:
                    # Its release would wait for an answer once more.
                    connection.terminate()
                    raise
                except CANNOT_WRITE as error:
                    logger.warning("Calls are counted in this process only: %s", type(error).__name__)
                    self._is_shared = False

        row = await on_database(self._workspace, take)
        if row is None:
            return
        self._learn(first, row["first"], row["first_before"], asked)
        if second is not None:
            self._learn(second, row["second"], row["second_before"], asked)

    def _learn(self, bucket: Bucket, taken: timedelta | None, before: timedelta | None, asked: float) -> None:
        """Remember how full a bucket is; raises RateLimited when it had no call left."""
        left = taken if taken is not None else before
        if left is not None:
            self._remember(bucket, asked + _seconds(left))
        if taken is None:
            # Without a row before, others emptied it in this very moment.
            raise _refusal(bucket, _seconds(MINUTE if left is None else left - MINUTE + bucket.step))

    def _remember(self, bucket: Bucket, full_at: float) -> None:
        self._full_at[bucket.id] = max(full_at, self._full_at.pop(bucket.id, 0.0))
        if len(self._full_at) > REMEMBERED_BUCKETS:
            self._full_at.popitem(last=False)


def _refusal(bucket: Bucket, wait: float) -> RateLimited:
    # Never longer than one call takes to come back, whatever the clocks of two statements say.
    seconds = max(1, math.ceil(min(wait, _seconds(bucket.step))))
    unit = "second" if seconds == 1 else "seconds"
    return RateLimited(f"{bucket.words}. Nothing was done; call again in {seconds} {unit}, and less often.", seconds)


def _seconds(span: timedelta) -> float:
    return span.total_seconds()


def _id(kind: str, name: str) -> UUID:
    """A bucket's id is a hash: who calls is nobody's business who reads the table."""
    return UUID(bytes=hashlib.sha256(f"{kind} {name}".encode()).digest()[:16])
