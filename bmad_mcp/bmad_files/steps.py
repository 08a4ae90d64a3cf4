"""The steps of an import: what it would do to one thing, and what it cannot settle."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

Kind = Literal[
    "agent",
    "workflow",
    "template",
    "guide",
    "data",
    "team",
    "skill",
    "checklist",
    "epic",
    "story",
    "task",
    "file",
    "memory",
    "project",
]
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]
PLURALS: Mapping[Kind, str] = {
    "agent": "agents",
    "workflow": "workflows",
    "template": "templates",
    "guide": "task guides",
    "data": "data files",
    "team": "teams",
    "skill": "skills",
    "checklist": "checklists",
    "epic": "epics",
    "story": "stories",
    "task": "tasks",
    "file": "files",
    "memory": "memory notes",
    "project": "project settings",
}


@dataclass(frozen=True, slots=True)
class Create:
    """A new row; `values` has every column that the import fills."""

    kind: Kind
    key: str
    title: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Update:
    """A row that changes from the version it was read at; `changed` names the columns that differ.

    `back` tells that the status goes back: that is never silent.
    """

    kind: Kind
    key: str
    title: str
    id: UUID
    version: int
    values: Mapping[str, Any]
    changed: tuple[str, ...]
    back: str = ""


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing to do."""

    kind: Kind
    key: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """The file and the database were both changed; the database keeps its own."""

    kind: Kind
    key: str
    field: str
    file: str
    database: str
    path: str
    mend: str


@dataclass(frozen=True, slots=True)
class Gone:
    """Imported earlier and not in the files any more; it stays."""

    kind: Kind
    key: str
    path: str
    mend: str


Step = Create | Update | Keep | Conflict | Gone
