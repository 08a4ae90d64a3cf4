"""The check boxes of a story and the tasks that they are: what is to be written of them, and what is told then."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from bmad_mcp.bmad_files.boxes import is_of_file, is_renamed_here, is_titled, pair_boxes, title_conflict
from bmad_mcp.bmad_files.storable import Storable
from bmad_mcp.bmad_files.stories import story_name
from bmad_mcp.bmad_files.story_rows import BOXES_LIMIT, StoryRow, boxes_of
from bmad_mcp.bmad_files.values import StoryValue
from bmad_mcp.bmad_files.writing.draft import Draft, Record, Told
from bmad_mcp.bmad_files.writing.story_edit import StoryEdit, StoryFile, edited
from bmad_mcp.bmad_files.writing.yaml_edit import NotEdited
from bmad_mcp.counts import counted
from bmad_mcp.lifecycles import TaskStatus

TITLE_LINE = 200


@dataclass(slots=True)
class Boxes:
    """The check boxes of a story: the tasks that they are, by number, and what is to be written of them."""

    tasks: dict[int, UUID] = field(default_factory=dict)
    ticks: dict[int, bool] = field(default_factory=dict)
    titles: dict[int, str] = field(default_factory=dict)
    added: list[Record] = field(default_factory=list)

    def texts(self) -> tuple[tuple[str, bool], ...]:
        """The new ones, as a file gets them."""
        return tuple(
            (" ".join(str(task["title"]).split()), task["status"] == TaskStatus.COMPLETED) for task in self.added
        )


def with_own_boxes(draft: Draft, row: StoryRow, story: StoryValue, held: Record, sections: frozenset[str]) -> StoryRow:
    """The row with the check boxes that its file will have when the sections are written: a tool may give it others."""
    path = story.path or ""
    text, name = draft.text(path), story_name(path)
    if not sections or text is None or name is None:
        return row
    file = StoryFile(path, name, story.generation)
    try:
        after = edited(file, text, StoryEdit(stored=held["row"]["sections"], sections=sections))
    except NotEdited:
        # Told by who edits the whole.
        return row
    boxes = boxes_of(file.read(after).tasks, path, Storable())
    return row if boxes == row.boxes else replace(row, boxes=boxes)


def boxes_to_write(draft: Draft, key: str, held: Record, row: StoryRow, before: StoryRow) -> Boxes:
    """What is to be written into the boxes of `row`; `before` has those that the file has now."""
    tasks = draft.held.tasks.get(held["id"], ())
    found, pairs = Boxes(), pair_boxes(row, tasks)
    known = {box.title for box in before.boxes}
    for box in row.boxes:
        task = pairs.get(box.ordinal)
        if task is None:
            if box.title in known:
                draft.newer(f"story {key}, check box {box.title[:60]!r}")
            continue
        found.tasks[box.ordinal] = task["id"]
        raw, is_done = task["raw_status"] or "", task["status"] == TaskStatus.COMPLETED
        if row is not before and not raw.startswith("[ ]") and is_done and not box.done:
            # A tool wrote the text anew, and a completed task stays one.
            found.ticks[box.ordinal] = True
        elif row is not before and box.done and not is_done:
            # A tool ticked the box in its text; the next import completes the task.
            pass
        elif box.done != is_done and box.done != raw.startswith("[x]"):
            draft.newer(f"story {key}, check box {box.title[:60]!r}")
        elif box.done != is_done and task["status"] != TaskStatus.CANCELLED:
            found.ticks[box.ordinal] = is_done
        if not is_renamed_here(task) or is_titled(box, task):
            continue
        if raw[4:] != box.raw[4:]:
            one = title_conflict(row, box, task)
            draft.refuse(one.kind, one.key, one.field, one.file, one.database, one.path, one.mend)
        elif len(" ".join(raw[4:].split())) < TITLE_LINE:
            found.titles[box.ordinal] = " ".join(str(task["title"]).split())
    paired = {task["id"] for task in pairs.values()}
    added = [
        task
        for task in tasks
        if not is_of_file(task) and task["id"] not in paired and task["status"] != TaskStatus.CANCELLED
    ]
    room = max(0, BOXES_LIMIT - len(row.boxes))
    found.added = sorted(added, key=lambda one: one["number"])[:room]
    if len(added) > room:
        mend = "Split the story; what has no check box stays here."
        told = f"{counted(len(added) - room, 'task has', 'tasks have')} no check box"
        draft.refuse("story", key, "check boxes", f"{BOXES_LIMIT} at most are read", told, row.path or "", mend)
    return found


def tell_boxes(told: Told, boxes: Boxes, total: int) -> None:
    """Keep which box is which task; new ones stand behind all others, of which there are `total` with them."""
    new = {total - len(boxes.added) + at: task["id"] for at, task in enumerate(boxes.added, start=1)}
    told.tasks |= boxes.tasks | new
    told.marks |= boxes.ticks.keys() | new.keys()
    told.words |= boxes.titles.keys() | new.keys()


def boxes_of_new(file: StoryFile, text: str, tasks: Sequence[Record]) -> Boxes:
    """The boxes of a file that is not there yet: a section may hold one with the title of a task already."""
    found, left = Boxes(), list(tasks)
    for box in boxes_of(file.read(text).tasks, file.path, Storable()):
        task = next((one for one in left if is_titled(box, one)), None)
        if task is None:
            continue
        left.remove(task)
        found.tasks[box.ordinal] = task["id"]
        if box.done != (is_done := task["status"] == TaskStatus.COMPLETED):
            found.ticks[box.ordinal] = is_done
    found.added = left
    return found
