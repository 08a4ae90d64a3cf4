"""Reads the JSON lines of beads: one issue a line."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bmad_mcp.bmad_files.deviations import shown
from bmad_mcp.bmad_files.markdown import items as listed_items
from bmad_mcp.interchange.reading import (
    Place,
    Refused,
    nothing_found,
    opened_place,
    settled,
    text_at,
    texts_at,
)
from bmad_mcp.interchange.values import Board, Item, Part, Priority
from bmad_mcp.interchange.words import state_of

FOLDER = ".beads"
HOMES = (FOLDER,)
CANDIDATES = (".beads/issues.jsonl", ".beads/beads.jsonl", "issues.jsonl", "beads.jsonl")
_PRIORITIES: tuple[Priority, ...] = ("critical", "high", "medium", "low", "low")
_PARTS = (("Design", "design"), ("Notes", "notes"), ("Close reason", "close_reason"))
_WAITING = frozenset({"blocks", "conditional-blocks", "waits-for"})


@dataclass(frozen=True, slots=True)
class Beads:
    """The board at a path: the project's folder, `.beads`, or the file itself."""

    path: Path
    source: str = "beads"

    def read(self) -> Board:
        """Every issue that was not deleted; raises Invalid when there is no such file."""
        with opened_place(self.path, wants="the folder with .beads in it") as place:
            found = place.find(CANDIDATES)
            if found is None:
                raise nothing_found(self.path, "beads", CANDIDATES)
            items = settled(_parented(list(_items(place, found))), place)
            return Board(self.source, "beads", items, tuple(place.originals), place.deviations.all(), place.is_whole)


def _items(place: Place, found: str) -> Iterator[Item]:
    name = f"{FOLDER}/{found.rsplit('/', 1)[-1]}"
    file = place.read(found, name)
    if file is None or file.text is None:
        return
    for number, line in enumerate(file.text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = place.json(line, file.path)
        except Refused as refused:
            message = f"The JSON of this line cannot be read: {str(refused).replace('line 1, ', '')}."
            place.break_off(file.path, number, "json", message, "Mend the line; the others were read.")
            continue
        if isinstance(record, dict) and record.get("_type", "issue") != "issue":
            continue
        if not isinstance(record, dict) or not text_at(record, "id").strip():
            message = "This line is no issue with an id."
            place.break_off(file.path, number, "no-id", message, "Mend the line; the others were read.")
        elif text_at(record, "status") == "tombstone":
            message = f"Issue {shown(record['id'])} was deleted in beads; it was left out."
            place.note(file.path, number, "deleted", message, "Nothing to do: the file is kept as it is.")
        else:
            yield _issue(record, file.path, number, place)


def _issue(record: dict[str, Any], path: str, line: int, place: Place) -> Item:
    ref = text_at(record, "id").strip()
    word = text_at(record, "status").strip() or "open"
    state = state_of(word)
    if state is None:
        message = f"Issue {shown(ref)} has the status {shown(word)}, which is no known word; it counts as open."
        place.note(path, line, "status-word", message, "Nothing to do: the word is kept.")
    parent, waits_for = _edges(record, ref)
    acceptance = text_at(record, "acceptance_criteria")
    return Item(
        ref=ref,
        title=text_at(record, "title"),
        status=word,
        state=state or "open",
        kind=text_at(record, "issue_type").strip() or "task",
        parent=parent,
        priority=_priority(record.get("priority")),
        description=text_at(record, "description"),
        acceptance=listed_items(acceptance) if acceptance.strip() else (),
        parts=tuple(Part(name, text_at(record, field)) for name, field in _PARTS if text_at(record, field).strip()),
        labels=texts_at(record, "labels"),
        assignees=texts_at(record, "assignee"),
        depends_on=waits_for,
        path=path,
    )


def _priority(value: Any) -> Priority:
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(_PRIORITIES)
    return _PRIORITIES[value] if known else "medium"


def _edges(record: dict[str, Any], ref: str) -> tuple[str | None, tuple[str, ...]]:
    """The issue around this one, and those that it waits for; other relations stay in the file."""
    parent: str | None = None
    waits_for: list[str] = []
    told = record.get("dependencies")
    for one in told if isinstance(told, list) else ():
        if not isinstance(one, dict) or text_at(one, "issue_id").strip() not in ("", ref):
            continue
        target, kind = text_at(one, "depends_on_id").strip(), text_at(one, "type").strip() or text_at(one, "dep_type")
        if target and kind == "parent-child":
            parent = target
        elif target and kind in _WAITING:
            waits_for.append(target)
    return parent, tuple(dict.fromkeys(waits_for))


def _parented(items: list[Item]) -> list[Item]:
    """The parts of an issue carry its id and a dot; where no relation says so, the id does."""
    known = {item.ref for item in items}

    def parent_of(item: Item) -> str | None:
        around = item.ref.rpartition(".")[0]
        return item.parent or (around if around in known else None)

    return [replace(item, parent=parent_of(item)) for item in items]
