"""Turns epics, stories, gates and check boxes into the rows that the database should hold for them; pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bmad_mcp.bmad_files.statuses import RANK, plain, story_status
from bmad_mcp.bmad_files.storable import TEXT_LIMIT, TITLE_LIMIT, Storable, fingerprint
from bmad_mcp.bmad_files.values import BmadProject, EpicValue, GateValue, Section, StoryTask, StoryValue
from bmad_mcp.lifecycles import StoryStatus

_EPIC_KEY = re.compile(r"\d{1,6}")
_KEY = re.compile(r"(\d{1,6})\.(\d{1,6})([a-z]?)")
_RETROSPECTIVE = re.compile(r"epic-(\d{1,6})-retrospective")
_STATUS_HEADING = re.compile(r"status\s*:", re.IGNORECASE)
_STATUS_LINE = re.compile(r"\s*[-*]*\s*\**\s*status\s*\**\s*:.*", re.IGNORECASE)
SECTIONS_LIMIT = 400
BOXES_LIMIT = 500
OPEN_FOR_WORK = frozenset({StoryStatus.READY, StoryStatus.IN_PROGRESS, StoryStatus.REVIEW})


@dataclass(frozen=True, slots=True)
class Box:
    """A check box of a story, the task it stands for, and the box around it (`parent`, an ordinal)."""

    ordinal: int
    raw: str
    title: str
    description: str
    done: bool
    parent: int | None


@dataclass(frozen=True, slots=True)
class StoryRow:
    """A story as its files tell it. `merged` are the columns that tools change too, `mirrored` those they do not."""

    key: str
    epic_key: str
    numbers: tuple[int, int, str]
    path: str | None
    status: StoryStatus
    has_status: bool
    sections: tuple[Mapping[str, Any], ...]
    merged: Mapping[str, Any]
    mirrored: Mapping[str, Any]
    extra: Mapping[str, Any]
    boxes: tuple[Box, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class EpicRow:
    """An epic as the files tell it; `has_status` is false when its status was derived from its stories."""

    key: str
    number: int
    path: str | None
    status: StoryStatus
    has_status: bool
    merged: Mapping[str, Any]
    mirrored: Mapping[str, Any]
    extra: Mapping[str, Any]


def story_rows(project: BmadProject, clean: Storable) -> Iterator[StoryRow]:
    """A row for each story whose key fits; of two with the same key the first counts."""
    gates = {gate.story_key: gate for gate in project.gates}
    hashes = {file.path: file.sha256 for file in project.files}
    seen: set[str] = set()
    for story in project.stories:
        match = _KEY.fullmatch(story.key)
        if match is None or story.key in seen:
            clean.note(
                story.path,
                "story-key",
                f"The story key {story.key[:40]!r} " + ("is there twice." if match else "is not like 1.2 or 1.4b."),
                "Give it a number of its own; the file itself is kept.",
            )
            continue
        seen.add(story.key)
        numbers = (int(match[1]), int(match[2]), match[3])
        yield _story_row(story, numbers, gates.get(story.key), hashes, clean)
    for key, gate in gates.items():
        if key not in seen:
            clean.note(
                gate.path,
                "gate-alone",
                f"The gate is for story {key}, which no file tells.",
                "Add the story, or correct `story`.",
            )


def _story_row(
    story: StoryValue,
    numbers: tuple[int, int, str],
    gate: GateValue | None,
    hashes: Mapping[str, str],
    clean: Storable,
) -> StoryRow:
    path = story.path
    status, has_status = status_of(story)
    sections = tuple(row for _, row in stored_sections(story.sections, path, clean))
    merged = {
        "title": clean.line(story.title, path, "title", TITLE_LIMIT) or f"Story {story.key}",
        "role": clean.text(story.role.strip(), path, "role", 4000),
        "want": clean.text(story.want.strip(), path, "want", 4000),
        "benefit": clean.text(story.benefit.strip(), path, "benefit", 4000),
        "acceptance": clean.json(story.acceptance, path, "acceptance criteria"),
        "gate": _gate(gate, clean) if gate else None,
    }
    mirrored = {
        "raw_status": clean.word(story.raw_status, path, "status"),
        "tracker_key": clean.word(story.tracker_key, path, "tracker key"),
        "tracker_status": clean.word(story.tracker_status, path, "tracker's status"),
        "source_path": clean.path(path) if path else None,
        "content_hash": hashes.get(path or "", ""),
    }
    extra = {
        **clean.json(story.extra, path, "front matter"),
        "slug": clean.line(story.slug, path, "slug"),
        "status_form": story.status_form,
        "generation": story.generation,
    }
    boxes = boxes_of(story.tasks, path, clean)
    told = [merged, mirrored, extra, sections, status, [(box.raw, box.parent) for box in boxes]]
    return StoryRow(
        key=story.key,
        epic_key=str(numbers[0]),
        numbers=numbers,
        path=mirrored["source_path"],
        status=status,
        has_status=has_status,
        sections=sections,
        merged=merged,
        mirrored=mirrored,
        extra=extra,
        boxes=boxes,
        fingerprint=fingerprint(told),
    )


def status_of(story: StoryValue) -> tuple[StoryStatus, bool]:
    """The status that the files give, and whether they give any: the story's own word, else the tracker's."""
    own, own_known = story_status(story.raw_status)
    if story.raw_status and own_known:
        return own, True
    tracked, tracked_known = story_status(story.tracker_status)
    if story.tracker_status and tracked_known:
        return tracked, True
    return StoryStatus.DRAFT, bool(story.raw_status or story.tracker_status)


def stored_sections(
    sections: Sequence[Section], path: str | None, clean: Storable
) -> Iterator[tuple[Section, dict[str, Any]]]:
    """Each section of a file with the row it becomes: {name, level, text}.

    Left out are the status, which is a column, and the title where nothing else stands under it.
    """
    if len(sections) > SECTIONS_LIMIT:
        clean.note(
            path,
            "many-sections",
            f"The story has {len(sections)} headings; the first {SECTIONS_LIMIT} were taken.",
            "Nothing to do: the file itself is kept whole.",
        )
    for section in sections[:SECTIONS_LIMIT]:
        text = section.text
        if plain(section.name) == "status" or _STATUS_HEADING.match(section.name):
            continue
        if section.level == 1:
            text = "\n".join(line for line in text.split("\n") if not _STATUS_LINE.fullmatch(line)).strip("\n")
            if not text.strip():
                continue
        yield (
            section,
            {
                "name": clean.line(section.name, path, "heading", TITLE_LIMIT),
                "level": section.level,
                "text": clean.text(text, path, f"section {section.name[:60]!r}"),
            },
        )


def _gate(gate: GateValue, clean: Storable) -> dict[str, Any]:
    told = {
        "gate": gate.gate,
        "reason": gate.reason,
        "reviewer": gate.reviewer,
        "updated": gate.updated,
        "score": gate.score,
        "issues": list(gate.issues),
        "waiver": gate.waiver if gate.waiver.get("active") else {},
        "nfr": gate.data.get("nfr_validation"),
        "risk": gate.data.get("risk_summary"),
        "history": gate.data.get("history"),
        "file": clean.path(gate.path),
    }
    kept = {name: value for name, value in told.items() if value not in (None, "", [], {})}
    cleaned: dict[str, Any] = clean.json(kept, gate.path, "gate")
    return cleaned


def boxes_of(tasks: Sequence[StoryTask], path: str | None, clean: Storable) -> tuple[Box, ...]:
    """The check boxes of a story's text."""
    return tuple(_boxes(tasks, path, clean))


def _boxes(tasks: Sequence[StoryTask], path: str | None, clean: Storable) -> Iterator[Box]:
    if len(tasks) > BOXES_LIMIT:
        clean.note(
            path,
            "many-tasks",
            f"The story has {len(tasks)} check boxes; the first {BOXES_LIMIT} became tasks.",
            "Split the story.",
        )
    around: list[tuple[int, int]] = []
    for ordinal, task in enumerate(tasks[:BOXES_LIMIT], start=1):
        while around and around[-1][0] >= task.indent:
            around.pop()
        text = clean.text(task.text.strip(), path, "check box", TEXT_LIMIT)
        title = " ".join(text.split()) or f"Check box {ordinal}"
        yield Box(
            ordinal=ordinal,
            raw=f"[{'x' if task.done else ' '}] {text}",
            title=title if len(title) <= TITLE_LIMIT else title[: TITLE_LIMIT - 2].rstrip() + " …",
            description=text if len(title) > TITLE_LIMIT else "",
            done=task.done,
            parent=around[-1][1] if around else None,
        )
        around.append((task.indent, ordinal))


def epic_rows(project: BmadProject, stories: Iterable[StoryRow], clean: Storable) -> Iterator[EpicRow]:
    """A row for each epic, and for each that a story belongs to and no document tells."""
    retrospectives = {
        str(int(match[1])): clean.word(entry.raw_status, tracker.path, "retrospective")
        for tracker in project.trackers
        for entry in (() if tracker.nested else tracker.entries)
        if (match := _RETROSPECTIVE.fullmatch(entry.key))
    }
    of_epic: dict[str, list[StoryStatus]] = {}
    for story in stories:
        of_epic.setdefault(story.epic_key, []).append(story.status)
    told = {str(int(epic.key)): epic for epic in reversed(project.epics) if _EPIC_KEY.fullmatch(epic.key)}
    for epic in project.epics:
        if not _EPIC_KEY.fullmatch(epic.key):
            clean.note(
                epic.path, "epic-key", f"The epic key {epic.key[:40]!r} is not a number.", "Give the epic a number."
            )
    for key in sorted({*told, *of_epic}, key=int):
        found = told.get(key) or EpicValue(key, f"Epic {key}", "", None, None, None, "project")
        yield _epic_row(key, found, of_epic.get(key, []), retrospectives.get(key), clean)


def _epic_row(
    key: str, epic: EpicValue, stories: Sequence[StoryStatus], retrospective: str | None, clean: Storable
) -> EpicRow:
    status, known = story_status(epic.raw_status)
    has_status = bool(epic.raw_status) and known
    extra: dict[str, Any] = {"generation": epic.generation}
    if epic.line is not None:
        extra["line"] = epic.line
    if retrospective is not None:
        extra["retrospective"] = retrospective
    return EpicRow(
        key=key,
        number=int(key),
        path=clean.path(epic.path) if epic.path else None,
        status=status if has_status else derived_status(stories),
        has_status=has_status,
        merged={
            "title": clean.line(epic.title, epic.path, "title", TITLE_LIMIT) or f"Epic {key}",
            "goal": clean.text(epic.goal.strip(), epic.path, "goal"),
        },
        mirrored={
            "raw_status": clean.word(epic.raw_status, epic.path, "status"),
            "source_path": clean.path(epic.path) if epic.path else None,
        },
        extra=extra,
    )


def derived_status(stories: Sequence[StoryStatus]) -> StoryStatus:
    """An epic's status where no file gives one: done with its last story, in progress with its first."""
    counting = [status for status in stories if status is not StoryStatus.CANCELLED]
    if counting and all(status is StoryStatus.DONE for status in counting):
        return StoryStatus.DONE
    if any(RANK[status] >= RANK[StoryStatus.IN_PROGRESS] for status in counting):
        return StoryStatus.IN_PROGRESS
    return StoryStatus.DRAFT
