"""The connections to a memory service: given up as a whole when a request on them is cut off, or nobody uses them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx

# Past this the far end may have hung up, and nothing but the next request would notice.
UNUSED_SECONDS = 4.0


class _Pool:
    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.users = 0
        self.timer: asyncio.TimerHandle | None = None


class Connections:
    """Lends a client with a pool of connections, and exchanges it after a request that was cut off.

    httpcore 1.0 keeps the place of such a request for ever when it was just connecting (seen with 1.0.9: states NEW and
    CONNECTING). As many of them as the pool has places, and every later request would wait in vain.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._pool: _Pool | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client for one request and its answer."""
        pool = self._pool
        if pool is None:
            pool = self._pool = _Pool(self._make())
        if pool.timer is not None:
            pool.timer.cancel()
        pool.users += 1
        try:
            yield pool.client
        except asyncio.CancelledError:
            self._give_up(pool)
            raise
        finally:
            pool.users -= 1
            if pool.users == 0 and pool is self._pool:
                pool.timer = asyncio.get_running_loop().call_later(UNUSED_SECONDS, self._give_up, pool)
            elif pool.users == 0:
                self._close(pool)

    def _give_up(self, pool: _Pool) -> None:
        """Lend it to nobody else; who has it still ends with it."""
        if pool is self._pool:
            self._pool = None
            if pool.users == 0:
                self._close(pool)

    def _close(self, pool: _Pool) -> None:
        # In a task of its own: whoever was cut off may be cut off again.
        closing = asyncio.get_running_loop().create_task(pool.client.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close all of them."""
        if (pool := self._pool) is not None:
            if pool.timer is not None:
                pool.timer.cancel()
            self._pool = None
            self._close(pool)
        await asyncio.gather(*self._closing, return_exceptions=True)
