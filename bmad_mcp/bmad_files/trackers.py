"""Trackers, quality gates and memory logs: the state that stands beside the stories."""

import re
from collections.abc import Iterator
from typing import Any

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.deviations import Deviations, shown
from bmad_mcp.bmad_files.statuses import story_status
from bmad_mcp.bmad_files.stories import story_key
from bmad_mcp.bmad_files.values import EntryKind, GateValue, MemoryNote, SourceFile, TrackerEntry, TrackerValue
from bmad_mcp.bmad_files.yaml_guard import Loaded, read_yaml

GATES = ("PASS", "CONCERNS", "FAIL", "WAIVED")
GATE_KEYS = ("schema", "story", "gate", "status_reason", "reviewer", "updated", "top_issues", "waiver")
TRACKER_STORY = re.compile(r"([0-9]{1,6})[-.]([0-9]{1,6})([a-z]?)(?:[-.](.*))?", re.IGNORECASE)
_STRICT_STORY = re.compile(r"[0-9]+-[0-9]+[a-z]?-.+")
_EPIC = re.compile(r"epic-([0-9]{1,6})")
_RETROSPECTIVE = re.compile(r"epic-([0-9]{1,6})-retrospective")
_STAMP = re.compile(r"[0-9]{2}-[0-9]{2}-[0-9]{4}(?: [0-9]{2}:[0-9]{2})?|\{.*\}|")
_NUMBER = re.compile(r"(?:story[-_ ]*)?([0-9]{1,6})[.-]([0-9]{1,6})([a-z]?)(?![0-9a-z])", re.IGNORECASE)
_NOTE_TAG = re.compile(r"\(([^()]{0,200})\)\s*(\S.*)")


def epic_of(key: str) -> str | None:
    """The epic that a tracker's key stands for, or None."""
    match = _EPIC.fullmatch(key)
    return str(int(match[1])) if match else None


def story_of(key: str) -> tuple[str, str] | None:
    """(key, slug) of the story that a tracker's key stands for, or None."""
    match = TRACKER_STORY.fullmatch(key)
    return (story_key(match[1], match[2], match[3]), match[4] or "") if match else None


def read_tracker(source: SourceFile, deviations: Deviations, *, nested: bool = False) -> TrackerValue | None:
    """A `sprint-status.yaml` in its own order; what is odd in it is told and kept."""
    loaded = read_yaml(source, deviations, keep_repeated=True)
    if loaded is None:
        return None
    data = loaded.value
    statuses = data.get("development_status") if isinstance(data, dict) else None
    if not isinstance(statuses, dict):
        message = "The tracker has no `development_status` with keys and statuses."
        deviations.add(source.path, None, "tracker-shape", message, "Run sprint planning again.")
        return None
    entries = tuple(_entries(source, loaded, statuses, deviations))
    actions = data.get("action_items")
    meta = {name: value for name, value in data.items() if name not in ("development_status", "action_items")}
    for name in ("generated", "last_updated"):
        if not _STAMP.fullmatch(str(meta.get(name) or "")):
            message = f"`{name}` is {shown(meta[name])}, which BMad's own check of trackers refuses."
            line = loaded.places.get((name,), (None,))[0]
            deviations.add(source.path, line, "tracker-stamp", message, "Write it as MM-DD-YYYY HH:MM.")
    listed = tuple(one for one in actions if isinstance(one, dict)) if isinstance(actions, list) else ()
    return TrackerValue(source.path, meta, entries, listed, nested)


def _entries(
    source: SourceFile, loaded: Loaded, statuses: dict[str, Any], deviations: Deviations
) -> Iterator[TrackerEntry]:
    rows = (source.text or "").split("\n")
    for key, status in statuses.items():
        line, end, column = loaded.places.get(("development_status", key), (0, 0, 0))
        word = "" if status is None else str(status)
        kind = _kind(key)
        if isinstance(status, dict | list) or kind == "stray":
            message = f"{shown(key)} is no epic, story or retrospective with a status; it was kept and not used."
            deviations.add(source.path, line or None, "tracker-key", message, "Move it out of `development_status`.")
            kind = "stray"
        elif kind == "story" and not _STRICT_STORY.fullmatch(key):
            message = f"{shown(key)} is not like `1-2-short-title`; it was used all the same."
            deviations.add(source.path, line or None, "tracker-key", message, "Write it as epic-story-title.")
        if kind != "stray" and not story_status(word)[1]:
            counted = "it counts as a draft" if kind != "retrospective" else "it counts as not held"
            message = f"{key}: the status {shown(word)} is not known; {counted}."
            mend = "Use backlog, ready-for-dev, in-progress, review or done."
            deviations.add(source.path, line or None, "status-unknown", message, mend)
        yield TrackerEntry(key, kind, word, _comment(rows, end, column), line)


def _kind(key: str) -> EntryKind:
    if _EPIC.fullmatch(key):
        return "epic"
    if _RETROSPECTIVE.fullmatch(key):
        return "retrospective"
    return "story" if TRACKER_STORY.fullmatch(key) else "stray"


def _comment(rows: list[str], line: int, column: int) -> str:
    rest = rows[line - 1][column:] if 0 < line <= len(rows) else ""
    _, mark, comment = rest.partition("#")
    return comment.strip() if mark else ""


def read_gate(source: SourceFile, deviations: Deviations) -> GateValue | None:
    """A quality gate; its story comes from what it says, else from its name."""
    loaded = read_yaml(source, deviations)
    if loaded is None:
        return None
    data = loaded.value
    if not isinstance(data, dict):
        deviations.add(source.path, None, "gate-shape", "The gate is not a map.", "Write it with qa-gate again.")
        return None
    match = _NUMBER.match(str(data.get("story") or "").strip()) or _NUMBER.match(source.path.rsplit("/", 1)[-1])
    gate = str(data.get("gate") or "").strip().upper()
    if match is None or gate not in GATES:
        message = "The gate names no story." if match is None else f"The gate is {shown(data.get('gate'))}."
        mend = f"`story` is like '1.3'; `gate` is one of {', '.join(GATES)}."
        deviations.add(source.path, loaded.places.get(("gate",), (None,))[0], "gate-shape", message, mend)
        return None
    if missing := [name for name in GATE_KEYS if name not in data]:
        message = f"The gate has no {', '.join(missing)}."
        deviations.add(source.path, None, "gate-incomplete", message, "Add what is missing; it was used as it is.")
    waiver, issues = data.get("waiver"), data.get("top_issues")
    return GateValue(
        story_key=story_key(match[1], match[2], match[3]),
        gate=gate,
        reason=str(data.get("status_reason") or ""),
        reviewer=str(data.get("reviewer") or ""),
        updated=str(data.get("updated") or ""),
        score=_score(data.get("quality_score")),
        issues=tuple(one for one in issues if isinstance(one, dict)) if isinstance(issues, list) else (),
        waiver=waiver if isinstance(waiver, dict) else {},
        data=data,
        path=source.path,
    )


def _score(value: Any) -> int | None:
    match = re.fullmatch(r"([0-9]{1,3})(?:\.[0-9]{1,9})?", str(value))
    return int(match[1]) if match and int(match[1]) <= 100 else None


def read_notes(source: SourceFile) -> Iterator[MemoryNote]:
    """The lines of a `.memlog.md`: `- (type by who) text`, or `- text` for a plain note."""
    text = source.text or ""
    matter = markdown.front_matter(text)
    for line in markdown.lines(text, matter.body if matter else 0):
        if not line.text.startswith("- ") or not (told := line.text[2:].strip()):
            continue
        match = _NOTE_TAG.fullmatch(told)
        kind, who = "note", ""
        if match:
            before, by, after = f" {match[1].strip()} ".partition(" by ")
            kind, who, told = before.strip() or "note", after.strip() if by else "", match[2]
        yield MemoryNote(kind, who, told.strip(), source.path, line.number)
