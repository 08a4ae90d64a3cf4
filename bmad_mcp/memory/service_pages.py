"""The memory service beside a project, reached for people: everything it keeps of the project, and what went wrong."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bmad_mcp.errors import Unavailable
from bmad_mcp.memory.invisible import flags_of

if TYPE_CHECKING:
    from bmad_mcp.memory.services.answers import Kept, MemoryService
    from bmad_mcp.memory.services.choosing import MemoryServices, Provider

NAMES = {"openmemory": "OpenMemory", "mem0": "mem0", "builtin": "the built-in memory"}
# 500,000 memories: a service that goes on for longer does not tell the truth about its pages.
MOST_PAGES = 5_000


@dataclass(frozen=True, slots=True)
class Reached:
    """The service of a project, or None with `why` in a sentence."""

    provider: "Provider"
    service: "MemoryService | None"
    why: str

    @property
    def name(self) -> str:
        """Its name for people."""
        return NAMES[self.provider]


async def reach(services: "MemoryServices | None", project: str) -> Reached:
    """The service that serves a project now; never fails."""
    if services is None:
        return Reached("builtin", None, "No memory service is in use (BMAD_MEMORY_PROVIDER, BMAD_MEMORY_URL)")
    choice = await services.choice()
    return Reached(choice.provider, services.of_project(choice.provider, project), choice.why)


async def pages(reached: Reached) -> AsyncIterator[list["Kept"]]:
    """All that the service keeps of the project, page after page; raises ServiceError.

    Read all of them before anything is forgotten there: what is deleted moves the later pages up.
    """
    # The errors come with the HTTP client, which is there once there is a service.
    from bmad_mcp.memory.services.http import Garbage  # noqa: PLC0415

    assert reached.service is not None
    page: int | None = 1
    seen: set[str] = set()
    while page is not None:
        found = await reached.service.listing(page)
        new = [one for one in found.items if one.ref not in seen]
        if page > MOST_PAGES or (found.items and not new):
            raise Garbage("The memory service repeats its pages without an end")
        seen.update(one.ref for one in new)
        if new:
            yield new
        page = found.next_page


def as_data(one: "Kept", provider: str) -> dict[str, Any]:
    """A memory of a service as plain JSON; `id` is the service's own, `key` the id here of what was delivered."""
    return {
        "id": one.ref,
        "project": one.project,
        "source": provider,
        "text": one.text,
        "category": one.category,
        "agent": one.agent,
        "author": one.author_kind,
        "confidence": one.confidence,
        "created_at": one.created_at.isoformat(),
        "state": one.state,
        "key": one.key,
        "flags": flags_of(one.text),
    }


def knows_user(detail: str) -> bool:
    """Whether OpenMemory's health says that it has met the user."""
    return "does not know the user" not in detail


def failed(reached: Reached, error: Exception, what: str) -> Unavailable:
    """The sentences for a service that failed, with what to do; `what` tells the state that this leaves."""
    status = getattr(error, "status", 0)
    if status in (401, 403):
        mend = "It refuses the API key: set BMAD_MEMORY_API_KEY."
    elif status == 404 and reached.provider == "openmemory":
        mend = "It does not know the user: set BMAD_MEMORY_USER to the one who stored them."
    else:
        mend = "`bmad-mcp doctor` looks at it."
    return Unavailable(f"{reached.name}: {str(error).rstrip('.')}. {mend} {what}")
