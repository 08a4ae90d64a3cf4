"""Stories in their files: changed titles, sections, boxes and statuses, and files that stories do not have yet."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.merging import group_hash, grouped, is_further, section_winner, winner
from bmad_mcp.bmad_files.statuses import RANK, story_status
from bmad_mcp.bmad_files.storable import fingerprint
from bmad_mcp.bmad_files.stories import StoryName, story_name
from bmad_mcp.bmad_files.story_rows import StoryRow, status_of
from bmad_mcp.bmad_files.values import StoryValue
from bmad_mcp.bmad_files.writing.draft import NOT_TOLD, Draft, Record
from bmad_mcp.bmad_files.writing.epics import into_epics, retitle_in_epics
from bmad_mcp.bmad_files.writing.gates import export_gate
from bmad_mcp.bmad_files.writing.new_files import story_text
from bmad_mcp.bmad_files.writing.story_boxes import Boxes, boxes_of_new, boxes_to_write, tell_boxes, with_own_boxes
from bmad_mcp.bmad_files.writing.story_edit import StoryEdit, StoryFile, edited, with_title
from bmad_mcp.bmad_files.writing.targets import tracker_key
from bmad_mcp.bmad_files.writing.trackers import differs, to_tracker
from bmad_mcp.bmad_files.writing.yaml_edit import NotEdited
from bmad_mcp.counts import counted
from bmad_mcp.lifecycles import STORY, StoryStatus, TaskStatus
from bmad_mcp.stories.sections import canonical

Mend = Literal["none", "behind", "all"]
# Columns that a section's text tells as well.
FIELDS = {"Story": ("role", "want", "benefit"), "Acceptance Criteria": ("acceptance",)}


def export_story(
    draft: Draft, key: str, held: Record, row: StoryRow | None, story: StoryValue | None, *, mend: Mend
) -> None:
    """Bring one story of the database into the files; `row` and `story` are what they say of it now."""
    if row is None or story is None:
        if held["imported"] is not None or held["row"]["source_path"]:
            draft.plan.gone.append(f"story {key} ({held['row']['source_path'] or 'told by no file'})")
        else:
            _new_story(draft, key, held)
        return
    if held["row"]["source_path"] and story.path is None:
        draft.plan.gone.append(f"story {key} ({held['row']['source_path']})")
        return
    if story.generation == "v7":
        _read_only(draft, key, held, row)
        return
    _known_story(draft, key, held, row, story, mend)


def _read_only(draft: Draft, key: str, held: Record, row: StoryRow) -> None:
    path, was = str(row.extra.get("tickets") or ""), held["imported"] or {}
    if held["status"] != was.get("status", row.status.value):
        mend = "Tickets of v7 are only read; set the status there by hand."
        draft.refuse("story", key, "status", row.status.value, held["status"], path, mend)
    if _title_to_write(draft, key, held, row, was) is not None:
        mend = "Tickets of v7 are only read; write the title there by hand."
        draft.refuse("story", key, "title", row.merged["title"], held["row"]["title"], path, mend)


def _known_story(draft: Draft, key: str, held: Record, row: StoryRow, story: StoryValue, mend: Mend) -> None:
    was = held["imported"] or {}
    sections = _sections_to_write(draft, key, held, row, was)
    status = _status_to_write(draft, key, held, row, was)
    boxes = boxes_to_write(draft, key, held, with_own_boxes(draft, row, story, held, sections), row)
    word = _own_word(draft, story, status)
    title = _title_to_write(draft, key, held, row, was)
    if title is not None and story.extra.get("epic_file"):
        # Where the story has a file too, that one counts, and this document tells the same.
        is_told = retitle_in_epics(draft, key, str(story.extra["epic_file"]), row.merged["title"], title)
        if story.path is None and is_told:
            draft.told(key).fields["title"] = fingerprint(title)
            title = None
    export_gate(draft, key, held, row, was)
    is_in_file = bool(sections or boxes.ticks or boxes.titles or boxes.added or title)
    if story.path is None:
        # Told by an epics document or a tracker only; what is more than a status needs a file.
        if is_in_file or (status is not None and story.tracker_key is None):
            _first_file(draft, key, held, story, status)
        elif status is not None:
            to_tracker(draft, key, story, status)
        return
    if is_in_file or word is not None:
        edit = StoryEdit(
            stored=held["row"]["sections"],
            sections=sections,
            ticks=boxes.ticks,
            titles=boxes.titles,
            boxes=boxes.texts(),
            status=word,
            title=_title_in_file(draft, key, story, title),
        )
        if not _edit_file(draft, key, story, edit, held, status, boxes):
            return
    if status is not None:
        to_tracker(draft, key, story, status)
    elif _may_mend(mend, story, StoryStatus(held["status"])):
        to_tracker(draft, key, story, StoryStatus(held["status"]))


def _may_mend(mend: Mend, story: StoryValue, status: StoryStatus) -> bool:
    """Whether the tracker gets the story's status, although that did not change here."""
    if mend == "none" or not story.tracker_key or not differs(story.tracker_status, status.value):
        return False
    tracked = story_status(story.tracker_status)[0]
    return mend == "all" or (StoryStatus.CANCELLED not in (tracked, status) and RANK[tracked] < RANK[status])


def _own_word(draft: Draft, story: StoryValue, status: StoryStatus | None) -> str | None:
    """The word that goes into the story's own file, if one does."""
    if status is None or story.path is None:
        return None
    name = story_name(story.path)
    is_spec = story.extra.get("spec") == story.path
    if is_spec and story.tracker_key is not None:
        # A build sets its spec by itself; the tracker tells how far the story is.
        return None
    if story.raw_status is None and story.tracker_key is not None:
        return None
    if story_status(story.raw_status) == (status, True) and story.raw_status:
        return None
    return draft.words.story_word(status, is_v6=bool(name and name.is_v6), is_spec=is_spec)


def _sections_to_write(draft: Draft, key: str, held: Record, row: StoryRow, was: Record) -> frozenset[str]:
    theirs, ours = grouped(row.sections), grouped(held["row"]["sections"])
    before, chosen = was.get("sections", {}), set()
    for name in [*theirs, *(one for one in ours if one not in theirs)]:
        file, database = group_hash(theirs.get(name)), group_hash(ours.get(name))
        won = section_winner(file, database, before.get(name))
        if won == "database" and name in ours:
            chosen.add(name)
        elif won == "file":
            draft.newer(f"story {key}, section {name}")
        elif won == "nobody":
            draft.refuse(
                "story",
                key,
                f"section {name}",
                [one["text"] for one in theirs.get(name, [])] or "(removed)",
                [one["text"] for one in ours.get(name, [])],
                row.path or "",
                f"Bring both texts together, in the file or with story_update story={key} section={name!r}.",
            )
    return frozenset(chosen)


def _status_to_write(draft: Draft, key: str, held: Record, row: StoryRow, was: Record) -> StoryStatus | None:
    """The status that the files should get, if the database's is the newer one."""
    ours, file, before = StoryStatus(held["status"]), row.status, was.get("status")
    if file is ours:
        return None
    if not row.has_status:
        return ours if before is not None and ours.value != before else None
    if file.value == before:
        return ours
    if STORY.reaches(ours, file) and (ours.value == before or is_further(file, ours)):
        draft.newer(f"story {key}, status")
        return None
    mend = f"Write {ours.value} into the file, or call story_update story={key} status={file.value}."
    draft.refuse("story", key, "status", file.value, ours.value, row.path or "", mend)
    return None


def _title_to_write(draft: Draft, key: str, held: Record, row: StoryRow, was: Record) -> str | None:
    """The title that the files should get, if the database's is the newer one."""
    before = was.get("fields", {}).get("title")
    file, ours = row.merged["title"], held["row"]["title"]
    won = winner(file, ours, before) if before is not None else "same"
    if won == "file":
        draft.newer(f"story {key}, title")
    elif won == "nobody":
        mend = f"Write it into the file, or call story_update story={key} title=…"
        draft.refuse("story", key, "title", file, ours, row.path or "", mend)
    return str(ours) if won == "database" else None


def _name_of(path: str) -> StoryName | None:
    """What a file's name says of its story, also a spec's."""
    return story_name(path) or story_name(path.rpartition("/")[2].removeprefix("spec-"))


def _title_in_file(draft: Draft, key: str, story: StoryValue, title: str | None) -> str | None:
    """The title, where the story's file can hold it; else what stands against it is kept as a conflict."""
    text, name = draft.text(story.path or ""), _name_of(story.path or "")
    if title is None or text is None or name is None:
        return title
    file = StoryFile(story.path or "", name, story.generation)
    try:
        with_title(file, text, title)
    except NotEdited as error:
        if file.read(f"# Story {key}: {title}\n").title == story.title:
            # A heading holds no more of this title: marks at its ends are not read as a part of it.
            return None
        mend = "Change it in the file by hand; the database keeps its own until then."
        draft.refuse("story", key, "title", f"cannot be changed there: {error}", title, story.path or "", mend)
        return None
    return title


def _edit_file(
    draft: Draft,
    key: str,
    story: StoryValue,
    edit: StoryEdit,
    held: Record,
    status: StoryStatus | None,
    boxes: Boxes,
) -> bool:
    path = story.path or ""
    text, name = draft.text(path), story_name(path)
    reasons = _reasons(key, edit, status, story)
    what = ", ".join(reasons)
    if text is None or (name is None and not story.extra.get("spec")):
        mend = "Make the file UTF-8 text and import it again; the database keeps its own until then."
        draft.refuse("story", key, "file", "not understood", what, path, mend)
        return False
    name = _name_of(path)
    if name is None:
        return False
    file = StoryFile(path, name, story.generation)
    try:
        after = edited(file, text, edit)
        _check(file, text, after, held, edit, status)
    except NotEdited as error:
        mend = "Change it in the file by hand; the database keeps its own until then."
        draft.refuse("story", key, "file", f"cannot be changed there: {error}", what, path, mend)
        return False
    if after != text:
        draft.change(path, after, *reasons)
    told = draft.told(key)
    told.paths.add(path)
    groups = grouped(held["row"]["sections"])
    told.sections |= {one: group_hash(groups.get(one)) or NOT_TOLD for one in edit.sections}
    told.wholly |= edit.sections
    if edit.title is not None:
        told.fields["title"] = fingerprint(edit.title)
    written = {known.name for one in edit.sections if (known := canonical(one)) is not None}
    told.fields |= {field: NOT_TOLD for one, fields in FIELDS.items() if one in written for field in fields}
    if edit.ticks or edit.titles or edit.boxes:
        told.sections |= {
            one: group_hash(groups.get(one)) or NOT_TOLD for one in _task_sections(file.read(text)) if one in groups
        }
    tell_boxes(told, boxes, len(file.read(after).tasks))
    if status is not None:
        told.status = status.value
    return True


def _check(file: StoryFile, before: str, after: str, held: Record, edit: StoryEdit, status: StoryStatus | None) -> None:
    """Raises NotEdited unless the new text reads as wanted: what cannot be read back must not be written."""
    again = file.read(after)
    if edit.title is not None and again.title != edit.title:
        raise NotEdited("the title would not be read as it is written")
    if edit.status is not None and status is not None and status_of(again) != (status, True):
        raise NotEdited("the status would not be read as it is written")
    if edit.status is None and status_of(again) != status_of(file.read(before)):
        raise NotEdited("a line of the new text would be read as the story's status")
    ours = grouped(held["row"]["sections"])
    touched = _task_sections(again) if edit.ticks or edit.titles or edit.boxes else frozenset()
    for name in edit.sections - touched:
        if not _is_read(again, ours.get(name, ())):
            raise NotEdited(f"the section {name[:60]!r} would not be read as it is written")
    for number, done in edit.ticks.items():
        if number > len(again.tasks) or again.tasks[number - 1].done != done:
            raise NotEdited(f"check box {number} would not be read as it is written")
    told = [(" ".join(task.text.split()), task.done) for task in again.tasks]
    if any(number > len(told) or told[number - 1][0] != title for number, title in edit.titles.items()):
        raise NotEdited("a check box would not be read with its new text")
    # Otherwise the next export would write them once more.
    if told[len(told) - len(edit.boxes) :] != list(edit.boxes):
        raise NotEdited("the new check boxes would not be read as they are written")


def _is_read(story: StoryValue, sections: Sequence[Record]) -> bool:
    """Whether a text tells these sections of one name; headings within them are sections of their own there."""
    read = grouped([{"name": one.name, "level": one.level, "text": one.text} for one in story.sections])
    own = {one["name"] for one in sections}
    for name, group in grouped([part for one in sections for part in _parted(one)]).items():
        found = read.get(" ".join(name.split()), [])
        if name in own and group_hash(found) != group_hash(group):
            return False
        if not {group_hash([one]) for one in group} <= {group_hash([one]) for one in found}:
            return False
    return True


def _parted(section: Record) -> Iterator[Record]:
    text = section["text"].replace("\r\n", "\n")
    found = markdown.headings(text)
    yield {**section, "text": text[: found[0].start] if found else text}
    for one in markdown.sections(text, found):
        yield {"name": one.name, "level": one.level, "text": one.text}


# ── files that are not there yet ──


def _first_file(draft: Draft, key: str, held: Record, story: StoryValue, status: StoryStatus | None) -> None:
    now = status or StoryStatus(held["status"])
    _write_story(draft, key, held, now, f"story {key} gets a file of its own", story)
    if status is not None and story.tracker_key is not None:
        to_tracker(draft, key, story, status)


def _new_story(draft: Draft, key: str, held: Record) -> None:
    status = StoryStatus(held["status"])
    _write_story(draft, key, held, status, f"story {key}, made here", None)
    export_gate(draft, key, held, None, {})
    into_epics(draft, key, held)
    if draft.targets.tracker is not None and (word := draft.words.tracker_word(status)) is not None:
        draft.trackers.add(tracker_key(key, held["row"]["title"]), word, f"story {key} is new")


def _write_story(
    draft: Draft, key: str, held: Record, status: StoryStatus, reason: str, story: StoryValue | None
) -> None:
    title, is_v6 = held["row"]["title"], draft.targets.style == "v6"
    path = draft.targets.story_path(key, title)
    if story is not None and story.tracker_key is not None and is_v6:
        # The tracker names the file.
        path = f"{draft.targets.stories}/{story.tracker_key}.md"
    if path in draft.files or path in draft.plan.changes:
        mend = "Move that file away, or give it the story's number; then export again."
        draft.refuse("story", key, "file", f"{path} is another file", reason, path, mend)
        return
    word = draft.words.story_word(status, is_v6=is_v6)
    text = story_text(key, title, word, held["row"]["sections"], is_v6=is_v6)
    name = story_name(path)
    tasks = [
        one
        for one in draft.held.tasks.get(held["id"], ())
        if one["status"] != TaskStatus.CANCELLED and not str(one["source_ref"] or "").endswith("#implement")
    ]
    if name is None:
        return
    file = StoryFile(path, name, "v6" if is_v6 else "v4")
    if file.read(text).title != title:
        with contextlib.suppress(NotEdited):
            text = with_title(file, text, title)
    boxes = boxes_of_new(file, text, tasks)
    if boxes.ticks or boxes.added:
        text = edited(file, text, StoryEdit(ticks=boxes.ticks, boxes=boxes.texts()))
    draft.change(path, text, reason)
    told = draft.told(key)
    told.paths.add(path)
    told.status = status.value
    again = file.read(text)
    tell_boxes(told, boxes, len(again.tasks))
    told.sections = {
        one: (group_hash(group) if one in _task_sections(again) or _is_read(again, group) else None) or NOT_TOLD
        for one, group in grouped(held["row"]["sections"]).items()
    }
    told.fields |= dict.fromkeys(("title", *(field for fields in FIELDS.values() for field in fields)), NOT_TOLD)


def _reasons(key: str, edit: StoryEdit, status: StoryStatus | None, story: StoryValue) -> list[str]:
    reasons = [f"story {key} has another title"] if edit.title is not None else []
    reasons += [f"story {key}, section {name}" for name in sorted(edit.sections)]
    if edit.ticks:
        done = sum(edit.ticks.values())
        reasons.append(
            f"story {key}, {counted(done, 'check box', 'check boxes')} done"
            if done
            else f"story {key}, check boxes opened"
        )
    if edit.titles:
        reasons.append(f"story {key}, {counted(len(edit.titles), 'task')} renamed")
    if edit.boxes:
        reasons.append(f"story {key}, {counted(len(edit.boxes), 'new task')}")
    if status is not None and edit.status is not None:
        back = RANK[status] < RANK[story_status(story.raw_status)[0]]
        reasons.append(f"story {key} {'goes back to' if back else 'is'} {status.value}")
    return reasons


def _task_sections(story: StoryValue) -> frozenset[str]:
    """The names of the sections that hold the story's check boxes."""
    names = set()
    for task in story.tasks:
        before = [one for one in story.sections if one.line <= task.line]
        if before:
            names.add(before[-1].name)
    return frozenset(names)
