"""Story files and the epics documents that name stories, in every form that real projects use."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bmad_mcp.bmad_files.folder import Folder
from bmad_mcp.bmad_files.markdown import body_lines, front_matter, headings, list_items, sections, story_tasks
from bmad_mcp.bmad_files.statuses import plain
from bmad_mcp.bmad_files.values import EpicValue, Generation, Section, SourceFile, StoryValue
from bmad_mcp.bmad_files.yaml_guard import YamlRefused, load_yaml

V4_NAME = re.compile(r"(?:story[-_. ]*)?(\d{1,6})\.(\d{1,6})([a-z]?)(?:[.\-_ ]+(.*?))?(?:\.story)?\.md$", re.IGNORECASE)
V6_NAME = re.compile(r"(?:story[-_ ])?(\d{1,6})-(\d{1,6})([a-z]?)(?:-(.+))?\.md$")
TRACKER_STORY = re.compile(r"(\d{1,6})-(\d{1,6})([a-z]?)(?:-(.*))?$")
_EPIC = re.compile(r"Epic\s+(\d{1,6})\s*[:.–—-]?\s*(.*)", re.IGNORECASE)
_STORY = re.compile(r"Story\s+(\d{1,6})\.(\d{1,6}[a-z]?)\s*[:.–—-]?\s*(.*)", re.IGNORECASE)
_TITLE = re.compile(r"(?:Story\s*:?\s*)?(?:\d+[.-]\d+[a-z]?)?\s*[:.–—-]?\s*(.*)", re.IGNORECASE)
_STATUS_LINE = re.compile(r"\s*(?:[-*]\s+)?\**\s*Status\s*\**\s*:\s*\**\s*(.+?)\s*$", re.IGNORECASE)
_BOLD_STATUS = re.compile(r"\s*\*\*Status:?\*\*\s*:?\s*(.*?)\s*$", re.IGNORECASE)
_WISH = re.compile(
    r"As an?\s+(?P<role>.+?)[,.;]?\s+I\s+(?:want|need|can|would like)\s+(?P<want>.+?)"
    r"(?:[,.;]?\s+so\s+(?:that\s+)?(?P<benefit>.+?))?\s*\.?\s*$",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class StatusFound:
    """A status in a story file: the word, and the form it was written in."""

    word: str | None
    form: str
    others: tuple[str, ...] = ()


def story_key(epic: str, number: str, suffix: str = "") -> str:
    """The key of a story: numbers without leading zeros."""
    return f"{int(epic)}.{int(number)}{suffix.lower()}"


def wish(text: str) -> tuple[str, str, str]:
    """(role, want, benefit) of an "As a …, I want …, so that …" text; empty parts where there is none."""
    words = " ".join(re.sub(r"[*_>]+", " ", text).split())
    start = re.search(r"\bAs an?\b", words, re.IGNORECASE)
    match = _WISH.match(words[start.start() :][:4000]) if start else None
    if match is None:
        return "", "", ""
    return match["role"].strip(" ,"), match["want"].strip(" ,."), (match["benefit"] or "").strip(" .")


def find_status(text: str, found: tuple[Section, ...], head: Mapping[str, Any]) -> StatusFound:
    """The status of a story file, by the first of: section, heading, line, bold line, front matter."""
    candidates: list[tuple[str, str]] = []
    for section in found:
        name = section.name.strip()
        if plain(name) == "status":
            lines = [line for line in section.text.split("\n") if line.strip()]
            if lines:
                candidates.append((_strip_emphasis(lines[0]), "section"))
        elif match := re.match(r"Status\s*:\s*(.+)", name, re.IGNORECASE):
            candidates.append((_strip_emphasis(match[1]), "heading"))
    for line in body_lines(text)[:60]:
        if line.lstrip().startswith("|"):
            continue
        if match := _BOLD_STATUS.match(line):
            if match[1]:
                candidates.append((_strip_emphasis(match[1]), "bold"))
        elif match := _STATUS_LINE.match(line):
            candidates.append((_strip_emphasis(match[1]), "line"))
    if isinstance(head.get("status"), str):
        candidates.append((head["status"], "front matter"))
    if not candidates:
        return StatusFound(None, "none")
    word, form = candidates[0]
    others = tuple(dict.fromkeys(other for other, _ in candidates[1:] if plain(other) != plain(word)))
    return StatusFound(word, form, others)


def _strip_emphasis(word: str) -> str:
    return re.sub(r"\s*<!--.*?-->\s*", "", word).strip().strip("*_`").strip()


def read_story(folder: Folder, file: SourceFile, generation: Generation, key: str, slug: str) -> StoryValue:
    """The story that a file tells; what is missing in it stays empty."""
    text = file.text or ""
    head: dict[str, Any] = {}
    matter, rest = front_matter(text)
    if matter:
        try:
            loaded = load_yaml(matter)
            head = loaded if isinstance(loaded, dict) else {}
        except YamlRefused as error:
            folder.note(
                file.path, "front-matter", f"The front matter cannot be read: {error.message}.", "Mend its YAML.", error.line
            )
    found = sections(rest)
    status = find_status(rest, found, head)
    _note_status(folder, file, status)
    by_name = {plain(section.name): section for section in reversed(found)}
    criteria = next((one for name, one in by_name.items() if name.startswith("acceptance criteria")), None)
    work = next((one for name, one in by_name.items() if name.startswith("tasks")), None)
    told = by_name.get("story") or by_name.get("user story")
    role, want, benefit = wish(told.text if told else rest[:6000])
    lines = body_lines(text)
    first = next((one.line for one in headings(lines) if work and one.title == work.name), 0)
    title = next((_TITLE.match(one.name)[1].strip() for one in found if one.level == 1), "")  # type: ignore[index]
    return StoryValue(
        key=key,
        epic_key=key.split(".")[0],
        title=str(head.get("title") or title or slug.replace("-", " ").strip().capitalize() or f"Story {key}")[:300],
        slug=slug,
        raw_status=status.word,
        status_form=status.form,
        role=role[:1000],
        want=want[:4000],
        benefit=benefit[:4000],
        acceptance=list_items(criteria.text) if criteria else (),
        tasks=story_tasks(work.text, first + 1) if work else (),
        sections=found,
        tracker_key=None,
        tracker_status=None,
        path=file.path,
        generation=generation,
        extra={name: value for name, value in head.items() if name not in ("title", "status")},
    )


def _note_status(folder: Folder, file: SourceFile, status: StatusFound) -> None:
    if status.word is None:
        folder.note(
            file.path, "status-missing", "The story file has no status.", "Add a Status section; until then it is a draft."
        )
    if status.others:
        folder.note(
            file.path,
            "status-twice",
            f"The file says {status.word!r} and also {', '.join(map(repr, status.others))}; the first counts.",
            "Keep one of them.",
        )


@dataclass(slots=True)
class EpicsFound:
    """What epics documents say; the first to name a key wins."""

    epics: dict[str, EpicValue] = field(default_factory=dict)
    stories: dict[str, StoryValue] = field(default_factory=dict)


def read_epics(file: SourceFile, generation: Generation, into: EpicsFound) -> bool:
    """Add the epics and stories that a document's headings name; False when it names none."""
    lines = body_lines(file.text or "")
    found = [one for one in headings(lines) if one.level <= 4]
    marks = []
    for heading in found:
        title = heading.title.strip().strip("*")
        if heading.level <= 3 and (match := _EPIC.match(title)):
            marks.append(("epic", heading, match))
        elif match := _STORY.match(title):
            marks.append(("story", heading, match))
    if not marks:
        return False
    ends = [mark[1].line for mark in marks[1:]] + [len(lines)]
    for (kind, heading, match), end in zip(marks, ends, strict=True):
        end = min([end, *(one.line for one in found if heading.line < one.line and one.level < heading.level)])
        text = "\n".join(lines[heading.line + 1 : end]).strip()
        if kind == "epic":
            key = str(int(match[1]))
            title = match[2].strip().strip("*") or f"Epic {key}"
            value = EpicValue(key, title[:300], text[:20_000], None, file.path, heading.line + 1, generation)
            known = into.epics.get(key)
            # A table of contents names an epic without telling it.
            if known is None or (not known.goal and text):
                into.epics[key] = value
        else:
            _add_story(file, generation, into, match, text)
    return True


def _add_story(file: SourceFile, generation: Generation, into: EpicsFound, match: re.Match[str], text: str) -> None:
    number = re.match(r"(\d+)([a-z]?)", match[2].lower())
    assert number is not None
    key = story_key(match[1], number[1], number[2])
    if key in into.stories:
        return
    role, want, benefit = wish(text)
    criteria = re.split(r"(?im)^\s*#*\s*\**\s*acceptance criteria\b[^\n]*$", text, maxsplit=1)
    into.stories[key] = StoryValue(
        key=key,
        epic_key=key.split(".")[0],
        title=(match[3].strip().strip("*") or f"Story {key}")[:300],
        slug="",
        raw_status=None,
        status_form="none",
        role=role[:1000],
        want=want[:4000],
        benefit=benefit[:4000],
        acceptance=list_items(criteria[1]) if len(criteria) == 2 else (),
        tasks=(),
        sections=(Section("Story", 2, text),) if text else (),
        tracker_key=None,
        tracker_status=None,
        path=None,
        generation=generation,
        extra={"epic_file": file.path},
    )
