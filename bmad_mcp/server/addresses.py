"""Which `bmad://` addresses show what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bmad_mcp.activity.trail import NOUNS, Changes
from bmad_mcp.errors import BmadError
from bmad_mcp.server.resources import find_resource

# What the addresses that name no thing show. One that names a thing, as bmad://tasks/T-41 does, shows that thing.
SHOWN: Mapping[str, Sequence[str]] = {
    "project_status": ("task", "story", "epic", "workflow", "handoff", "agent"),
    "project_board": ("task", "story", "epic", "agent"),
    "agent_list": ("agent", "task"),
    "story_list": ("story", "task", "epic"),
    "activity_list": NOUNS,
}


@dataclass(frozen=True, slots=True)
class Address:
    """An address that somebody watches."""

    uri: str
    nouns: Sequence[str]
    key: str | None = None

    def shows(self, changes: Changes) -> bool:
        """Whether what is at the address may have changed."""
        if changes.is_wide or self.key is None:
            return changes.has(self.nouns)
        return any(self.key in changes.keys.get(noun, ()) for noun in self.nouns)


def address_of(uri: str) -> Address | None:
    """The address of a resource; None when no resource can have it."""
    found = find_resource(uri)
    if found is None:
        return None
    operation, arguments = found
    try:
        checked, _ = operation.check(arguments)
    except BmadError:
        return None
    named = [name for name in arguments if name in NOUNS]
    if named:
        return Address(uri, named, str(checked[named[0]]))
    return Address(uri, SHOWN[operation.name])
