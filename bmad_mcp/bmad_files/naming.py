"""Gives every definition a name of its own: who keeps the plain one when two generations or packs use it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from bmad_mcp.bmad_files.definitions import ROLES
from bmad_mcp.bmad_files.storable import NAME_LIMIT, Storable, name_of
from bmad_mcp.bmad_files.values import AgentDefinition

_GENERATIONS = ("v4", "v6", "v6-alpha", "v7", "project")
# What the roles are called in other generations; a built-in agent answers to these until an import brings that agent.
FOREIGN_NAMES: Mapping[str, frozenset[str]] = {
    "ux": frozenset({"ux-expert", "ux-designer", "bmad-agent-ux-designer"}),
    **{role: frozenset({f"bmad-agent-{role}"}) for role in ROLES if role != "ux"},
}
_CORE_MODULES = ("core", "bmm", "")


class Definition(Protocol):
    """What a name is chosen by."""

    @property
    def id(self) -> str: ...
    @property
    def module(self) -> str: ...
    @property
    def generation(self) -> str: ...
    @property
    def path(self) -> str: ...


AnyDefinition = TypeVar("AnyDefinition", bound=Definition)


def precedence(definition: Definition) -> tuple[int, bool]:
    """The order in which definitions take their names: v4 first, the core before its packs."""
    return _GENERATIONS.index(definition.generation), definition.module not in _CORE_MODULES


def settle_names(
    definitions: Iterable[AnyDefinition],
    space: Callable[[AnyDefinition], str],
    content: Callable[[AnyDefinition], str],
    noun: str,
    clean: Storable,
) -> list[tuple[str, AnyDefinition]]:
    """Each definition with its name, unique in its space; one whose plain name is taken gets its origin behind it.

    A copy of the one that has the name, with the same `content` hash, is left out.
    """
    taken: dict[tuple[str, str], str] = {}
    settled = []
    for one in sorted(definitions, key=precedence):
        plain = name_of(one.id) or name_of(one.path)
        if taken.get((space(one), plain)) == content(one):
            continue
        options = [plain, f"{plain}-{name_of(one.module)}", f"{plain}-{one.generation}"]
        name = _first_free(options, lambda option, one=one: (space(one), option) in taken)  # type: ignore[misc]
        taken[space(one), name] = content(one)
        if name != plain:
            _note_taken(clean, one, noun, plain, name)
        settled.append((name, one))
    return settled


def _first_free(options: Sequence[str], is_taken: Callable[[str], bool]) -> str:
    for option in options:
        if option and not option.endswith("-") and not is_taken(option[:NAME_LIMIT]):
            return option[:NAME_LIMIT]
    number = 2
    while is_taken(f"{options[0][: NAME_LIMIT - 8]}-{number}"):
        number += 1
    return f"{options[0][: NAME_LIMIT - 8]}-{number}"


def _note_taken(clean: Storable, one: Definition, noun: str, plain: str, name: str) -> None:
    clean.note(
        one.path,
        "name-taken",
        f"Another {noun} is called {plain!r}; this one is {name!r}.",
        "Nothing to do: ask for it by that name.",
    )


@dataclass(frozen=True, slots=True)
class NamedAgent:
    """An agent with its row's name, and the other names that lead to it."""

    name: str
    aliases: frozenset[str]
    agent: AgentDefinition


def name_agents(agents: Iterable[AgentDefinition], clean: Storable) -> list[NamedAgent]:
    """Each role's short name goes to one agent, v4 before v6; another one that plays it goes by its full id."""
    ordered = sorted(agents, key=precedence)
    names: list[str] = []
    for one in ordered:
        plain = name_of(one.short_id) or name_of(one.id) or name_of(one.path)
        own = [name_of(other) for other in (one.id, *one.aliases)]
        full = [other for other in own if other.startswith("bmad-")] + own
        options = [plain, *full, f"{plain}-{name_of(one.module)}", f"{plain}-{one.generation}"]
        name = _first_free(options, lambda option: option in names)
        if name != plain:
            _note_taken(clean, one, "agent", plain, name)
        names.append(name)
    claimed = set(names)
    named = []
    for name, one in zip(names, ordered, strict=True):
        aliases = frozenset(filter(None, map(name_of, (one.id, *one.aliases)))) - claimed
        claimed |= aliases
        named.append(NamedAgent(name, aliases, one))
    return named
