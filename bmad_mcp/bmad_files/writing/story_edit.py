"""Changes parts of a story's file and leaves every other byte of it alone: the title, a section, a box, the status."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.deviations import Deviations
from bmad_mcp.bmad_files.merging import grouped
from bmad_mcp.bmad_files.statuses import plain, tells_more
from bmad_mcp.bmad_files.storable import Storable
from bmad_mcp.bmad_files.stories import StatusMark, StoryName, read_story, status_marks
from bmad_mcp.bmad_files.story_rows import stored_sections
from bmad_mcp.bmad_files.values import Generation, Section, SourceFile, StoryTask, StoryValue
from bmad_mcp.bmad_files.writing.yaml_edit import NotEdited, set_values
from bmad_mcp.bmad_files.yaml_guard import read_mapping
from bmad_mcp.stories.sections import bare, canonical, framed, with_text

TASKS = "Tasks / Subtasks"
SHOWN = 300
_BOX_LINE = re.compile(r"([ \t]*(?:[-*+]|[0-9]{1,9}[.)])[ \t]{1,8}\[)([^\[\]]{0,4})(\][ \t]*)(.*)")
_LABELLED = re.compile(r"(.*?status\b[\s*_]{0,10}[:|][\s*_]{0,10})(.*?)([\s|]*)", re.IGNORECASE)

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class StoryEdit:
    """What is to change in a story's file.

    `sections` are the names whose texts come from `stored`, the story's sections as the database has them, in its
    order. `ticks` and `titles` are by the number of the check box from 1; `boxes` are new ones, as (title, done).
    """

    stored: Rows = ()
    sections: frozenset[str] = frozenset()
    ticks: Mapping[int, bool] = field(default_factory=dict)
    titles: Mapping[int, str] = field(default_factory=dict)
    boxes: tuple[tuple[str, bool], ...] = ()
    status: str | None = None
    was: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class StoryFile:
    """A story's file: where it is and what its name says."""

    path: str
    name: StoryName
    generation: Generation

    def read(self, text: str) -> StoryValue:
        """The story that a text at this place tells."""
        source = SourceFile(self.path, b"", "", text, self.generation, "story")
        return read_story(source, self.name, self.generation, Deviations())


def edited(file: StoryFile, text: str, edit: StoryEdit) -> str:
    """The text with the edit; raises NotEdited when the file's form does not allow it."""
    if edit.sections:
        text = _with_sections(file, text, edit.stored, edit.sections)
    if edit.ticks or edit.titles:
        text = _with_boxes(file.read(text).tasks, text, edit.ticks, edit.titles)
    if edit.boxes:
        text = _with_new_boxes(file, text, edit.boxes)
    if edit.status is not None:
        text = with_status(file, text, edit.status)
    if edit.title is not None:
        text = with_title(file, text, edit.title)
    return text


# ── title ──


def with_title(file: StoryFile, text: str, title: str) -> str:
    """The text with another title, where it tells it: in the front matter, in the heading, or in both."""
    was, matter = file.read(text).title, markdown.front_matter(text)
    changed = text
    in_matter = matter is not None and bool(read_mapping(matter.text, file.path, Deviations()).get("title"))
    if matter is not None and in_matter:
        begin = text.index(matter.text, text.index("\n"))
        changed = text[:begin] + set_values(matter.text, {("title",): title}) + text[begin + len(matter.text) :]
    found = markdown.headings(changed, matter.body + len(changed) - len(text) if matter else 0)
    if found and found[0].level == 1:
        line = changed[found[0].start : found[0].end]
        told = retitled(line, was, title)
        if told == line and not in_matter:
            # `# Story 1.2` alone: the title came from the file's name.
            bare_line = line.rstrip("\r\n")
            told = f"{bare_line.rstrip()}: {title}{line[len(bare_line) :]}"
        changed = changed[: found[0].start] + told + changed[found[0].end :]
    if changed == text or file.read(changed).title != title:
        raise NotEdited("its title does not stand in a form that can be changed alone")
    return changed


def retitled(heading: str, was: str, title: str) -> str:
    """A heading's line with another title behind its number; as it is where it tells another one."""
    at = heading.rfind(was) if was else -1
    return heading if at < 0 else heading[:at] + title + heading[at + len(was) :]


# ── sections ──


def _with_sections(file: StoryFile, text: str, stored: Rows, names: frozenset[str]) -> str:
    story, line_end = file.read(text), _line_end(text)
    chosen = {name: list(group) for name, group in grouped(stored).items() if name in names}
    parts: list[list[str]] = [["", str(story.extra["preamble"])]]
    told = {id(section): row for section, row in stored_sections(story.sections, file.path, Storable())}
    for section in story.sections:
        row = told.get(id(section))
        if row is None or not chosen.get(row["name"]):
            parts.append([row["name"] if row else "", section.heading + section.text])
            continue
        wanted = chosen[row["name"]].pop(0)
        parts.append([row["name"], section.heading + _own_text(section, row, wanted["text"], line_end)])
    for at, new in enumerate(stored):
        if any(new is one for one in chosen.get(new["name"], ())):
            _insert(parts, stored, at, line_end)
    return "".join(part for _, part in parts)


def _own_text(section: Section, row: Mapping[str, Any], text: str, line_end: str) -> str:
    if row["text"] != section.text:
        raise NotEdited(f"the section {section.name[:60]!r} holds more than the database keeps of it")
    if bare(text) == bare(section.text):
        return section.text
    return _framed(text, section.text, line_end)


def _framed(text: str, like: str, line_end: str) -> str:
    written = framed(bare(text), like)
    return written.replace("\r\n", "\n").replace("\n", line_end)


def _insert(parts: list[list[str]], stored: Sequence[Mapping[str, Any]], index: int, line_end: str) -> None:
    """Put a new section behind the one that it follows in the database, and what only the file has under that one."""
    row, known, before = stored[index], {one["name"] for one in stored}, [one["name"] for one in stored[:index]]
    follows = next((name for name in reversed(before) if any(part[0] == name for part in parts)), None)
    same = [place for place, part in enumerate(parts) if follows and part[0] == follows]
    at = same[min(before.count(follows), len(same)) - 1] if follows else 0
    if follows is None and len(parts) > 1:
        # The status is no section of the database; what is new goes behind it.
        at = next((place - 1 for place, part in enumerate(parts) if part[0]), len(parts) - 1)
    while at + 1 < len(parts) and parts[at + 1][0] not in known and _level(parts[at + 1][1]) > row["level"]:
        at += 1
    heading = "#" * max(1, min(int(row["level"]), 6)) + f" {row['name']}{line_end}"
    previous = parts[at][1]
    gap = "" if previous.endswith(line_end * 2) or not previous else line_end
    gap = gap if not previous or previous.endswith("\n") else line_end * 2
    parts[at][1] = previous + gap
    told = heading + _framed(row["text"], "", line_end)
    if at + 1 == len(parts):
        told = told.rstrip("\r\n") + line_end
    parts.insert(at + 1, [str(row["name"]), told])


def _level(part: str) -> int:
    told = part.lstrip(" ")
    return len(told) - len(told.lstrip("#"))


def _line_end(text: str) -> str:
    return "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"


# ── check boxes ──


def _with_boxes(tasks: Sequence[StoryTask], text: str, ticks: Mapping[int, bool], titles: Mapping[int, str]) -> str:
    rows = text.split("\n")
    for number in sorted({*ticks, *titles}):
        if number > len(tasks):
            raise NotEdited(f"check box {number} is not there")
        line = tasks[number - 1].line - 1
        row, tail = (rows[line][:-1], "\r") if rows[line].endswith("\r") else (rows[line], "")
        match = _BOX_LINE.fullmatch(row)
        if match is None:
            raise NotEdited(f"check box {number} is not on line {line + 1}")
        mark = match[2] if number not in ticks else "x" if ticks[number] else " "
        rows[line] = match[1] + mark + match[3] + titles.get(number, match[4]) + tail
    return "\n".join(rows)


def _with_new_boxes(file: StoryFile, text: str, boxes: Sequence[tuple[str, bool]]) -> str:
    tasks = file.read(text).tasks
    line_end = _line_end(text)
    if not tasks:
        return _with_tasks_section(file, text, boxes)
    rows = text.split("\n")
    top = [task for task in tasks if task.indent == min(one.indent for one in tasks)]
    match = _BOX_LINE.fullmatch(rows[top[-1].line - 1].removesuffix("\r"))
    lead = re.sub(r"[0-9]+[.)]", "-", match[1]) if match else "- ["
    at = tasks[-1].line
    while at < len(rows) and rows[at].strip() and rows[at][:1] in (" ", "\t"):
        at += 1
    carriage = "\r" if line_end == "\r\n" else ""
    if at == len(rows):
        rows[-1] += carriage
        rows.append("")
    rows[at:at] = [f"{lead}{'x' if done else ' '}] {title}{carriage}" for title, done in boxes]
    return "\n".join(rows)


def _with_tasks_section(file: StoryFile, text: str, boxes: Sequence[tuple[str, bool]]) -> str:
    listed = "\n".join(f"- [{'x' if done else ' '}] {title}" for title, done in boxes)
    rows = [row for _, row in stored_sections(file.read(text).sections, file.path, Storable())]
    known = next((row["name"] for row in rows if (one := canonical(row["name"])) and one.name == TASKS), None)
    if known is not None:
        before = bare(next(row["text"] for row in rows if row["name"] == known))
        listed = f"{before}\n\n{listed}" if before else listed
    wanted = with_text(rows, known or TASKS, listed, None)
    return _with_sections(file, text, wanted, frozenset({known or TASKS}))


# ── status ──


def with_status(file: StoryFile, text: str, word: str) -> str:
    """The text with another status, everywhere it tells the one that it has."""
    marks = status_marks(text)
    if not marks:
        return _with_new_status(file, text, word)
    first = marks[0]
    for mark in reversed(marks):
        if mark is first or plain(mark.word) == plain(first.word):
            text = _with_mark(text, mark, word)
    return text


def _with_mark(text: str, mark: StatusMark, word: str) -> str:
    if tells_more(mark.word) and mark.form != "table":
        # What a person wrote beside the word is kept.
        word = f"{word} (was: {mark.word[:SHOWN].strip()})"
    if mark.form == "front matter":
        matter = markdown.front_matter(text)
        assert matter is not None
        begin = text.index(matter.text, text.index("\n"))
        return text[:begin] + set_values(matter.text, {("status",): word}) + text[begin + len(matter.text) :]
    rows = text.split("\n")
    row, tail = rows[mark.line - 1], ""
    if row.endswith("\r"):
        row, tail = row[:-1], "\r"
    at = row.rfind(mark.word)
    if at >= 0:
        row = row[:at] + word + row[at + len(mark.word) :]
    elif match := _LABELLED.fullmatch(row):
        row = match[1] + word + match[3]
    else:
        row = row[: len(row) - len(row.lstrip())] + word
    rows[mark.line - 1] = row + tail
    return "\n".join(rows)


def _with_new_status(file: StoryFile, text: str, word: str) -> str:
    line_end = _line_end(text)
    matter = markdown.front_matter(text)
    body = matter.body if matter else (1 if text.startswith("\ufeff") else 0)
    found = markdown.headings(text, body)
    has_title = bool(found) and found[0].level == 1
    at = found[0].end if has_title else body
    rest = text[at:]
    if has_title and not text[:at].endswith("\n"):
        text, at = text[:at] + line_end, at + len(line_end)
    told = f"Status: {word}" if file.name.is_v6 else f"## Status{line_end}{line_end}{word}"
    before = line_end if has_title else ""
    gap = "" if rest.startswith(("\n", "\r\n")) else line_end
    return text[:at] + before + told + line_end + gap + rest
