"""The parts of Markdown that BMad files are made of; positions are kept, so that a text can be put together again."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from bmad_mcp.bmad_files.values import Section

# Longer lines are text, not structure: no pattern is tried on them.
LINE_LIMIT = 2_000
MARKS = frozenset(["", " ", "x", "X", "N/A", "n/a", "!", "-", "~", "/", "?", ">", "✓", "✔", "✅", "❌", "⚠️"])
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(\S.*)|[ \t]*)")
# The lines that headings and fences can be on; everything else need not be looked at. Each is found by the line end
# before it, which is much faster than to try every position.
_MARK = re.compile(r"\n {0,3}(?:#|```|~~~)[^\n]*")
_FIRST_MARK = re.compile(r" {0,3}(?:#|```|~~~)[^\n]*")
_FENCES = ("`", "~")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_BOX = re.compile(r"([ \t]*)(?:[-*+]|[0-9]{1,9}[.)])[ \t]{1,8}\[([^\[\]]{0,4})\](?!\()[ \t]*(.*)")
_CHECKED = re.compile(r"\[([^\[\]]{0,4})\](?!\()[ \t]*(?=\S)")
_ITEM = re.compile(r"([ \t]*)(?:[-*+]|[0-9]{1,9}[.)])[ \t]+(\S.*)")
# Given …, When …, Then … is one criterion, however many lines it takes.
_GOES_ON = re.compile(r"\W{0,4}(?:When|Then|And|But)\b", re.IGNORECASE)
_VARIABLE = re.compile(r"\{\{([^{}\n]{1,80})\}\}")


class Line(NamedTuple):
    """A line outside code fences: its number from 1, where it starts, its text without the line end."""

    number: int
    start: int
    text: str


class Heading(NamedTuple):
    """A `#` heading: `start` and `end` enclose its line with the line end."""

    level: int
    name: str
    line: int
    start: int
    end: int


class Box(NamedTuple):
    """A check box: the mark between the brackets, the text behind, how far it is indented (a tab counts four)."""

    mark: str
    text: str
    width: int
    line: int


class FrontMatter(NamedTuple):
    """The YAML between the first two `---` lines; `body` is where the text goes on."""

    text: str
    line: int
    body: int


def lines(text: str, start: int = 0, end: int | None = None) -> Iterator[Line]:
    """Every line of the text between two positions, fences and all."""
    start, number, rows = _rows(text, start, end)
    for row in rows:
        yield Line(number, start, row.removesuffix("\r"))
        start += len(row) + 1
        number += 1


def _rows(text: str, start: int, end: int | None) -> tuple[int, int, list[str]]:
    """(where the first line starts, its number, the lines without the line feed) between two positions."""
    if start == 0 and text.startswith("\ufeff"):
        start = 1
    rows = text[start:end].split("\n")
    if not rows[-1]:
        rows.pop()
    return start, text.count("\n", 0, start) + 1, rows


def prose(text: str, start: int = 0, end: int | None = None) -> Iterator[Line]:
    """The lines outside code fences, without the fences."""
    fence = ""
    start, number, rows = _rows(text, start, end)
    for row in rows:
        line = row.removesuffix("\r")
        is_prose = True
        if fence or line.lstrip(" ")[:1] in _FENCES:
            fence, is_prose = _fenced(fence, line)
        if is_prose:
            yield Line(number, start, line)
        start += len(row) + 1
        number += 1


def _fenced(fence: str, line: str) -> tuple[str, bool]:
    """(the fence that is open after the line, whether the line is outside of it), given the one open before."""
    opened = _FENCE.fullmatch(line) if line.lstrip(" ")[:1] in _FENCES else None
    if fence:
        closes = opened and opened[1].startswith(fence) and not opened[2].strip()
        return ("" if closes else fence), False
    if opened and not (opened[1][0] == "`" and "`" in opened[2]):
        return opened[1], False
    return "", True


def headings(text: str, start: int = 0) -> list[Heading]:
    """The `#` headings outside code fences."""
    found: list[Heading] = []
    for line, stop in _hashed(text, start):
        if match := _HEADING.fullmatch(line.text):
            end = min(stop + 1, len(text))
            found.append(Heading(len(match[1]), _without_closing(match[2] or ""), line.number, line.start, end))
    return found


def hashed(text: str) -> Iterator[Line]:
    """The lines outside code fences that begin with `#`, behind three blanks at most, and are not too long."""
    return (line for line, _ in _hashed(text, 0))


def _hashed(text: str, start: int) -> Iterator[tuple[Line, int]]:
    """The same with where each ends."""
    fence, number, counted = "", 1, 0
    for begin, stop in _marked(text, start):
        line = text[begin:stop].removesuffix("\r")
        if line.lstrip(" ")[0] in _FENCES:
            fence, _ = _fenced(fence, line)
        elif not fence and len(line) <= LINE_LIMIT:
            number += text.count("\n", counted, begin)
            counted = begin
            yield Line(number, begin, line), stop


def _marked(text: str, start: int) -> list[tuple[int, int]]:
    """Where the lines with marks at their begin are; a byte order mark stands before the first line only."""
    if start == 0 and text.startswith("\ufeff"):
        start = 1
    found = [(mark.start() + 1, mark.end()) for mark in _MARK.finditer(text, max(start - 1, 0))]
    if start <= 1 and (first := _FIRST_MARK.match(text, start)):
        found.insert(0, first.span())
    return found


def _without_closing(name: str) -> str:
    name = name.strip()
    bare = name.rstrip("#")
    return bare.rstrip() if bare != name and bare[-1:] in ("", " ", "\t") else name


def sections(text: str, found: Sequence[Heading]) -> tuple[Section, ...]:
    """The headings as sections, each with the text up to the next one."""
    ends = [heading.start for heading in found[1:]] + [len(text)] * bool(found)
    return tuple(
        Section(one.name, one.level, text[one.end : end], text[one.start : one.end], one.line)
        for one, end in zip(found, ends, strict=True)
    )


def front_matter(text: str) -> FrontMatter | None:
    """The front matter, when the text begins with a `---` line and another one ends it."""
    if not text.startswith(("---", "\ufeff---")):
        return None
    each = lines(text)
    first = next(each, None)
    if first is None or first.text.rstrip() != "---":
        return None
    for line in each:
        if line.text.rstrip() == "---":
            body = line.start + len(line.text)
            body += 2 if text.startswith("\r\n", body) else 1
            begin = text.index("\n") + 1
            return FrontMatter(text[begin : line.start], 2, min(body, len(text)))
    return None


def fenced(text: str, language: str) -> tuple[str, int] | None:
    """The first code block of a language, and the line it begins on."""
    opening, begin = "", 0
    for line in lines(text):
        match = _FENCE.fullmatch(line.text)
        if opening:
            if match and match[1].startswith(opening) and not match[2].strip():
                return text[begin : line.start], text.count("\n", 0, begin) + 1
        elif match and match[2].strip().lower() == language:
            opening, begin = match[1], line.start + len(text[line.start :].split("\n", 1)[0]) + 1
    return (text[begin:], text.count("\n", 0, begin) + 1) if opening else None


def box(line: Line) -> Box | None:
    """The check box on a line, if it is one."""
    if "[" not in line.text or len(line.text) > LINE_LIMIT:
        return None
    match = _BOX.fullmatch(line.text)
    if match is None or match[2] not in MARKS:
        return None
    return Box(match[2], match[3].strip(), len(match[1].expandtabs(4)), line.number)


def items(text: str) -> tuple[str, ...]:
    """What a section lists: its top-level bullets or numbers, else its paragraphs; markers are left out."""
    found: list[list[str]] = []
    listed, gap, width = False, True, 0
    for line in prose(text):
        stripped = line.text.strip()
        match = _ITEM.fullmatch(line.text) if len(line.text) <= LINE_LIMIT else None
        if match and found and listed and _GOES_ON.match(match[2]):
            found[-1].append(match[2].strip())
        elif match and (not listed or len(match[1].expandtabs(4)) <= width):
            if not listed:
                # What stands before the first item is an introduction.
                listed, width, found = True, len(match[1].expandtabs(4)), []
            found.append([_unboxed(match[2])])
        elif not stripped or stripped.startswith("<!--"):
            gap = gap or not stripped
            continue
        elif found and (listed or not gap or _GOES_ON.match(stripped)):
            found[-1].append(stripped)
        else:
            found.append([stripped])
        gap = False
    return tuple("\n".join(one) for one in found)


def _unboxed(text: str) -> str:
    if not text.startswith("["):
        return text.strip()
    match = _CHECKED.match(text)
    return text[match.end() :].strip() if match and match[1] in MARKS else text.strip()


def variables(text: str) -> tuple[str, ...]:
    """The names of `{{name}}`, each once, in order."""
    return tuple(dict.fromkeys(match[1].strip() for match in _VARIABLE.finditer(text)))


def title(text: str, found: Sequence[Heading]) -> str:
    """The first heading of level one, else the first one there is."""
    return next((one.name for one in found if one.level == 1), found[0].name if found else "")


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """A heading reduced to what tells it from others: small letters, no marks, nothing in brackets."""
    return " ".join(re.sub(r"[\W_]+", " ", re.sub(r"\([^()]*\)", " ", name[:LINE_LIMIT])).lower().split())
