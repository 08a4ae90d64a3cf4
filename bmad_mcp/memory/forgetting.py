"""Erases memories, first in the service and then here, so that whatever stops it can be run again."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from bmad_mcp.activity.record import record
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.memory import keeping_queries, service_queries, vector_queries
from bmad_mcp.memory.forget_plan import Plan, keys_here, memories
from bmad_mcp.memory.keeping import call_on, readable
from bmad_mcp.memory.provider import NewMemory
from bmad_mcp.memory.results import forget_sealed_results
from bmad_mcp.memory.service_pages import failed, pages
from bmad_mcp.progress import Progress, untold

AT_ONCE = 200
# What a service is told to forget in one request, so that progress is seen.
AT_ONCE_THERE = 50
# A delivery looks its key up (20 s), is sent (20 s), and may land when its sender has hung up (30 s).
ON_ITS_WAY_SECONDS = 70.0
LOOK_AGAIN_SECONDS = 1.0
# A look-up that began before may still write its answer into the cache.
AFTER_LOOK_UPS_SECONDS = 0.5


@dataclass(slots=True)
class Erased:
    """How many went, here by category and in the service."""

    here: Counter[str] = field(default_factory=Counter)
    there: int = 0

    @property
    def count(self) -> int:
        """How many went from this database."""
        return self.here.total()


async def forget(
    opened: OpenProject,
    plan: Plan,
    caller: Caller,
    *,
    operation: str = "memory_forget",
    progress: Progress = untold,
    on_its_way_seconds: float = ON_ITS_WAY_SECONDS,
) -> Erased:
    """Erase what the plan names, in batches: each first in the service, then here with a row in the trail.

    What a delivery has begun to send is erased once it has landed or `on_its_way_seconds` have passed. Raises
    Unavailable when the service stops answering; what was not erased is still here then.
    """
    return await _Forgetting(opened, plan, caller, operation, progress, on_its_way_seconds).run()


class _Forgetting:
    def __init__(
        self, opened: OpenProject, plan: Plan, caller: Caller, operation: str, progress: Progress, on_its_way: float
    ) -> None:
        self._opened = opened
        self._plan = plan
        self._caller = caller
        self._operation = operation
        self._progress = progress
        self._on_its_way = on_its_way
        self._service = None if plan.only_here else plan.reached.service
        self._erased = Erased()
        self._gone: set[str] = set()

    async def run(self) -> Erased:
        ids = list(self._plan.here)
        left: list[UUID] = []
        for start in range(0, len(ids), AT_ONCE):
            batch = ids[start : start + AT_ONCE]
            await self._forget_there(ref for one in batch for ref in self._plan.refs.get(one, ()))
            left += await self._erase(batch)
            if len(ids) > AT_ONCE:
                self._progress(f"{min(start + AT_ONCE, len(ids)):,} of {len(ids):,} memories are done")
        await self._forget_there(self._plan.there)
        if self._plan.is_everything and self._plan.there:
            await self._forget_the_rest()
        if left:
            await self._settle(left)
        if self._gone and self._opened.services is not None:
            await asyncio.sleep(self._opened.services.read_seconds + AFTER_LOOK_UPS_SECONDS)
        async with call_on(self._opened, self._caller, self._operation) as call:
            await call.db.execute(service_queries.FORGET_ANSWERS)
        return self._erased

    # --- In the service.

    async def _forget_there(self, refs: Iterable[str]) -> None:
        if self._service is None:
            return
        from bmad_mcp.memory.services.http import ServiceError  # noqa: PLC0415

        new = [ref for ref in dict.fromkeys(refs) if ref not in self._gone]
        count = 0
        try:
            for start in range(0, len(new), AT_ONCE_THERE):
                batch = new[start : start + AT_ONCE_THERE]
                count += await self._service.forget(batch)
                self._gone.update(batch)
        except ServiceError as error:
            raise failed(self._plan.reached, error, self._state(count)) from error
        finally:
            self._erased.there += count
            if count:
                await self._note(count, self._plan.reached.provider)

    async def _forget_the_rest(self) -> None:
        """A service that tells only so many at once is asked until it tells no more."""
        if self._service is None:
            return
        from bmad_mcp.memory.services.http import ServiceError  # noqa: PLC0415

        before = -1
        while len(self._gone) > before:
            before = len(self._gone)
            try:
                kept = [(one.ref, one.key) async for page in pages(self._plan.reached) for one in page]
            except ServiceError as error:
                raise failed(self._plan.reached, error, self._state()) from error
            # What was stored here after the plan was made is nothing that anybody agreed to erase.
            new = await keys_here(self._opened, [key for _, key in kept if key], self._caller)
            new -= {str(key) for key in self._plan.here}
            await self._forget_there(ref for ref, key in kept if key not in new)

    def _state(self, more: int = 0) -> str:
        return (
            f"{self._erased.there + more:,} were erased there and {self._erased.count:,} here. Run this again for the rest;"
            " --here-only leaves the service out."
        )

    # --- Here.

    async def _erase(self, ids: Sequence[UUID], *, whatever: bool = False) -> list[UUID]:
        """Erase these but those whose delivery is on its way, which are returned; with `whatever` those too."""
        seconds = None if whatever or self._service is None else self._on_its_way
        async with call_on(self._opened, self._caller, self._operation) as call:
            rows = await call.db.fetch(keeping_queries.ERASE, list(ids), seconds, list(self._gone_of(ids)))
            gone = {row["category"]: row["memories"] for row in rows}
            if gone:
                await call.db.execute(service_queries.FORGET_ANSWERS)
                await call.db.execute(keeping_queries.FORGET_RESULTS)
                await call.db.execute(vector_queries.FORGET_CENTRE)
                await forget_sealed_results(call.db)
                count = sum(gone.values())
                await record(call, memories(count), count=count, where="here", categories=gone)
            left = await readable(call.db, await call.db.fetch(keeping_queries.UNSETTLED, list(ids)))
        self._erased.here.update(gone)
        return [row["id"] for row in left]

    def _gone_of(self, ids: Sequence[UUID]) -> Iterable[str]:
        known = (ref for one in ids for ref in self._plan.refs.get(one, ()))
        return [ref for ref in known if ref in self._gone]

    async def _settle(self, ids: list[UUID]) -> None:
        """Wait for what is on its way: erase it there when it has landed, here when it cannot land any more."""
        self._progress(
            f"{memories(len(ids))} may be on the way to {self._plan.reached.name} just now:"
            f" waiting, at most {self._on_its_way:.0f} seconds …"
        )
        while ids:
            async with call_on(self._opened, self._caller, self._operation) as call:
                await call.db.execute(keeping_queries.HOLD, ids)
                rows = await readable(call.db, await call.db.fetch(keeping_queries.UNSETTLED, ids))
            ids = [row["id"] for row in rows if not await self._is_settled(row)]
            if ids:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _is_settled(self, row: Any) -> bool:
        refs = [row["service_ref"]] if row["delivery"] == "delivered" and row["service_ref"] else []
        if row["delivery"] != "delivered" and (found := await self._find(row)):
            refs = [found]
        is_over = row["since_try"] is None or row["since_try"] >= self._on_its_way
        if not (refs or is_over or row["delivery"] == "delivered"):
            return False
        for ref in refs:
            self._plan.add_ref(ref, row["category"], row["id"])
        await self._forget_there(refs)
        await self._erase([row["id"]], whatever=True)
        return True

    async def _find(self, row: Any) -> str | None:
        from bmad_mcp.memory.services.answers import Outgoing  # noqa: PLC0415
        from bmad_mcp.memory.services.http import ServiceError  # noqa: PLC0415

        assert self._service is not None
        try:
            return await self._service.find_by_key(Outgoing(NewMemory.of_row(row), str(row["id"])))
        except ServiceError as error:
            raise failed(self._plan.reached, error, self._state()) from error

    async def _note(self, count: int, where: str) -> None:
        async with call_on(self._opened, self._caller, self._operation) as call:
            await record(call, memories(count), count=count, where=where)
