"""Trackers, gates and memory logs: the state that stands beside the stories."""

import re
from typing import Any, Literal

from bmad_mcp.bmad_files.folder import Folder
from bmad_mcp.bmad_files.markdown import body_lines, front_matter
from bmad_mcp.bmad_files.statuses import story_status
from bmad_mcp.bmad_files.stories import TRACKER_STORY, story_key
from bmad_mcp.bmad_files.values import GateValue, MemoryNote, SourceFile, TrackerEntry, TrackerValue
from bmad_mcp.bmad_files.yaml_guard import YamlRefused, load_yaml

GATES = ("PASS", "CONCERNS", "FAIL", "WAIVED")
_GATE_NAME = re.compile(r"(\d{1,6})\.(\d{1,6})([a-z]?)[-.]")
_NOTE = re.compile(r"-\s+\(\s*(?P<type>[^()]*?)\s*(?:\bby\s+(?P<who>[^()]*?))?\s*\)\s*(?P<text>.+)$")


def yaml_of(folder: Folder, file: SourceFile) -> Any:
    """The data of a YAML file; None with a deviation when it cannot be read."""
    if file.text is None:
        return None
    try:
        return load_yaml(file.text.removeprefix("\ufeff"))
    except YamlRefused as error:
        folder.note(
            file.path,
            "yaml",
            f"The YAML cannot be read: {error.message}.",
            "Mend that place and import again; the file itself is kept.",
            error.line,
        )
        return None


def entry_kind(key: str) -> Literal["epic", "story", "retrospective", "stray"]:
    """What a key of `development_status` stands for."""
    if re.fullmatch(r"epic-\d+", key):
        return "epic"
    if re.fullmatch(r"epic-\d+-retrospective", key):
        return "retrospective"
    return "story" if TRACKER_STORY.match(key) else "stray"


def read_tracker(folder: Folder, file: SourceFile) -> TrackerValue | None:
    """A `sprint-status.yaml` in its own order."""
    data = yaml_of(folder, file)
    if file.text is None or data is None:
        return None
    if not isinstance(data, dict) or not isinstance(data.get("development_status"), dict):
        folder.note(
            file.path, "tracker-shape", "The tracker has no `development_status` map.", "Run sprint planning again."
        )
        return None
    entries = []
    for key, status in data["development_status"].items():
        kind = entry_kind(str(key))
        if not isinstance(status, str | int | bool) or kind == "stray":
            folder.note(
                file.path,
                "tracker-key",
                f"{str(key)[:80]!r} is no epic, story or retrospective; it was kept and not used.",
                "Move it out of `development_status`.",
                _line_of(file.text, str(key)),
            )
            kind = "stray"
        word = str(status)
        if kind in ("story", "epic") and not story_status(word)[1]:
            folder.note(
                file.path,
                "status-unknown",
                f"{key}: the status {word[:80]!r} is not known; it counts as a draft.",
                "Use backlog, ready-for-dev, in-progress, review or done.",
                _line_of(file.text, str(key)),
            )
        entries.append(TrackerEntry(str(key), kind, word))
    actions = data.get("action_items")
    return TrackerValue(
        file.path,
        {name: value for name, value in data.items() if name not in ("development_status", "action_items")},
        tuple(entries),
        tuple(one for one in actions if isinstance(one, dict)) if isinstance(actions, list) else (),
    )


def _line_of(text: str, key: str) -> int | None:
    match = re.search(rf"(?m)^\s+[\"']?{re.escape(key)}[\"']?\s*:", text)
    return text[: match.start()].count("\n") + 1 if match else None


def read_gate(folder: Folder, file: SourceFile) -> GateValue | None:
    """A quality gate; its story comes from the file's content, else from its name."""
    data = yaml_of(folder, file)
    if data is None:
        return None
    if not isinstance(data, dict):
        folder.note(file.path, "gate-shape", "The gate is not a map.", "Write it with qa-gate again.")
        return None
    named = _GATE_NAME.match(file.path.rsplit("/", 1)[-1])
    told = re.match(r"(\d{1,6})[.-](\d{1,6})([a-z]?)", str(data.get("story", "")).strip())
    match = told or named
    gate = str(data.get("gate", "")).strip().upper()
    if match is None or gate not in GATES:
        problem = "names no story" if match is None else f"has the gate {gate[:40]!r}"
        folder.note(
            file.path, "gate-shape", f"The gate {problem}.", f"`story` is like 1.3; `gate` is one of {', '.join(GATES)}."
        )
        return None
    score, waiver, issues = data.get("quality_score"), data.get("waiver"), data.get("top_issues")
    return GateValue(
        story_key=story_key(match[1], match[2], match[3]),
        gate=gate,
        reason=str(data.get("status_reason") or ""),
        reviewer=str(data.get("reviewer") or ""),
        updated=str(data.get("updated") or ""),
        score=_score(score),
        issues=tuple(one for one in issues if isinstance(one, dict)) if isinstance(issues, list) else (),
        waiver=waiver if isinstance(waiver, dict) else {},
        data={str(name): value for name, value in data.items()},
        path=file.path,
    )


def _score(value: Any) -> int | None:
    text = str(value)
    return int(text) if text.isdecimal() and len(text) <= 3 and int(text) <= 100 else None


def read_notes(folder: Folder, file: SourceFile) -> list[MemoryNote]:
    """The lines of a `.memlog.md`: `- (type by who) text`."""
    if file.text is None:
        return []
    _, rest = front_matter(file.text)
    offset = len(body_lines(file.text)) - len(body_lines(rest))
    found = []
    for number, line in enumerate(body_lines(rest)):
        if match := _NOTE.match(line.strip()):
            kind, who = match["type"].strip() or "note", (match["who"] or "").strip()
            found.append(MemoryNote(kind, who, match["text"].strip(), file.path, offset + number + 1))
        elif line.lstrip().startswith("- "):
            found.append(MemoryNote("note", "", line.lstrip()[2:].strip(), file.path, offset + number + 1))
    return found
