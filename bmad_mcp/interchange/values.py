"""A board of another tool as plain values: what every reader gives and every writer takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bmad_mcp.bmad_files.values import Deviation

State = Literal["draft", "open", "in_progress", "review", "blocked", "deferred", "done", "cancelled"]
Priority = Literal["low", "medium", "high", "critical"]


@dataclass(frozen=True, slots=True)
class Part:
    """A named text of an item, such as its details or its test strategy."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """One task, story or epic of a board.

    `ref` is its own on the board and stays the same for its whole life; `parent` and `depends_on` are such refs.
    `kind` is the word of the other tool (`epic`, `task`, `bug`, …): an `epic` becomes an epic, every other item a
    story when it has parts and a task when it has none. `status` is the word as it was written, `state` what it means.
    `group` names the part of the board that the item stands in; each group has its own epic.
    """

    ref: str
    title: str
    status: str = ""
    state: State = "open"
    kind: str = "task"
    parent: str | None = None
    group: str = ""
    priority: Priority = "medium"
    description: str = ""
    acceptance: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    labels: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    path: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Original:
    """A file of the other tool, byte for byte."""

    path: str
    raw: bytes
    kind: str = "tracker"


@dataclass(frozen=True, slots=True)
class Board:
    """Everything that a reader found.

    `source` names the tool; with it each ref is unique in a project. `is_whole` is false when something could not be
    read: then nobody is told that an item is gone.
    """

    source: str
    title: str
    items: tuple[Item, ...] = ()
    originals: tuple[Original, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    is_whole: bool = True
