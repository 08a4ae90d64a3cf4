"""Decides what the items of a board become here: epics, stories and tasks; pure.

An item with parts becomes a story, its parts without parts the tasks of that story. A part with parts is a story of
its own. An item that is an epic in its tool becomes an epic, and one story gathers what stands in it directly. All
other stories stand in an epic that is made for their group of the board. An item alone becomes a task without a story.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

from bmad_mcp.bmad_files.deviations import shown
from bmad_mcp.bmad_files.statuses import RANK
from bmad_mcp.bmad_files.storable import TEXT_LIMIT, TITLE_LIMIT, Storable
from bmad_mcp.bmad_files.story_rows import OPEN_FOR_WORK, derived_status
from bmad_mcp.bmad_files.values import Deviation
from bmad_mcp.interchange.dependencies import EDGE_LIMIT, Tree, settled_parents, waiting
from bmad_mcp.interchange.values import Board, Item, Original, State
from bmad_mcp.lifecycles import StoryStatus, TaskStatus
from bmad_mcp.stories.sections import framed

STORY_STATUS: Mapping[State, StoryStatus] = {
    "draft": StoryStatus.DRAFT,
    "open": StoryStatus.READY,
    "in_progress": StoryStatus.IN_PROGRESS,
    "review": StoryStatus.REVIEW,
    # Not open for work: its tasks wait as well.
    "blocked": StoryStatus.DRAFT,
    "deferred": StoryStatus.DRAFT,
    "done": StoryStatus.DONE,
    "cancelled": StoryStatus.CANCELLED,
}
TASK_STATUS: Mapping[State, TaskStatus] = {
    "draft": TaskStatus.BLOCKED,
    "open": TaskStatus.PENDING,
    # Nobody holds it here: who goes on with it claims it.
    "in_progress": TaskStatus.PENDING,
    "review": TaskStatus.REVIEW,
    "blocked": TaskStatus.BLOCKED,
    "deferred": TaskStatus.BLOCKED,
    "done": TaskStatus.COMPLETED,
    "cancelled": TaskStatus.CANCELLED,
}
# Sections that a story of the BMad Method has under another name.
_SECTIONS = {"Details": "Dev Notes"}
_STORY_KINDS = frozenset({"story", "user-story", "user story"})
_CIRCLES_TOLD = 200


@dataclass(frozen=True, slots=True)
class EpicRow:
    """An epic as the board tells it; `has_status` is false when its status was derived from its stories."""

    ref: str
    id: UUID
    path: str
    title: str
    goal: str
    status: StoryStatus
    has_status: bool
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoryRow:
    """A story as the board tells it."""

    ref: str
    id: UUID
    path: str
    epic: UUID
    merged: Mapping[str, Any]
    sections: tuple[Mapping[str, Any], ...]
    status: StoryStatus
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task as the board tells it, with the refs that it waits for."""

    ref: str
    id: UUID
    path: str
    merged: Mapping[str, Any]
    status: TaskStatus
    word: str
    waits_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """All rows that a board asks for."""

    source: str
    title: str
    epics: tuple[EpicRow, ...]
    stories: tuple[StoryRow, ...]
    tasks: tuple[TaskRow, ...]
    originals: tuple[Original, ...]
    deviations: tuple[Deviation, ...]
    is_whole: bool


def wanted_rows(board: Board, project_id: UUID, stories_before: Collection[str] = ()) -> Wanted:
    """The rows for a board; what was a story at an earlier import stays one, also when its parts are gone.

    Every row has an id made of the project's and its ref, so that another import finds it whatever was changed.
    """
    shape = _Shape(board, project_id, stories_before)
    stories = tuple(shape.stories())
    return Wanted(
        source=board.source,
        title=board.title,
        epics=tuple(shape.epics(stories)),
        stories=stories,
        tasks=tuple(shape.tasks()),
        originals=board.originals,
        deviations=(*(_storable(one) for one in board.deviations), *shape.clean.deviations),
        is_whole=board.is_whole,
    )


def _storable(told: Deviation) -> Deviation:
    return Deviation(Storable.path(told.path), told.line, told.code, told.message, told.mend)


def row_id(project_id: UUID, kind: str, source: str, ref: str) -> UUID:
    """The id of the row that a ref of a tool becomes."""
    # The name of a file may hold bytes that are not UTF-8.
    return uuid5(project_id, Storable.path(f"{kind} {source}:") + Storable.path(ref))


@dataclass(slots=True)
class _Shape:
    board: Board
    project_id: UUID
    stories_before: Collection[str]
    clean: Storable = field(default_factory=Storable)
    items: dict[str, Item] = field(init=False)
    tree: Tree = field(init=False)
    _epic_of: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.items = {item.ref: item for item in self.board.items}
        parents, left_out = settled_parents(self.board.items)
        self.tree = Tree(parents)
        for ref in left_out:
            message = f"The parent {self._shown(self.items[ref].parent or '')} of {self._shown(ref)} was left out:"
            self.clean.note(
                self.items[ref].path,
                "parent",
                f"{message} it is not on the board, or is a part of it.",
                "Correct the parent, or nothing if it stands alone.",
            )

    def _shown(self, ref: str) -> str:
        return repr(self.clean.line(ref, None, "id", 80))

    def _id(self, kind: str, ref: str) -> UUID:
        return row_id(self.project_id, kind, self.board.source, ref)

    # ── what becomes what ──

    def _is_epic(self, item: Item) -> bool:
        return item.kind.strip().lower() == "epic"

    def _is_story(self, item: Item) -> bool:
        if self._is_epic(item):
            # One story gathers the tasks that stand in the epic directly.
            return any(self._is_task(self.items[ref]) for ref in self.tree.parts(item.ref))
        return (
            bool(self.tree.parts(item.ref))
            or item.kind.strip().lower() in _STORY_KINDS
            or item.ref in self.stories_before
        )

    def _is_task(self, item: Item) -> bool:
        return not self._is_epic(item) and not self._is_story(item)

    def _epic_around(self, ref: str) -> str | None:
        """The nearest epic that an item stands in, or is."""
        way: list[str] = []
        at: str | None = ref
        while at is not None and at not in self._epic_of and not self._is_epic(self.items[at]):
            way.append(at)
            at = self.tree.parents[at]
        found = at if at is None or at not in self._epic_of else self._epic_of[at]
        self._epic_of.update(dict.fromkeys(way, found))
        return found

    def _epic_ref(self, item: Item) -> str:
        return self._epic_around(item.ref) or _group_ref(item.group)

    # ── epics ──

    def epics(self, stories: Sequence[StoryRow]) -> Iterator[EpicRow]:
        """The epics of the tool, and one for each group of the board that has stories of its own."""
        of_epic: dict[UUID, list[StoryStatus]] = {}
        for story in stories:
            of_epic.setdefault(story.epic, []).append(story.status)
        groups = dict.fromkeys(
            item.group for item in self.items.values() if self._is_story(item) and self._epic_around(item.ref) is None
        )
        for group in groups:
            ref = _group_ref(group)
            title = f"{self.board.title}: {group}" if group else self.board.title
            yield EpicRow(
                ref=ref,
                id=self._id("epic", ref),
                path="",
                title=self.clean.line(title, None, "title", TITLE_LIMIT),
                goal="",
                status=derived_status(of_epic.get(self._id("epic", ref), [])),
                has_status=False,
                told={"ref": f"{self.board.source}:{ref}"},
            )
        for item in self.items.values():
            if self._is_epic(item):
                yield EpicRow(
                    ref=item.ref,
                    id=self._id("epic", item.ref),
                    path=Storable.path(item.path),
                    title=self._title(item),
                    goal=self._text(_as_text(item), item, "goal"),
                    status=_epic_status(item, of_epic.get(self._id("epic", item.ref), [])),
                    has_status=True,
                    told=self._told(item),
                )

    # ── stories ──

    def stories(self) -> Iterator[StoryRow]:
        """Every story of the board."""
        for item in self.items.values():
            if not self._is_story(item):
                continue
            merged = {
                "title": self._title(item),
                "priority": item.priority,
                "acceptance": [self._text(one, item, "acceptance criteria", 4000) for one in item.acceptance],
            }
            yield StoryRow(
                ref=item.ref,
                id=self._id("story", item.ref),
                path=Storable.path(item.path),
                epic=self._id("epic", self._epic_ref(item)),
                merged=merged,
                sections=tuple(self._sections(item)),
                status=STORY_STATUS[item.state],
                told=self._told(item),
            )

    def _sections(self, item: Item) -> Iterator[dict[str, Any]]:
        told: list[tuple[str, str]] = [("Story", item.description.strip())]
        if item.acceptance:
            listed = "\n".join(f"{number}. {one}" for number, one in enumerate(item.acceptance, start=1))
            told.append(("Acceptance Criteria", listed))
        told += [(_SECTIONS.get(part.name, part.name), part.text.strip()) for part in item.parts]
        for name, text in told:
            if text:
                heading = self.clean.line(name, item.path, "heading", TITLE_LIMIT)
                body = self._text(text, item, f"section {heading[:60]!r}")
                yield {"name": heading, "level": 2, "text": framed(body)}

    def _told(self, item: Item) -> dict[str, Any]:
        """What no column holds: the word for the status, labels, and the rest of what the reader kept."""
        told = {
            "ref": f"{self.board.source}:{item.ref}",
            "kind": item.kind,
            "status": item.status,
            "labels": list(item.labels),
            "assignees": list(item.assignees),
            "raw": dict(item.raw),
        }
        kept = {name: value for name, value in told.items() if value not in ("", [], {})}
        cleaned: dict[str, Any] = self.clean.json(kept, item.path, "labels")
        return cleaned

    # ── tasks ──

    def tasks(self) -> Iterator[TaskRow]:
        """Every task of the board, with what it waits for."""
        waits_for = self._waiting()
        for item in self.items.values():
            if not self._is_task(item):
                continue
            around = self.tree.parents[item.ref]
            if item.state == "in_progress":
                message = f"{self._shown(item.ref)} is in progress there; here it is pending, for nobody holds it."
                self.clean.note(item.path, "in-progress", message, "Who works on it takes it with task_start.")
            merged = {
                "title": self._title(item),
                "description": self._text(_as_text(item, with_people=True), item, "description"),
                "priority": item.priority,
                "story_id": None if around is None else str(self._id("story", around)),
            }
            yield TaskRow(
                ref=item.ref,
                id=self._id("task", item.ref),
                path=Storable.path(item.path),
                merged=merged,
                status=TASK_STATUS[item.state],
                word=self.clean.line(item.status, item.path, "status"),
                waits_for=tuple(waits_for.get(item.ref, ())),
            )

    def _waiting(self) -> Mapping[str, Sequence[str]]:
        edges = []
        for item in self.items.values():
            for other in item.depends_on:
                if other in self.items:
                    edges.append((item.ref, other))
                else:
                    self._note_unknown(item, other)
        found = waiting(edges, self.tree)
        for (one, other), circle in found.circles[:_CIRCLES_TOLD]:
            shown = self.clean.line(" → ".join(circle), None, "circle", 400)
            message = f"{self._shown(one)} waits for {self._shown(other)}, which closes a circle: {shown}."
            mend = "That dependency was left out. Take one of them out of the circle."
            self.clean.note(self.items[one].path, "circle", message, mend)
        if len(found.circles) > _CIRCLES_TOLD:
            message = f"{len(found.circles) - _CIRCLES_TOLD} more dependencies close a circle and were left out."
            self.clean.note(None, "circle", message, "Take them out of their circles.")
        if found.is_cut:
            message = f"There are more than {EDGE_LIMIT:,} dependencies between tasks; the rest was left out."
            self.clean.note(None, "many-dependencies", message, "Let fewer items wait for items with many parts.")
        tasks = {item.ref for item in self.items.values() if self._is_task(item)}
        lost = {one for one, others in found.of_task.items() if one not in tasks or not tasks.issuperset(others)}
        for ref in sorted(lost):
            message = f"{self._shown(ref)} waits for, or is, an epic or a story without tasks; only tasks wait here."
            self.clean.note(self.items[ref].path, "dependency", message, "That dependency was left out.")
        return {
            one: [other for other in others if other in tasks] for one, others in found.of_task.items() if one in tasks
        }

    def _note_unknown(self, item: Item, other: str) -> None:
        where, mend = "which is not on the board", "Correct the id; that dependency was left out."
        if not self.board.is_whole:
            where = "which is not among what could be read"
            mend = "Mend what could not be read, then import again. That dependency was left out."
        message = f"{self._shown(item.ref)} waits for {self._shown(other)}, {where}."
        self.clean.note(item.path, "dependency", message, mend)

    # ── texts ──

    def _title(self, item: Item) -> str:
        if title := self.clean.line(item.title, item.path, "title", TITLE_LIMIT):
            return title
        made = f"{self.board.title} {item.ref}"[:TITLE_LIMIT]
        message = f"{self._shown(item.ref)} has no title; here it is called {shown(made)}."
        self.clean.note(item.path, "no-title", message, "Give it a title, then import again.")
        return made

    def _text(self, text: str, item: Item, name: str, limit: int = TEXT_LIMIT) -> str:
        return self.clean.text(text.replace("\r\n", "\n").strip(), item.path, name, limit)


def _group_ref(group: str) -> str:
    # No item's ref begins so.
    return f"#{group}"


def _epic_status(item: Item, stories: Iterable[StoryStatus]) -> StoryStatus:
    """An epic that is open there is a draft or further here, by its stories."""
    told = STORY_STATUS[item.state]
    derived = derived_status(list(stories))
    is_told = item.state not in ("open", "draft") or RANK[told] >= RANK[derived] or derived is StoryStatus.DONE
    return told if is_told else derived


def _as_text(item: Item, *, with_people: bool = False) -> str:
    """An item's texts as one, for a row that has no sections."""
    told = [item.description.strip()]
    if item.acceptance:
        told.append("## Acceptance Criteria\n\n" + "\n".join(f"- {one}" for one in item.acceptance))
    told += [f"## {part.name}\n\n{part.text.strip()}" for part in item.parts if part.text.strip()]
    if with_people:
        people = (("Labels", item.labels), ("Assigned to", item.assignees))
        told.append("\n".join(f"{name}: {', '.join(names)}" for name, names in people if names))
    return "\n\n".join(one for one in told if one)


def is_open(status: str) -> bool:
    """Whether the tasks of a story with this status may be claimed."""
    return status in OPEN_FOR_WORK
