"""Word that tokens or roles changed: it goes to every server with the commit, and spares those who wait for a cache to age."""

import asyncio
import contextlib

CHANNEL = "bmad_access"


class AccessChanges:
    """How often it was told in this process; what was remembered at an earlier count is looked up again."""

    def __init__(self) -> None:
        self.count = 0
        self._next = asyncio.Event()

    def tell(self) -> None:
        """Something changed."""
        self.count += 1
        told, self._next = self._next, asyncio.Event()
        told.set()

    async def wait(self, seconds: float) -> None:
        """Until something changes, so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._next.wait()
