"""Plans the tasks of a story: one for each check box of its file, or one for the whole story; pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any
from uuid import UUID

from bmad_mcp.bmad_files.steps import Conflict, Create, Gone, Keep, Step, Update
from bmad_mcp.bmad_files.storable import TITLE_LIMIT
from bmad_mcp.bmad_files.story_rows import OPEN_FOR_WORK, Box, StoryRow
from bmad_mcp.lifecycles import StoryStatus, TaskStatus

AGENT = "dev"
CLOSED = (TaskStatus.COMPLETED, TaskStatus.CANCELLED)
SIMILAR = 0.7
MOST_COMPARED = 2_500
IMPLEMENT, REMOVED = "implement", "removed"
COMPARED = ("title", "description", "status", "raw_status", "story_open", "source_ref")

Stored = Mapping[str, Any]
NOTHING_SURE: Mapping[int, UUID] = {}


@dataclass(frozen=True, slots=True)
class WrittenBoxes:
    """The boxes of a story after an export, by number: the tasks they are, whose marks and whose words it wrote."""

    tasks: Mapping[int, UUID] = field(default_factory=dict)
    marks: frozenset[int] = frozenset()
    words: frozenset[int] = frozenset()


def plan_tasks(
    row: StoryRow,
    status: str,
    tasks: Sequence[Stored],
    sure: Mapping[int, UUID] = NOTHING_SURE,
    *,
    makes_tasks: bool = True,
) -> Iterator[Step]:
    """The steps for the tasks of one story, whose status will be `status`; `tasks` are those it has.

    `sure` are boxes (by number) whose tasks are known, because an export has just written them. Without `makes_tasks`
    a box that is no task yet is left to the next import.
    """
    is_open = status in OPEN_FOR_WORK
    imported = [task for task in tasks if is_of_file(task)]
    whole = _whole(imported)
    pairs = pair_boxes(row, tasks, sure)
    if whole is not None:
        # Boxes that an export wrote for tasks of tools do not tell the story's own work.
        has_own_boxes = any(
            is_of_file(pairs[box.ordinal]) if box.ordinal in pairs else makes_tasks for box in row.boxes
        )
        yield _whole_story(has_own_boxes, whole, status)
    elif makes_tasks and not row.boxes and not tasks and status not in (StoryStatus.DONE, StoryStatus.CANCELLED):
        ref = f"{row.key}#{IMPLEMENT}"
        title = f"Implement story {row.key}: {row.merged['title']}"[:TITLE_LIMIT]
        yield Create("task", ref, title, _new_task(row, title, is_open, source_ref=ref))
    for box in row.boxes:
        known = pairs.get(box.ordinal)
        if known is not None:
            yield from _known_box(row, box, known, is_open, box.ordinal in sure)
        elif makes_tasks:
            yield _new_box(row, box, pairs, is_open)
    paired = {task["id"] for task in pairs.values()}
    for task in imported:
        if task is not whole and task["id"] not in paired:
            yield from _removed_box(row, task, is_open)


def plan_written(row: StoryRow, tasks: Sequence[Stored], written: WrittenBoxes) -> Iterator[Step]:
    """The steps after an export wrote some boxes of a file that also has edits of its own: only what was written.

    The mark and the words that the file had before are agreed on by the next import.
    """
    known = {task["id"]: task for task in tasks}
    boxes = {box.ordinal: box for box in row.boxes}
    for ordinal in sorted(written.marks | written.words):
        task, box = known.get(written.tasks.get(ordinal)), boxes.get(ordinal)
        if task is None or box is None or (task["source_ref"] and not is_of_file(task)):
            continue
        was = task["raw_status"] or box.raw
        mark = box.raw[:4] if ordinal in written.marks else was[:4]
        words = box.raw[4:] if ordinal in written.words else was[4:]
        values = {name: task[name] for name in COMPARED}
        yield _changed(task, values | {"raw_status": mark + words, "source_ref": _ref(row, ordinal)})


def pair_boxes(row: StoryRow, tasks: Sequence[Stored], sure: Mapping[int, UUID] = NOTHING_SURE) -> dict[int, Stored]:
    """The check boxes of a story (by number) with the tasks they are; `tasks` are all that the story has.

    The first rule that fits counts: what is `sure`, the same words and place, the same words, the title that the task
    has by now (an export wrote it), similar words. Where no box came or went, one with wholly other words is still the
    one that stood in its place.
    """
    left = [task for task in tasks if _ordinal(task) != IMPLEMENT]
    pairs: dict[int, Stored] = {}
    by_id = {task["id"]: task for task in left}
    for box in row.boxes:
        if (task := by_id.get(sure.get(box.ordinal))) is not None:
            pairs[box.ordinal] = task
            left.remove(task)
    _pair(row.boxes, pairs, left, _is_same_place)
    _pair(row.boxes, pairs, left, _is_same_text)
    _pair(row.boxes, pairs, left, lambda box, task: _is_at(box, task) and is_titled(box, task))
    _pair(row.boxes, pairs, left, is_titled)
    if sum(box.ordinal not in pairs for box in row.boxes) * sum(map(_is_present, left)) <= MOST_COMPARED:
        _pair(row.boxes, pairs, left, _is_similar)
    of_tools = sum(not is_of_file(task) for task in pairs.values())
    if len(row.boxes) - of_tools == sum(_is_present(task) for task in tasks):
        _pair(row.boxes, pairs, left, _is_at)
    return pairs


def is_of_file(task: Stored) -> bool:
    """Whether a story's file tells the task: as a check box, or as the story's whole work."""
    _, mark, place = str(task["source_ref"] or "").rpartition("#")
    return bool(mark) and (place in (IMPLEMENT, REMOVED) or place.isdecimal())


def _whole(imported: Sequence[Stored]) -> Stored | None:
    """The task that stands for the whole of a story without check boxes."""
    return next((task for task in imported if _ordinal(task) == IMPLEMENT), None)


def _ordinal(task: Stored) -> str:
    return str(task["source_ref"] or "").rpartition("#")[2]


def _text(task: Stored) -> str:
    """What stood behind the box at the last import."""
    return (task["raw_status"] or "[ ] ")[4:]


def _pair(
    boxes: Sequence[Box], pairs: dict[int, Stored], left: list[Stored], rule: Callable[[Box, Stored], bool]
) -> None:
    for box in boxes:
        if box.ordinal in pairs:
            continue
        found = next((task for task in left if rule(box, task)), None)
        if found is not None:
            pairs[box.ordinal] = found
            left.remove(found)


def _is_present(task: Stored) -> bool:
    return is_of_file(task) and _ordinal(task).isdecimal()


def _is_at(box: Box, task: Stored) -> bool:
    return is_of_file(task) and _ordinal(task) == str(box.ordinal)


def _is_same_text(box: Box, task: Stored) -> bool:
    return is_of_file(task) and _text(task) == box.raw[4:]


def _is_same_place(box: Box, task: Stored) -> bool:
    return _is_at(box, task) and _is_same_text(box, task)


def is_titled(box: Box, task: Stored) -> bool:
    """Whether the box has the task's title; a closed task whose box is gone does not come back by its title."""
    if is_of_file(task) and not _is_present(task) and task["status"] in CLOSED:
        return False
    return " ".join(str(task["title"]).split()) == box.title


def _is_similar(box: Box, task: Stored) -> bool:
    if not _is_present(task):
        return False
    compared = SequenceMatcher(None, box.raw[4:204], _text(task)[:200], autojunk=False)
    return compared.quick_ratio() >= SIMILAR and compared.ratio() >= SIMILAR


def _new_task(row: StoryRow, title: str, is_open: bool, **more: Any) -> dict[str, Any]:
    return {
        "title": title,
        "description": "",
        "status": TaskStatus.PENDING.value,
        "raw_status": None,
        "agent": AGENT,
        "story": row.key,
        "open_dependencies": 0,
        "story_open": is_open,
        "source": "import",
        "waits_for": (),
        "awaited_by": None,
        **more,
    }


def _ref(row: StoryRow, ordinal: int | str) -> str:
    return f"{row.path or row.key}#{ordinal}"


def _new_box(row: StoryRow, box: Box, pairs: Mapping[int, Stored], is_open: bool) -> Create:
    """A task that waits for those of the boxes indented under it."""
    children = [one for one in row.boxes if one.parent == box.ordinal]
    waits_for = [pairs[one.ordinal]["id"] if one.ordinal in pairs else _ref(row, one.ordinal) for one in children]
    unfinished = [
        one
        for one in children
        if (pairs[one.ordinal]["status"] not in CLOSED if one.ordinal in pairs else not one.done)
    ]
    awaited_by = None
    # A new task between two old ones could close a circle through what tools made wait for each other.
    if box.parent is not None and box.parent in pairs and not any(one.ordinal in pairs for one in children):
        awaited_by = pairs[box.parent]["id"]
    values = _new_task(
        row,
        box.title,
        is_open,
        description=box.description,
        status=(TaskStatus.COMPLETED if box.done else TaskStatus.PENDING).value,
        raw_status=box.raw,
        source_ref=_ref(row, box.ordinal),
        open_dependencies=len(unfinished),
        waits_for=tuple(waits_for),
        awaited_by=awaited_by,
    )
    return Create("task", _ref(row, box.ordinal), box.title, values)


def _known_box(row: StoryRow, box: Box, task: Stored, is_open: bool, is_written: bool) -> Iterator[Step]:
    before = _text(task)
    is_renamed = is_renamed_here(task)
    values = {
        "title": task["title"] if is_renamed or before in ("", box.raw[4:]) else box.title,
        # What a tool wrote of its task stays: the box has its title only.
        "description": task["description"] if before == box.raw[4:] or not is_of_file(task) else box.description,
        "status": task["status"],
        "raw_status": box.raw,
        "story_open": is_open,
        "source_ref": _ref(row, box.ordinal),
    }
    if task["source_ref"] and not is_of_file(task):
        # Another board knows it by that reference.
        values |= {"raw_status": task["raw_status"], "source_ref": task["source_ref"]}
    was_done = (task["raw_status"] or "").startswith("[x]")
    if box.done != was_done:
        refusal = _settle_done(row, box, task, values)
        if refusal is not None:
            if is_of_file(task):
                values["raw_status"] = f"[{'x' if was_done else ' '}] {box.raw[4:]}"
            yield refusal
    if is_renamed and not is_written and before != box.raw[4:] and not is_titled(box, task):
        # Else the next export would write over the words that somebody gave the box.
        values["raw_status"] = f"{values['raw_status'][:4]}{before}"
        yield title_conflict(row, box, task)
    yield _changed(task, values)


def is_renamed_here(task: Stored) -> bool:
    """Whether the task has another title than the file gave it."""
    given = " ".join(_text(task).split())
    return bool(given) and task["title"] not in (given, given[: TITLE_LIMIT - 2].rstrip() + " …")


def title_conflict(row: StoryRow, box: Box, task: Stored) -> Conflict:
    """The file and a tool gave a task two titles."""
    key = f"T-{task['number']}"
    mend = f"Give both the same words: edit the box, or call task_update task={key} title=…"
    return Conflict(
        "task", key, f"title of box {box.title[:60]!r}", box.title, str(task["title"]), row.path or "", mend
    )


def _settle_done(row: StoryRow, box: Box, task: Stored, values: dict[str, Any]) -> Conflict | None:
    key, status = f"T-{task['number']}", task["status"]
    if box.done == (status == TaskStatus.COMPLETED):
        return None
    file, mend = ("done", "") if box.done else ("open", "")
    if not box.done:
        if status not in CLOSED:
            return None
        mend = "A completed task is final here: tick the box again, or make a new task with task_create."
    elif status == TaskStatus.CANCELLED:
        mend = f"It was cancelled here: untick the box, or call task_update task={key} status=pending and import again."
    elif task["held"]:
        mend = f"{task['lease_agent']} holds it: let that agent complete it, or import again when its lease has passed."
    else:
        values["status"] = TaskStatus.COMPLETED.value
        return None
    return Conflict("task", key, f"box {box.title[:60]!r}", file, status, row.path or "", mend)


def _whole_story(has_own_boxes: bool, task: Stored, status: str) -> Step:
    """The task for a whole story closes with it, or gives way to the check boxes that its file has by now."""
    values = {name: task[name] for name in COMPARED} | {"story_open": status in OPEN_FOR_WORK}
    if not task["held"] and task["status"] not in CLOSED:
        if status == StoryStatus.DONE:
            values["status"] = TaskStatus.COMPLETED.value
        elif has_own_boxes and task["status"] == TaskStatus.PENDING and task["lease"] == 0:
            values["status"] = TaskStatus.CANCELLED.value
    return _changed(task, values)


def _removed_box(row: StoryRow, task: Stored, is_open: bool) -> Iterator[Step]:
    if _ordinal(task) == REMOVED:
        yield Keep("task", f"T-{task['number']}")
        return
    values = {name: task[name] for name in COMPARED} | {"story_open": is_open, "source_ref": _ref(row, REMOVED)}
    yield _changed(task, values)
    if task["status"] not in CLOSED:
        key = f"T-{task['number']}"
        mend = f"Its check box is gone from the file; cancel it with task_update task={key} status=cancelled."
        yield Gone("task", key, row.path or "", mend)


def _changed(task: Stored, values: Mapping[str, Any]) -> Update | Keep:
    changed = tuple(name for name in COMPARED if values[name] != task[name])
    key = f"T-{task['number']}"
    if not changed:
        return Keep("task", key)
    sent = dict(values) | {"story": task["story_id"]}
    return Update("task", key, str(values["title"]), task["id"], task["version"], sent, changed)
