"""Reads the folder of Backlog.md: one Markdown file a task."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bmad_mcp.bmad_files.deviations import shown
from bmad_mcp.bmad_files.markdown import front_matter, headings, sections
from bmad_mcp.bmad_files.markdown import items as listed_items
from bmad_mcp.bmad_files.statuses import plain
from bmad_mcp.bmad_files.values import SourceFile
from bmad_mcp.bmad_files.yaml_guard import read_mapping
from bmad_mcp.interchange.reading import Place, nothing_found, opened_place, settled, text_at, texts_at
from bmad_mcp.interchange.values import Board, Item, Part, State
from bmad_mcp.interchange.words import priority_of, state_of

FOLDER = "backlog"
HOMES = (f"{FOLDER}/tasks", ".backlog/tasks")
CONFIGS = ("config.yml", "config.yaml")
ROOT_CONFIG = "backlog.config.yml"
CANDIDATES = (
    "backlog/tasks/",
    "backlog/config.yml",
    ".backlog/",
    ROOT_CONFIG,
    "tasks/*.md with a config.yml beside it",
)
# In the order in which a task that is in two of them counts.
_STAGES: tuple[tuple[str, State | None], ...] = (
    ("tasks", None),
    ("completed", "done"),
    ("drafts", "draft"),
    ("archive/tasks", "cancelled"),
    ("archive/drafts", "cancelled"),
)
_DOCUMENTS = ("docs", "decisions", "milestones")
_MARK = re.compile(r"[ \t]*<!--\s*(?:SECTION|AC|DOD):.*?-->[ \t]*\r?\n?")
_NUMBER = re.compile(r"^#\d{1,6}\s+")


@dataclass(frozen=True, slots=True)
class BacklogMd:
    """The board at a path: the project's folder, the board's own folder, or one task's file."""

    path: Path
    source: str = "backlog"

    def read(self) -> Board:
        """Every task, draft and archived task; raises Invalid when there is no such folder."""
        with opened_place(self.path, wants="the folder with backlog/ in it") as place:
            title, items = _read(place, self.path)
            kept = settled(_parented(items), place)
            return Board(self.source, title, kept, tuple(place.originals), place.deviations.all(), place.is_whole)


@dataclass(frozen=True, slots=True)
class _Words:
    """The status words of a board in their order: the first is new work, the last is done."""

    listed: tuple[str, ...] = ()
    states: Mapping[str, State] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "_Words":
        listed = tuple(plain(one) for one in texts_at(dict(config), "statuses"))
        ends: dict[str, State] = {listed[0]: "open", listed[-1]: "done"} if len(listed) > 1 else {}
        return cls(listed, {word: state for word, state in ends.items() if state_of(word) is None})

    def state_of(self, word: str) -> State | None:
        return state_of(word) or self.states.get(plain(word))


def _read(place: Place, path: Path) -> tuple[str, list[Item]]:
    if place.named is not None:
        # One file alone: its board's words are not known.
        source = place.read(place.named, f"{FOLDER}/tasks/{place.named}")
        return "Backlog.md", list(_task(source, None, _Words(), place)) if source else []
    base, config = _base(place)
    if base is None:
        raise nothing_found(path, "Backlog.md", CANDIDATES)
    words = _Words.of(config)
    items = [item for folder, stage in _STAGES for item in _stage(place, base, folder, stage, words)]
    for folder in _DOCUMENTS:
        for found in place.folder.walk(_below(base, folder)):
            place.read(found, _name(base, found), "document")
    title = text_at(dict(config), "project_name").strip()
    return f"Backlog.md: {title}" if title else "Backlog.md", items


def _base(place: Place) -> tuple[str | None, Mapping[str, Any]]:
    """The board's own folder inside the place, and its configuration."""
    if place.folder.is_file(ROOT_CONFIG):
        config = _config(place, ROOT_CONFIG, ROOT_CONFIG)
        told = text_at(dict(config), "backlog_directory").strip().strip("/") or FOLDER
        if place.folder.is_folder(told):
            return told, config
    for base in (FOLDER, ".backlog", ""):
        held = [one for one in CONFIGS if place.folder.is_file(_below(base, one))]
        if place.folder.is_folder(_below(base, "tasks")) and (base or held):
            return base, _config(place, _below(base, held[0]), f"{FOLDER}/{held[0]}") if held else {}
    return None, {}


def _config(place: Place, path: str, name: str) -> Mapping[str, Any]:
    source = place.read(path, name)
    return read_mapping(source.text, source.path, place.deviations) if source else {}


def _below(base: str, name: str) -> str:
    return f"{base}/{name}" if base else name


def _name(base: str, path: str) -> str:
    """The path under which a file is kept, the same wherever the board's folder was given from."""
    return f"{FOLDER}/{path.removeprefix(base).lstrip('/')}"


def _stage(place: Place, base: str, folder: str, stage: State | None, words: _Words) -> Iterator[Item]:
    for found in place.folder.walk(_below(base, folder)):
        if not found.endswith(".md") or found.rsplit("/", 1)[-1].lower() == "readme.md":
            continue
        source = place.read(found, _name(base, found))
        if source is not None:
            yield from _task(source, stage, words, place)


def _task(source: SourceFile, stage: State | None, words: _Words, place: Place) -> Iterator[Item]:
    if source.text is None:
        return
    text = source.text
    matter = front_matter(text)
    before = len(place.deviations)
    told = read_mapping(matter.text, source.path, place.deviations, matter.line) if matter else {}
    if not told and len(place.deviations) > before:
        # Why it was not understood is told; that it has no id would send people the wrong way.
        place.is_whole = False
        return
    ref = text_at(told, "id").strip().upper()
    if matter is None or not ref:
        message = "The file has no front matter with an id; it was not understood."
        place.break_off(source.path, 1, "no-id", message, "Write the id, or move the file elsewhere.")
        return
    word = text_at(told, "status").strip()
    parts: dict[str, str] = {}
    for name, one in _parts(text, matter.body):
        parts[name] = f"{parts[name]}\n\n{one}" if parts.get(name) else one
    acceptance = parts.get("Acceptance Criteria", "")
    waits_for = (*texts_at(told, "dependencies"), *texts_at(told, "depends_on"))
    yield Item(
        ref=ref,
        title=text_at(told, "title"),
        status=word or (stage or ""),
        state=_state(source, word, stage, words, place),
        kind=text_at(told, "type").strip() or "task",
        parent=(text_at(told, "parent_task_id") or text_at(told, "parent")).strip().upper() or None,
        priority=priority_of(text_at(told, "priority")) or "medium",
        description=parts.get("Description", ""),
        acceptance=tuple(_NUMBER.sub("", one) for one in listed_items(acceptance)) if acceptance else (),
        parts=tuple(
            Part(name, one) for name, one in parts.items() if name not in ("Description", "Acceptance Criteria") and one
        ),
        labels=(*texts_at(told, "labels"), *texts_at(told, "milestone")),
        assignees=texts_at(told, "assignee"),
        depends_on=tuple(dict.fromkeys(one.upper() for one in waits_for)),
        path=source.path,
    )


def _state(source: SourceFile, word: str, stage: State | None, words: _Words, place: Place) -> State:
    # The folder says more than the word that the task had when it was moved there.
    if stage is not None:
        return stage
    state = words.state_of(word) if word else "open"
    if state is None:
        message = f"The status {shown(word)} is no known word; it counts as new work."
        place.note(source.path, None, "status-word", message, "Nothing to do: the word is kept.")
    return state or "open"


def _parts(text: str, body: int) -> Iterator[tuple[str, str]]:
    """The sections of a task with what stands under them; a heading of a lower level belongs to the one above it."""
    found = headings(text, body)
    first = text[body : found[0].start if found else len(text)]
    top = [one for one in found if one.level <= 2]
    if found and (not top or top[0].start > found[0].start):
        first = text[body : top[0].start if top else len(text)]
    # Without a section the whole text is the description.
    if first.strip():
        yield "Description", _MARK.sub("", first).strip()
    for one in sections(text, top):
        yield one.name, _MARK.sub("", one.text).strip()


def _parented(items: list[Item]) -> list[Item]:
    known = {item.ref for item in items}

    def parent_of(item: Item) -> str | None:
        around = item.ref.rpartition(".")[0]
        return item.parent or (around if around in known else None)

    return [replace(item, parent=parent_of(item)) for item in items]
