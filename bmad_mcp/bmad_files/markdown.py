"""Markdown as BMad files use it: headings, sections, front matter, check boxes; fenced code is left alone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bmad_mcp.bmad_files.values import ChecklistItem, Section, StoryTask

_HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})(.*)$")
_BOX = re.compile(r"(\s*)[-*+][ \t]+\[([^\]\n]{0,5})\][ \t]*(.*)$")
_REFERENCES = re.compile(r"\(\s*ACs?\s*:?\s*#?\s*([0-9, #ACac]+)\)")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: `line` counts from 0."""

    level: int
    title: str
    line: int


def body_lines(text: str) -> list[str]:
    """The lines of a text, whatever its line ends, without a byte-order mark."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")


def outside_fences(lines: list[str]) -> Iterator[tuple[int, str]]:
    """(number, line) of the lines that are not fenced code."""
    fence = ""
    for number, line in enumerate(lines):
        match = _FENCE.match(line)
        if fence:
            if match and match[1].startswith(fence) and not match[2].strip():
                fence = ""
        elif match:
            fence = match[1]
        else:
            yield number, line


def headings(lines: list[str]) -> list[Heading]:
    """The headings outside fenced code."""
    return [
        Heading(len(match[1]), match[2], number)
        for number, line in outside_fences(lines)
        if (match := _HEADING.match(line))
    ]


def sections(text: str) -> tuple[Section, ...]:
    """Each heading with the text up to the next one, in order."""
    lines = body_lines(text)
    found = headings(lines)
    ends = [heading.line for heading in [*found, Heading(0, "", len(lines))][1:]]
    return tuple(
        Section(heading.title, heading.level, "\n".join(lines[heading.line + 1 : end]).strip("\n"))
        for heading, end in zip(found, ends, strict=True)
    )


def first_heading(text: str) -> str:
    """The title of the first level-1 heading, or of the first heading, or nothing."""
    found = headings(body_lines(text))
    return next((one.title for one in found if one.level == 1), found[0].title if found else "")


def front_matter(text: str) -> tuple[str, str]:
    """(YAML between the first two `---` lines, the rest); no front matter gives an empty first part."""
    lines = body_lines(text)
    if lines and lines[0].strip() == "---":
        for number in range(1, len(lines)):
            if lines[number].strip() == "---":
                return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :])
    return "", "\n".join(lines)


def fenced_block(text: str, language: str) -> str | None:
    """The content of the first fenced block of a language."""
    match = re.search(rf"(?m)^```{language}[ \t]*\n(.*?)^```[ \t]*$", "\n".join(body_lines(text)), re.DOTALL)
    return match[1] if match else None


def checklist_items(text: str) -> tuple[ChecklistItem, ...]:
    """Every check box with the heading or numbered title above it."""
    found, section = [], ""
    for _, line in outside_fences(body_lines(text)):
        if heading := _HEADING.match(line):
            section = heading[2]
        elif box := _BOX.match(line):
            found.append(ChecklistItem(section, box[3].strip(), box[2].strip() or " "))
        elif title := re.match(r"\d+\.[ \t]+\*\*(.+?):?\*\*", line):
            section = title[1].rstrip(":")
    return tuple(found)


def story_tasks(section: str, first_line: int = 0) -> tuple[StoryTask, ...]:
    """The check boxes of a story's task section; the text may go on over indented lines."""
    found: list[StoryTask] = []
    for number, line in outside_fences(section.split("\n")):
        box = _BOX.match(line)
        if box is None:
            continue
        text = box[3].strip()
        references = _REFERENCES.search(text)
        acceptance = tuple(re.findall(r"\d+", references[1])) if references else ()
        indent = len(box[1].expandtabs(4))
        found.append(StoryTask(text, box[2].strip().lower() == "x", indent, first_line + number + 1, acceptance))
    return tuple(found)


def list_items(section: str) -> tuple[str, ...]:
    """The items of a numbered or bulleted list, each with its continuation lines; paragraphs where there is no list."""
    items: list[str] = []
    for _, line in outside_fences(section.split("\n")):
        match = re.match(r"(\s{0,3})(?:\d+[.)]|[-*+])[ \t]+(?:\[[ xX]\][ \t]+)?(.*)", line)
        if match and len(match[1]) < 2:
            items.append(match[2].strip())
        elif line.strip() and items:
            items[-1] += " " + line.strip()
    if not items:
        items = [" ".join(part.split()) for part in re.split(r"\n\s*\n", section) if part.strip()]
    return tuple(item for item in items if item)
