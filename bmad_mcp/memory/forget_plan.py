"""Finds out what forgetting some memories would erase, here and in the service, before anything is erased."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.counts import counted
from bmad_mcp.errors import NotFound, Unavailable
from bmad_mcp.memory import keeping_queries
from bmad_mcp.memory.keeping import Selection, call_on, in_pages
from bmad_mcp.memory.service_pages import NAMES, Reached, failed, pages, reach
from bmad_mcp.progress import Progress, untold

PAGE = 5_000

# (reference, category, key) of what a service keeps.
Theirs = tuple[str, str, str | None]


@dataclass(frozen=True, slots=True)
class Here:
    """A memory of this database that is to go: where it was sent, if it was."""

    category: str
    delivery: str
    provider: str | None
    service_ref: str | None
    attempts: int

    @property
    def may_be_there(self) -> bool:
        """Whether a service may have it."""
        return self.delivery == "delivered" or self.attempts > 0


@dataclass(slots=True)
class Plan:
    """What would go: `here` by id, `there` the categories of what the service keeps, by its references.

    `refs` are the references that belong to an id here, `others` what the service keeps of the project for other
    databases and stays there. With `only_here` the service is left alone.
    """

    here: dict[UUID, Here]
    reached: Reached
    only_here: bool = False
    is_everything: bool = False
    there: dict[str, str] = field(default_factory=dict)
    refs: dict[UUID, list[str]] = field(default_factory=dict)
    others: int = 0

    @property
    def categories(self) -> dict[str, tuple[int, int]]:
        """How many of each category go here and in the service."""
        here = Counter(one.category for one in self.here.values())
        there = Counter(self.there.values())
        return {name: (here[name], there[name]) for name in sorted(here.keys() | there.keys())}

    @property
    def stays_there(self) -> int:
        """How many the service may keep after all, as only this database is asked to forget."""
        return sum(one.may_be_there for one in self.here.values()) if self.only_here else 0

    def add_ref(self, ref: str, category: str, key: UUID | None) -> None:
        """Note that the service keeps a memory that is to go."""
        self.there[ref] = category
        if key is not None and ref not in self.refs.setdefault(key, []):
            self.refs[key].append(ref)


async def plan_to_forget(
    opened: OpenProject,
    selections: Sequence[Selection],
    caller: Caller,
    *,
    only_here: bool = False,
    archived: Collection[str] = (),
    progress: Progress = untold,
) -> Plan:
    """What fits any of these selections, with all that the service keeps of it.

    `archived` are references in lower case that the archive knows: nobody need know them here.
    Raises Unavailable when a service that may have some of it cannot be asked, NotFound for references that nobody
    knows.
    """
    here: dict[UUID, Here] = {}
    for selection in selections:
        here |= await _chosen(opened, selection, caller)
    reached = await reach(opened.services, opened.key)
    is_everything = any(one.is_everything for one in selections)
    plan = Plan(here, reached, only_here, is_everything)
    asked = {ref.lower() for one in selections for ref in one.refs or ()}
    known: set[str] = set()
    if not only_here:
        _check_reachable(plan)
        if reached.service is not None:
            progress(f"listing what {reached.name} keeps of {opened.key} …")
            known = await _look_there(plan, opened, asked, caller)
    _check_known(plan, asked - known - set(archived))
    return plan


async def _chosen(opened: OpenProject, selection: Selection, caller: Caller) -> dict[UUID, Here]:
    found: dict[UUID, Here] = {}
    async for rows in in_pages(opened, keeping_queries.NEXT_CHOSEN, "memory_forget", selection, caller, size=PAGE):
        found.update((row["id"], _here(row)) for row in rows)
    return found


def _here(row: Any) -> Here:
    return Here(row["category"], row["delivery"], row["provider"], row["service_ref"], row["attempts"])


def _check_reachable(plan: Plan) -> None:
    """A copy that cannot be erased must not be left behind silently."""
    sent = [one for one in plan.here.values() if one.may_be_there]
    if plan.reached.service is None and sent:
        raise Unavailable(
            f"{plan.reached.why}. The service may have {memories(len(sent))} of these; nothing was erased. Run this again"
            " when the service is there, or erase them in this database only with --here-only."
        )
    elsewhere = {one.provider for one in sent if one.provider and one.provider != plan.reached.provider}
    if elsewhere:
        name = " and ".join(sorted(NAMES.get(one, one) for one in elsewhere))
        count = sum(one.provider in elsewhere for one in sent)
        raise Unavailable(
            f"{memories(count)} of these went to {name}, which is not the memory service now. Nothing was erased."
            f" Set BMAD_MEMORY_PROVIDER and BMAD_MEMORY_URL to {name} and run this again, or erase them in this"
            " database only with --here-only."
        )


async def _look_there(plan: Plan, opened: OpenProject, asked: set[str], caller: Caller) -> set[str]:
    """Match all that the service keeps of the project with what is to go; the references asked for that it knows."""
    # The errors come with the HTTP client, which is there once there is a service.
    from bmad_mcp.memory.services.http import Refused, ServiceError  # noqa: PLC0415

    for key, one in plan.here.items():
        if one.service_ref:
            plan.add_ref(one.service_ref, one.category, key)
    own = {str(key): key for key in plan.here}
    named: list[Theirs] = []
    others: list[Theirs] = []
    try:
        async for page in pages(plan.reached):
            for item in page:
                if item.key in own:
                    plan.add_ref(item.ref, item.category, own[item.key])
                elif asked & {item.ref.lower(), (item.key or "").lower()}:
                    named.append((item.ref, item.category, item.key))
                elif item.ref not in plan.there:
                    others.append((item.ref, item.category, item.key))
    except ServiceError as error:
        is_unknown_user = isinstance(error, Refused) and error.status == 404 and plan.reached.provider == "openmemory"
        if is_unknown_user and not any(one.may_be_there for one in plan.here.values()):
            # It keeps nothing for a user that it has never seen.
            return set()
        raise failed(plan.reached, error, "Nothing was erased; --here-only leaves the service out.") from error
    await _take_in_full(plan, opened, named, caller)
    here = await keys_here(opened, [key for _, _, key in others if key], caller)
    unknown = [one for one in others if one[2] not in here]
    if plan.is_everything:
        plan.there.update((ref, category) for ref, category, _ in unknown)
    else:
        plan.others = len(unknown)
    return {name.lower() for ref, _, key in named for name in (ref, key) if name}


async def _take_in_full(plan: Plan, opened: OpenProject, named: Sequence[Theirs], caller: Caller) -> None:
    """What was named by a service's reference goes here too, when it is here."""
    keys = tuple(key for _, _, key in named if key)
    also = await _chosen(opened, Selection(refs=keys), caller) if keys else {}
    plan.here |= also
    own = {str(key): key for key in also}
    for ref, category, key in named:
        plan.add_ref(ref, category, own.get(key) if key else None)


async def keys_here(opened: OpenProject, keys: Sequence[str], caller: Caller) -> set[str]:
    """Those of a service's keys that are memories of this database."""
    found: set[str] = set()
    for start in range(0, len(keys), PAGE):
        async with call_on(opened, caller, "memory_forget") as call:
            rows = await call.db.fetch(keeping_queries.KEYS_HERE, keys[start : start + PAGE])
        found |= {row["key"] for row in rows}
    return found


def _check_known(plan: Plan, asked: set[str]) -> None:
    known = {str(key) for key in plan.here}
    known |= {one.service_ref.lower() for one in plan.here.values() if one.service_ref}
    if missing := sorted(asked - known):
        where = "" if plan.only_here or plan.reached.service is None else f" or in {plan.reached.name}"
        named = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise NotFound(
            f"There is no memory {named} in this project{where}. Nothing was erased."
            " `bmad-mcp memory list` and `bmad-mcp memory export --service` show the ids.",
            field="id",
        )


def memories(count: int) -> str:
    """The count with its noun."""
    return counted(count, "memory", "memories")
