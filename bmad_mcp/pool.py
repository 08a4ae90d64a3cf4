"""A pool of connections that has the last one at hand for the next call: a way through its queue and back costs 40 µs."""

import time
from typing import Any

import asyncpg

INACTIVE_SECONDS = 300.0
# A connection is used for so many calls in a row, then the pool looks whether it should be a new one.
TURNS = 1_000


class ReadyPool(asyncpg.Pool):  # type: ignore[misc]
    """Keeps at most one connection aside, and only while nobody waits for one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_queries=50_000, max_inactive_connection_lifetime=INACTIVE_SECONDS, **options)
        self._at_hand: Any = None
        self._since = 0.0
        self._turns = 0
        self._waiting = 0
        self._is_kept_open = True

    def keep(self, connection: Any) -> bool:
        """Have a connection at hand whose transaction ended well; False: it has to be released."""
        is_wanted = self._at_hand is None and not self._waiting and self._is_kept_open and self._turns < TURNS
        if not is_wanted or not _is_ready(connection):
            self._turns = 0
            return False
        self._at_hand, self._since = connection, time.monotonic()
        self._turns += 1
        return True

    def take(self) -> Any:
        """The connection at hand, without a turn of the event loop; None when there is none of use."""
        connection = self._at_hand
        if connection is None or time.monotonic() - self._since >= INACTIVE_SECONDS or not _is_ready(connection):
            return None
        self._at_hand = None
        return connection

    async def _acquire(self, timeout: float | None) -> Any:
        if (connection := self.take()) is not None:
            return connection
        if self._at_hand is not None:
            # Too old, or ended while it was aside.
            if _is_ready(self._at_hand):
                self._at_hand.terminate()
            await self._put_back()
        self._waiting += 1
        try:
            return await super()._acquire(timeout)
        finally:
            self._waiting -= 1

    def get_idle_size(self) -> int:
        """How many connections nobody uses."""
        idle: int = super().get_idle_size()
        return idle + (self._at_hand is not None and _is_ready(self._at_hand))

    async def expire_connections(self) -> None:
        """Use none of the connections of now again."""
        await self._put_back()
        await super().expire_connections()

    async def close(self) -> None:
        """Close the connections, each when it is released."""
        self._is_kept_open = False
        await self._put_back()
        await super().close()

    async def _put_back(self) -> None:
        connection, self._at_hand = self._at_hand, None
        if connection is not None:
            await self.release(connection)


def _is_ready(connection: Any) -> bool:
    try:
        return not connection.is_closed() and not connection.is_in_transaction()
    except asyncpg.InterfaceError:
        # It ended while it was aside, and its place is the pool's again.
        return False
