"""Statuses in trackers: words in their places, new keys behind those of their epic, one writing for all."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bmad_mcp.bmad_files.statuses import RANK, story_status
from bmad_mcp.bmad_files.stories import order_of
from bmad_mcp.bmad_files.trackers import epic_of, story_of
from bmad_mcp.bmad_files.values import StoryValue, TrackerValue
from bmad_mcp.bmad_files.writing import yaml_edit
from bmad_mcp.bmad_files.writing.draft import Draft
from bmad_mcp.bmad_files.writing.yaml_edit import NotEdited
from bmad_mcp.lifecycles import StoryStatus

STAMP = "%m-%d-%Y %H:%M"
STAMPS = (STAMP, "%Y-%m-%d %H:%M", "%Y-%m-%d", "%m-%d-%Y")


def to_tracker(draft: Draft, key: str, story: StoryValue, status: StoryStatus) -> None:
    """Give a story its status in the tracker that counts."""
    entry = story.tracker_key
    tracker = draft.trackers.counting.get(entry) if entry else None
    if entry is None or tracker is None:
        return
    told = draft.told(key)
    told.status = status.value
    told.paths.add(tracker.path)
    if differs(story.tracker_status, status.value) or story.tracker_status in (None, ""):
        back = RANK[status] < RANK[story_status(story.tracker_status)[0]]
        now = f"goes back to {status.value} (was {story.tracker_status})" if back else f"is {status.value}"
        # Where the method has no word for it, the line becomes a comment.
        draft.trackers.set(entry, draft.words.tracker_word(status), f"story {key} {now}")


def export_trackers(draft: Draft) -> None:
    """Write what was gathered for the trackers."""
    if draft.trackers.added and draft.targets.tracker is not None:
        draft.trackers.words.setdefault(draft.targets.tracker.path, {})
    for path, words in draft.trackers.words.items():
        text = draft.text(path)
        try:
            if text is None:
                raise NotEdited("it is not understood")
            after = _tracker_text(draft, path, text, words)
        except NotEdited as error:
            mend = "Set the statuses in the tracker by hand; the database keeps its own until then."
            wanted = ", ".join(f"{key}: {word or 'cancelled'}" for key, word in words.items())
            draft.refuse("file", path, "statuses", f"cannot be changed there: {error}", wanted, path, mend)
            _untell(draft, path)
            continue
        if after != text:
            draft.change(path, after, *(draft.trackers.reasons or ["statuses"]))


def _tracker_text(draft: Draft, path: str, text: str, words: Mapping[str, str | None]) -> str:
    tracker = next(one for one in draft.project.trackers if one.path == path)
    changes: dict[tuple[str, ...], Any] = {
        ("development_status", key): word for key, word in words.items() if word is not None
    }
    if stamp := _stamp(tracker.meta.get("last_updated"), draft.now):
        changes["last_updated",] = stamp
    text = yaml_edit.set_values(text, changes) if changes else text
    for key, word in words.items():
        if word is None:
            text = yaml_edit.comment_out(text, "development_status", key, "cancelled")
    if draft.targets.tracker is not None and path == draft.targets.tracker.path:
        for group, after in _places(draft.trackers.added, tracker):
            text = yaml_edit.add_entries(text, "development_status", group, after)
    return text


def _untell(draft: Draft, path: str) -> None:
    """What could not be written is not told."""
    for told in [*draft.plan.stories.values(), *draft.plan.epics.values()]:
        if path in told.paths and len(told.paths) == 1:
            told.status = None


def differs(word: str | None, status: str) -> bool:
    """Whether a word in a file is understood, and means another status."""
    known, understood = story_status(word)
    return bool(word) and understood and known.value != status


def _stamp(was: Any, now: datetime) -> str | None:
    """The time of the change in the form that the tracker has; None where it has none, or a placeholder."""
    text = str(was or "")
    if not text or text.startswith("{"):
        return None
    for form in (STAMP, "%Y-%m-%d %H:%M", "%Y-%m-%d", "%m-%d-%Y"):
        try:
            datetime.strptime(text, form)
        except ValueError:
            continue
        return now.strftime(form)
    return now.strftime(STAMP)


def _places(added: Mapping[str, str], tracker: TrackerValue) -> list[tuple[dict[str, str], str | None]]:
    """New keys of a tracker in groups, each with the key that it goes behind."""
    groups: dict[str, dict[str, str]] = {}
    for key, word in added.items():
        named = story_of(key)
        epic = named[0].partition(".")[0] if named else key.removesuffix("-retrospective").removeprefix("epic-")
        groups.setdefault(epic, {})[key] = word
    placed = []
    for epic, entries in groups.items():
        stories = [
            one.key for one in tracker.entries if (named := story_of(one.key)) and named[0].startswith(f"{epic}.")
        ]
        heads = [one.key for one in tracker.entries if epic_of(one.key) == epic]
        ordered = dict(sorted(entries.items(), key=lambda one: _entry_order(one[0])))
        placed.append((ordered, stories[-1] if stories else heads[0] if heads else None))
    return placed


def _entry_order(key: str) -> tuple[int, tuple[int, int, str]]:
    if (named := story_of(key)) is not None:
        return 1, order_of(named[0])
    return (2 if key.endswith("-retrospective") else 0), (0, 0, "")
