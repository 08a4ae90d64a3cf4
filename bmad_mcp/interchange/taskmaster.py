"""Reads Task Master's `tasks.json`: the form with tags, and the older one without."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bmad_mcp.bmad_files.deviations import shown
from bmad_mcp.interchange.reading import Place, Refused, nothing_found, opened_place, settled, text_at
from bmad_mcp.interchange.values import Board, Item, Part
from bmad_mcp.interchange.words import priority_of, state_of

FOLDER = ".taskmaster"
FILE = f"{FOLDER}/tasks/tasks.json"
HOMES = (FOLDER,)
CANDIDATES = (FILE, "tasks/tasks.json", "tasks.json")
DEFAULT_TAG = "master"
_ID = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})*")


@dataclass(frozen=True, slots=True)
class TaskMaster:
    """The board at a path: the project's folder, `.taskmaster`, or the file itself."""

    path: Path
    source: str = "taskmaster"

    def read(self) -> Board:
        """Every task and subtask of every tag; raises Invalid when there is no such file."""
        with opened_place(self.path, wants="the folder with .taskmaster in it") as place:
            found = place.find(CANDIDATES)
            if found is None:
                raise nothing_found(self.path, "Task Master", CANDIDATES)
            items = settled(list(_items(place, found)), place)
            return Board(
                self.source, "Task Master", items, tuple(place.originals), place.deviations.all(), place.is_whole
            )


def _items(place: Place, found: str) -> Iterator[Item]:
    file = place.read(found, FILE)
    if file is None or file.text is None:
        return
    try:
        value = place.json(file.text, file.path)
    except Refused as refused:
        message = f"The JSON cannot be read: {refused}. The file is kept as it is."
        place.break_off(file.path, None, "json", message, "Mend that place, then import again.")
        return
    for tag, tasks in _tags(value, file.path, place):
        for task in tasks:
            yield from _task(task, tag, None, file.path, place)


def _tags(value: Any, path: str, place: Place) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(value, dict) and isinstance(value.get("tasks"), list):
        yield DEFAULT_TAG, value["tasks"]
        return
    if isinstance(value, list):
        yield DEFAULT_TAG, value
        return
    is_empty = True
    for tag, told in value.items() if isinstance(value, dict) else ():
        if isinstance(told, dict) and isinstance(told.get("tasks"), list):
            is_empty = False
            yield tag, told["tasks"]
    if is_empty:
        message = "This is JSON, and no list of tasks in it."
        place.break_off(path, None, "json-shape", message, "Check that it is Task Master's file.")


def _task(task: Any, tag: str, parent: str | None, path: str, place: Place) -> Iterator[Item]:
    local = _local_id(task, parent)
    if local is None:
        message = f"In tag {shown(tag)} something is not a task with an id: {shown(task)}."
        place.break_off(path, None, "no-id", message, "Give it an id that is a number.")
        return
    ref = f"{tag}/{local}"
    word = text_at(task, "status").strip() or "pending"
    state = state_of(word)
    if state is None:
        place.note(
            path,
            None,
            "status-word",
            f"Task {ref} has the status {shown(word)}, which is no known word; it counts as pending.",
            "Nothing to do: the word is kept. Set the status here if it should be another.",
        )
    wanted = text_at(task, "priority")
    yield Item(
        ref=ref,
        title=text_at(task, "title"),
        status=word,
        state=state or "open",
        parent=None if parent is None else f"{tag}/{parent}",
        group=tag,
        priority=priority_of(wanted) or "medium",
        description=text_at(task, "description"),
        parts=tuple(
            Part(name, text)
            for name, text in (("Details", text_at(task, "details")), ("Testing", text_at(task, "testStrategy")))
            if text.strip()
        ),
        depends_on=tuple(_depends_on(task, tag, parent, ref, path, place)),
        path=path,
    )
    subtasks = task.get("subtasks")
    for one in subtasks if isinstance(subtasks, list) else ():
        yield from _task(one, tag, local, path, place)


def _local_id(task: Any, parent: str | None) -> str | None:
    word = text_at(task, "id").strip() if isinstance(task, dict) else ""
    if not _ID.fullmatch(word):
        return None
    # A subtask has the number alone, or the whole dotted id.
    return word if parent is None or word.startswith(f"{parent}.") else f"{parent}.{word}"


def _depends_on(task: dict[str, Any], tag: str, parent: str | None, ref: str, path: str, place: Place) -> Iterator[str]:
    told = task.get("dependencies")
    for one in told if isinstance(told, list) else ():
        word = str(one).strip()
        if not isinstance(one, str | int) or not _ID.fullmatch(word):
            message = f"Task {ref} waits for {shown(one)}, which is no id; that was left out."
            place.note(path, None, "dependency", message, "Name the id of a task.")
        elif parent is not None and "." not in word:
            # Among subtasks a number alone means the sibling.
            yield f"{tag}/{parent}.{word}"
        else:
            yield f"{tag}/{word}"
