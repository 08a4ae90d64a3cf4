"""Documents whose headings tell epics and stories, in the grammar that BMad's own planning uses."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.deviations import Deviations, shown
from bmad_mcp.bmad_files.markdown import Line
from bmad_mcp.bmad_files.stories import TITLE_LIMIT, story_key, wish
from bmad_mcp.bmad_files.values import Generation, SourceFile

SLUG_LIMIT = 60
GOAL_LIMIT = 20_000
_HEADING = re.compile(r" {0,3}(#{1,6})\s{0,20}(\S.*)")
_EPIC = re.compile(r"\**Epic[\s-]{1,20}([0-9]{1,6})(?![.0-9])", re.IGNORECASE)
_STORY = re.compile(r"\**Story[\s-]{1,20}([0-9]{1,6})\.([0-9]{1,6})([a-z]?)(?![0-9a-z])", re.IGNORECASE)
_ODD = re.compile(r"\**(?:Epic|Story)\s{1,20}#?(?:[0-9]|[IVX]+\b)", re.IGNORECASE)
_CRITERIA = re.compile(r"[\s#>*_-]{0,20}acceptance criteria\b.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StoryText:
    """A story as an epics document tells it."""

    key: str
    title: str
    line: int
    text: str
    role: str
    want: str
    benefit: str
    acceptance: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EpicText:
    """An epic as one document tells it; `title` is empty where only its stories are told."""

    key: str
    title: str
    goal: str
    line: int | None
    path: str
    generation: Generation
    stories: tuple[StoryText, ...]
    raw_status: str | None = None


def slug(title: str) -> str:
    """The slug that BMad gives a story in its tracker."""
    found = re.sub(r"[^\w]+", "-", title.lower()).strip("-")[:SLUG_LIMIT].strip("-")
    return found or hashlib.sha256(title.encode("utf-8", "replace")).hexdigest()[:8]


@dataclass(slots=True)
class _Mark:
    kind: str
    key: str
    title: str
    line: Line
    level: int
    end: int = 0


def read_epics(source: SourceFile, generation: Generation, deviations: Deviations) -> list[EpicText]:
    """The epics that a document's headings tell, each once; what stands in code fences does not count."""
    text = source.text or ""
    told: dict[str, EpicText] = {}
    marks = list(_marks(text, source.path, deviations))
    for mark in marks:
        if mark.kind == "epic":
            _add_epic(told, mark, text, source.path, generation)
        elif mark.kind == "story":
            _add_story(told, mark, text, source.path, generation, deviations)
    return list(told.values())


def epic_marks(text: str, path: str) -> list[_Mark]:
    """The headings of epics and stories in a document, each with the positions between which its text stands."""
    return list(_marks(text, path, Deviations()))


def _marks(text: str, path: str, deviations: Deviations) -> Iterator[_Mark]:
    """The epics' and stories' headings, each with where it ends: at the next of them, or at a heading above it."""
    open_mark: _Mark | None = None
    for line in markdown.hashed(text):
        match = _HEADING.fullmatch(line.text)
        if match is None:
            continue
        level = len(match[1])
        mark = _mark(line, level, match[2], path, deviations)
        if open_mark and (mark or level <= open_mark.level):
            open_mark.end = line.start
            yield open_mark
            open_mark = None
        open_mark = mark or open_mark
    if open_mark:
        open_mark.end = len(text)
        yield open_mark


def _mark(line: Line, level: int, words: str, path: str, deviations: Deviations) -> _Mark | None:
    if level <= 3 and (match := _EPIC.match(words)):
        return _Mark("epic", str(int(match[1])), _title(words[match.end() :]), line, level)
    if 2 <= level <= 4 and (match := _STORY.match(words)):
        return _Mark("story", story_key(match[1], match[2], match[3]), _title(words[match.end() :]), line, level)
    if _ODD.match(words):
        message = f"The heading {shown(words)} is not read as an epic or story."
        mend = "Write `## Epic 1: Title` and `### Story 1.2: Title`."
        deviations.add(path, line.number, "heading-form", message, mend)
    return None


def _title(rest: str) -> str:
    return rest.strip().rstrip("#").strip().lstrip(":.–—-").strip().strip("*").strip()[:TITLE_LIMIT]


def _body(mark: _Mark, text: str) -> str:
    start = text.find("\n", mark.line.start)
    return "" if start < 0 or start >= mark.end else text[start + 1 : mark.end]


def _add_epic(told: dict[str, EpicText], mark: _Mark, text: str, path: str, generation: Generation) -> None:
    goal = _body(mark, text).strip()[:GOAL_LIMIT]
    known = told.get(mark.key)
    if known is None:
        told[mark.key] = EpicText(mark.key, mark.title, goal, mark.line.number, path, generation, ())
        return
    # A list of epics names each before it is told; the place where it is told counts.
    line = mark.line.number if goal and not known.stories else known.line
    told[mark.key] = EpicText(
        mark.key, known.title or mark.title, goal or known.goal, line, path, generation, known.stories
    )


def _add_story(
    told: dict[str, EpicText], mark: _Mark, text: str, path: str, generation: Generation, deviations: Deviations
) -> None:
    epic_key = mark.key.split(".")[0]
    epic = told.get(epic_key) or EpicText(epic_key, "", "", None, path, generation, ())
    if any(one.key == mark.key for one in epic.stories):
        message = f"Story {mark.key} has a second heading; the first counts."
        deviations.add(path, mark.line.number, "story-twice", message, "Give one of them another number.")
        return
    body = _body(mark, text)
    role, want, benefit = wish(body)
    story = StoryText(mark.key, mark.title, mark.line.number, body, role, want, benefit, _acceptance(body))
    told[epic_key] = EpicText(
        epic.key, epic.title, epic.goal, epic.line, epic.path, epic.generation, (*epic.stories, story)
    )


def _acceptance(body: str) -> tuple[str, ...]:
    """What follows the line `**Acceptance Criteria:**`, up to the next heading."""
    begin: int | None = None
    for line in markdown.prose(body):
        if begin is not None:
            if line.text.startswith("#"):
                return markdown.items(body[begin : line.start])
        elif len(line.text) <= markdown.LINE_LIMIT and _CRITERIA.fullmatch(line.text):
            begin = line.start + len(line.text) + 1
    return () if begin is None else markdown.items(body[begin:])
