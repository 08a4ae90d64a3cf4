"""Epics in the documents that tell them: new ones, and the headings of new stories; their statuses in the tracker."""

from bmad_mcp.bmad_files.epics import epic_marks
from bmad_mcp.bmad_files.statuses import story_status
from bmad_mcp.bmad_files.trackers import epic_of
from bmad_mcp.bmad_files.writing.draft import NOT_TOLD, Draft, Record, Told
from bmad_mcp.bmad_files.writing.new_files import epic_story_text, epic_text
from bmad_mcp.bmad_files.writing.story_edit import retitled
from bmad_mcp.bmad_files.writing.targets import EPIC_WORDS
from bmad_mcp.lifecycles import StoryStatus


def export_epics(draft: Draft) -> None:
    """Bring the epics of the database into the files."""
    known = {row.key: row for row in draft.wanted.epics}
    for key in sorted(draft.held.epics, key=int):
        held, row = draft.held.epics[key], known.get(key)
        imported = held["extra"].get("imported")
        if row is None:
            if imported is None:
                _new_epic(draft, key, held)
            else:
                draft.plan.gone.append(f"epic {key} ({held['source_path'] or 'told by no file'})")
            continue
        _epic_status(draft, key, held, row.status, row.has_status, (imported or {}).get("status"))


def _epic_status(draft: Draft, key: str, held: Record, file: StoryStatus, has_status: bool, was: str | None) -> None:
    entry = next((one for one in draft.trackers.counting if epic_of(one) == key), None)
    ours = StoryStatus(held["status"])
    if entry is None or not has_status or EPIC_WORDS.get(ours) is None or ours is file:
        return
    if file.value == was or was is None:
        tracker = draft.trackers.counting[entry]
        raw = next(one.raw_status for one in tracker.entries if one.key == entry)
        if EPIC_WORDS.get(story_status(raw)[0]) != EPIC_WORDS[ours]:
            draft.trackers.set(entry, EPIC_WORDS[ours], f"epic {key} is {ours.value}")
        told = draft.plan.epics.setdefault(key, Told())
        told.status = ours.value
        told.paths.add(tracker.path)


def _new_epic(draft: Draft, key: str, held: Record) -> None:
    is_v6 = draft.targets.style == "v6"
    text = epic_text(key, held["title"], held["goal"], is_v6=is_v6)
    path = draft.targets.epics_file or draft.targets.epic_path(key, held["title"])
    before = draft.text(path)
    if before is None and path in draft.files:
        mend = "Make the file UTF-8 text, then export again."
        draft.refuse("epic", key, "file", "not understood", held["title"], path, mend)
        return
    head = "# Epics\n\n" if draft.targets.epics_file else ""
    after = head + text if before is None else _inserted(before, len(before), text)
    draft.change(path, after, f"epic {key}, made here")
    told = draft.plan.epics.setdefault(key, Told())
    told.paths.add(path)
    told.status = held["status"]
    told.fields = dict.fromkeys(("title", "goal"), NOT_TOLD)
    if draft.targets.tracker is not None:
        word = EPIC_WORDS.get(StoryStatus(held["status"]), "backlog")
        draft.trackers.add(f"epic-{key}", word, f"epic {key} is new")
        draft.trackers.add(f"epic-{key}-retrospective", "optional", f"epic {key} is new")


def into_epics(draft: Draft, key: str, held: Record) -> None:
    """Tell a new story in the document that tells its epic."""
    epic = key.partition(".")[0]
    path = next((one.path for one in draft.project.epics if one.key == epic and one.path), None)
    if path is None:
        path = next((one for one in draft.plan.changes if _tells_epic(draft.plan.changes[one].text, epic)), None)
    text = draft.text(path) if path else None
    if path is None or text is None or _is_read_only(draft, path):
        return
    marks = epic_marks(text, path)
    own = [one for one in marks if one.kind == "story" and one.key.partition(".")[0] == epic]
    if any(one.key == key for one in own):
        return
    behind = own or [one for one in marks if one.kind == "epic" and one.key == epic]
    if not behind:
        return
    last = behind[-1]
    told = epic_story_text(key, held["row"], own[-1].line.text if own else None, is_v6=draft.targets.style == "v6")
    draft.change(path, _inserted(text, last.end, told), f"story {key} is new")


def retitle_in_epics(draft: Draft, key: str, path: str, was: str, title: str) -> bool:
    """Give a story's heading in an epics document another title; False where the document cannot tell it."""
    text = draft.text(path)
    mark = next((one for one in epic_marks(text or "", path) if one.kind == "story" and one.key == key), None)
    if text is None or mark is None or mark.title.casefold() != was.casefold() or not was or _is_read_only(draft, path):
        return False
    line = mark.line
    after = text[: line.start] + retitled(line.text, mark.title, title) + text[line.start + len(line.text) :]
    again = next((one for one in epic_marks(after, path) if one.kind == "story" and one.key == key), None)
    if again is None or again.title != title or len(epic_marks(after, path)) != len(epic_marks(text, path)):
        return False
    draft.change(path, after, f"story {key} has another title")
    draft.told(key).paths.add(path)
    return True


def _is_read_only(draft: Draft, path: str) -> bool:
    file = draft.files.get(path)
    return file is not None and file.generation == "v7"


def _tells_epic(text: str, epic: str) -> bool:
    return any(one.kind == "epic" and one.key == epic for one in epic_marks(text, ""))


def _inserted(text: str, at: int, told: str) -> str:
    """The text with a block of lines at a place, blank lines around it."""
    line_end = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    before, after = text[:at].rstrip("\r\n \t"), text[at:].lstrip("\r\n")
    gap = line_end * 2 if before else ""
    tail = line_end * 2 + after if after else line_end
    return before + gap + told.strip("\n").replace("\n", line_end) + tail
