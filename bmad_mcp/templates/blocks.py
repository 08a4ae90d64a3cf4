"""The Markdown of one block: a list, a table, a fenced text."""

import re
from collections.abc import Sequence

LISTS = ("bullet-list", "numbered-list", "checklist")
_MARK = re.compile(r"\s*(?:[-*+]|\d{1,4}[.)])\s")
_BULLET = re.compile(r"[-*+]\s+")
_BOX = re.compile(r"\[.\]\s")


def has_mark(line: str) -> bool:
    """Whether the line is an item of a list already."""
    return _MARK.match(line) is not None


def written_list(kind: str, items: Sequence[str], prefix: str = "") -> list[str]:
    """The items each with its mark; `prefix` FR makes `- FR1: …`. Further lines of an item are set below its text."""
    lines = []
    for number, item in enumerate(items, start=1):
        text = _BULLET.sub("", item.strip(), count=1) if _BULLET.match(item.strip()) else item.strip()
        if prefix:
            own_number = re.match(rf"{re.escape(prefix)}[ -]?\d", text)
            mark, text = "- ", text if own_number else f"{prefix}{number}: {text}"
        elif kind == "checklist":
            mark, text = "- ", text if _BOX.match(text) else f"[ ] {text}"
        else:
            mark = f"{number}. " if kind == "numbered-list" else "- "
        lines.append(mark + indented(text, len(mark)))
    return [*lines, ""] if lines else []


def indented(text: str, width: int) -> str:
    """The text with its second and further lines moved in."""
    return text.replace("\n", "\n" + " " * width)


def written_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table; a cell is one line, whatever it holds."""
    lines = [f"| {' | '.join(map(_cell, columns))} |", f"|{'---|' * len(columns)}"]
    for row in rows:
        cells = [*row, *[""] * (len(columns) - len(row))]
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return [*lines, ""]


def _cell(text: str) -> str:
    return "<br>".join(text.replace("|", "\\|").split("\n")).strip()


def fenced(text: str, language: str = "") -> list[str]:
    """The text between fences that are longer than any in it; a text that brings its fences stays as it is."""
    if text.lstrip().startswith("```"):
        return [text.rstrip(), ""]
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return [f"{fence}{language}", text.rstrip("\n"), fence, ""]


def heading(level: int, title: str) -> list[str]:
    """A heading on one line, at most six levels deep."""
    return [f"{'#' * min(level, 6)} {' '.join(title.split())}", ""]
