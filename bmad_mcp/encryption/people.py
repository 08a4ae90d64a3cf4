"""People in an encrypted project: rows hold a pseudonym, and one sealed row says whose it is."""

import re
import secrets
from collections.abc import Mapping
from typing import Any

# Principals that are no person: whoever sits at this machine, and its jobs.
NOBODY = frozenset({"local", "scheduled job"})
# A token's name begins with a letter or digit, a subject with `http`: nobody can be called like a pseudonym.
_PSEUDONYM = re.compile(r"~[A-Za-z0-9_-]{22}")
_TOLD = re.compile(rf"({_PSEUDONYM.pattern}) (v1\.[a-z0-9-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)")


def new_pseudonym() -> str:
    """A pseudonym that tells nothing: 128 random bits."""
    return f"~{secrets.token_urlsafe(16)}"


def is_pseudonym(text: str) -> bool:
    """Whether the text is a pseudonym and no name."""
    return _PSEUDONYM.fullmatch(text) is not None


def is_person(principal: str) -> bool:
    """Whether the principal is the name of a person, in the clear."""
    return principal not in NOBODY and not is_pseudonym(principal)


def told(column: str) -> str:
    """SQL of a principal for `Transaction.person`: behind a pseudonym stands the sealed name, if it is known.

    The column needs its table's name in front: `name` alone would be the one of the sealed row.
    """
    return (
        f"CASE WHEN starts_with({column}, '~') THEN coalesce((SELECT p.id || ' ' || p.name FROM mcp_people p"
        f" WHERE p.project_id = bmad_project() AND p.id = {column}), {column}) ELSE {column} END"
    )


def parts_of(text: str) -> tuple[str, str] | None:
    """The pseudonym and the sealed name of what `told` gave; None for a name in the clear, or one that was erased."""
    found = _TOLD.fullmatch(text)
    return (found[1], found[2]) if found else None


def with_names(value: Any, names: Mapping[str, str]) -> Any:
    """The JSON value with the names of people in the place of their pseudonyms, in all of its texts."""
    match value:
        case str():
            return _PSEUDONYM.sub(lambda found: names.get(found[0], found[0]), value) if "~" in value else value
        case list():
            return [with_names(one, names) for one in value]
        case dict():
            return {key: with_names(one, names) for key, one in value.items()}
        case _:
            return value
