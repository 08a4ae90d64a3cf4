"""Work that goes on beside a server and ends with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

# Hosts kill what has not ended two seconds after their SIGTERM, and there are several of these.
STOP_SECONDS = 0.7


@asynccontextmanager
async def beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Do this work while the block runs; what it had begun is broken off at the end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await asyncio.wait_for(task, STOP_SECONDS)
