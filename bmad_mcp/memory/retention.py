"""How long the memories of each category stay, and the erasing of those that are older."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from bmad_mcp.activity.record import record
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.errors import Invalid
from bmad_mcp.memory import keeping_queries
from bmad_mcp.memory.categories import MemoryCategory
from bmad_mcp.memory.forget_plan import Plan, plan_to_forget
from bmad_mcp.memory.forgetting import ON_ITS_WAY_SECONDS, Erased, forget
from bmad_mcp.memory.keeping import Selection, call_on
from bmad_mcp.progress import Progress, untold

LONGEST_DAYS = 36_500

Archive = Callable[[Sequence[UUID]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Retained:
    """A category: how many days it stays (None: for ever), what there is of it, and how many are older."""

    category: str
    days: int | None
    memories: int
    oldest: datetime | None
    over_age: int


async def read_retention(opened: OpenProject, caller: Caller) -> dict[str, int]:
    """The days of each category that has a limit."""
    async with call_on(opened, caller, "memory_retention") as call:
        return _checked(await call.db.fetchval(keeping_queries.RETENTION))


async def change_retention(
    opened: OpenProject, caller: Caller, *, limits: Mapping[str, int], cleared: frozenset[str] = frozenset()
) -> dict[str, int]:
    """Set the days of some categories and take the limit of others away; all limits as they are then."""
    for category, days in limits.items():
        if category not in set(MemoryCategory) or not 1 <= days <= LONGEST_DAYS:
            raise Invalid(
                f"{category}={days} is no retention: give one of {', '.join(MemoryCategory)} and 1 to"
                f" {LONGEST_DAYS:,} days.",
                field="set",
            )
    async with call_on(opened, caller, "memory_retention") as call:
        before = _checked(await call.db.fetchval(keeping_queries.RETENTION))
        after = changed(before, limits, cleared)
        if after != before:
            await call.db.execute(keeping_queries.SET_RETENTION, after)
            named = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
            await record(call, "memory retention", days={name: after.get(name, 0) for name in named})
    return after


def changed(before: Mapping[str, int], limits: Mapping[str, int], cleared: frozenset[str]) -> dict[str, int]:
    """The limits with these set and those taken away."""
    merged = {**before, **limits}
    return {name: merged[name] for name in MemoryCategory if name in merged and name not in cleared}


async def over_age(opened: OpenProject, caller: Caller, limits: Mapping[str, int], *, now: datetime) -> list[Retained]:
    """Every category with its limit, and how many of it are older than that at this moment."""
    async with call_on(opened, caller, "memory_retention") as call:
        rows = await call.db.fetch(keeping_queries.OVER_AGE, dict(limits), now)
    found = {row["category"]: row for row in rows}
    return [
        Retained(
            name,
            limits.get(name),
            found[name]["memories"] if name in found else 0,
            found[name]["oldest"] if name in found else None,
            found[name]["over_age"] if name in found else 0,
        )
        for name in MemoryCategory
    ]


async def plan_retention(
    opened: OpenProject,
    caller: Caller,
    limits: Mapping[str, int],
    *,
    now: datetime,
    only_here: bool = False,
    progress: Progress = untold,
) -> Plan:
    """What is over age here and in the service; what is exactly as old as its limit stays."""
    selections = [Selection(category=category, before=now - timedelta(days=days)) for category, days in limits.items()]
    return await plan_to_forget(opened, selections, caller, only_here=only_here, progress=progress)


async def apply_retention(
    opened: OpenProject,
    caller: Caller,
    *,
    now: datetime,
    only_here: bool = False,
    progress: Progress = untold,
    on_its_way_seconds: float = ON_ITS_WAY_SECONDS,
    archive: Archive | None = None,
) -> Erased:
    """Erase what is over age by the project's limits; nothing without limits. Raises what forgetting raises.

    `archive` gets the ids first; when it raises, nothing is erased.
    """
    limits = await read_retention(opened, caller)
    if not any(one.over_age for one in await over_age(opened, caller, limits, now=now)):
        return Erased()
    plan = await plan_retention(opened, caller, limits, now=now, only_here=only_here, progress=progress)
    if archive is not None:
        await archive(list(plan.here))
    return await forget(
        opened,
        plan,
        caller,
        operation="memory_retention",
        progress=progress,
        on_its_way_seconds=on_its_way_seconds,
    )


def _checked(kept: object) -> dict[str, int]:
    """The limits as they are kept; what is none is left out, so that nothing is erased for it."""
    told = kept if isinstance(kept, Mapping) else {}
    return {
        str(name): told[name]
        for name in MemoryCategory
        if type(told.get(name)) is int and 1 <= told[name] <= LONGEST_DAYS
    }
