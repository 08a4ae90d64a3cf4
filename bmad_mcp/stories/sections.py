"""A story's sections: the canonical ones and their order, and how one is set without touching the others."""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bmad_mcp.errors import Forbidden, Invalid
from bmad_mcp.stories.rights import APPEND_ONLY

# A section as it is stored: {name, level, text}, and whatever else the import keeps beside them. The text is what
# stands between its heading and the next one, with the blank lines around it.
Section = dict[str, Any]

TOP_LEVEL = 2
NAME_LIMIT = 200
# How alike two names are that mean the same, and how much is told of the names there are.
NEAR = 0.82
NAME_TOLD, NAMES_TOLD = 60, 30
HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t](.*))?")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


@dataclass(frozen=True, slots=True)
class Canonical:
    """A section that every story may have; `parent` names the one it lies in."""

    name: str
    parent: str | None = None
    also: tuple[str, ...] = ()

    @property
    def level(self) -> int:
        return TOP_LEVEL + 1 if self.parent else TOP_LEVEL


CANONICAL = (
    Canonical("Story", also=("user story", "story statement")),
    Canonical("Acceptance Criteria", also=("acceptance", "acs", "ac")),
    Canonical("Tasks / Subtasks", also=("tasks", "subtasks", "tasks and subtasks")),
    Canonical("Dev Notes", also=("developer notes",)),
    Canonical("Testing", "Dev Notes", also=("testing standards",)),
    Canonical("Change Log", also=("changelog",)),
    Canonical("Dev Agent Record"),
    Canonical("Agent Model Used", "Dev Agent Record", also=("agent model",)),
    Canonical("Debug Log References", "Dev Agent Record", also=("debug log",)),
    Canonical("Completion Notes List", "Dev Agent Record", also=("completion notes",)),
    Canonical("File List", "Dev Agent Record"),
    Canonical("QA Results"),
)
PLACE = {canonical.name: place for place, canonical in enumerate(CANONICAL)}


def plain(name: str) -> str:
    """A heading reduced to what tells it from others: small letters, no marks, nothing in brackets."""
    return " ".join(re.sub(r"[\W_]+", " ", re.sub(r"\([^()]*\)", " ", name)).lower().split())


_BY_PLAIN_NAME = {plain(word): one for one in CANONICAL for word in (one.name, *one.also)}


def canonical(name: str) -> Canonical | None:
    """The canonical section that a heading means: `Acceptance Criteria (ACs)` → Acceptance Criteria."""
    return _BY_PLAIN_NAME.get(plain(name))


def governing(sections: Sequence[Section], index: int) -> str | None:
    """The canonical section whose rights hold for this one: its own, or that of the canonical one around it."""
    own, level = canonical(sections[index]["name"]), sections[index]["level"]
    for earlier in reversed(sections[:index]):
        if earlier["level"] >= level:
            continue
        level, around = earlier["level"], canonical(earlier["name"])
        if around is not None:
            # Testing inside QA Results is a part of QA Results, not the Testing of the Dev Notes; but under a title
            # such as `# User Story` stand sections of their own.
            of_its_own = own and (own.parent == around.name or level < TOP_LEVEL)
            return own.name if own and of_its_own else around.name
    return own.name if own else None


def end_of(sections: Sequence[Section], index: int) -> int:
    """Where the section with all its sub-sections ends."""
    level = sections[index]["level"]
    return next((at for at in range(index + 1, len(sections)) if sections[at]["level"] <= level), len(sections))


def find(sections: Sequence[Section], name: str) -> int | None:
    """The section that a caller means by this name: the canonical one first, then one of that very heading."""
    meant = canonical(name)
    if meant is not None:
        for index, section in enumerate(sections):
            if canonical(section["name"]) is meant and governing(sections, index) == meant.name:
                return index
        return None
    wanted = plain(name) or name
    return next((at for at, one in enumerate(sections) if (plain(one["name"]) or one["name"]) == wanted), None)


def bare(text: str) -> str:
    """A section's text without the blank lines around it."""
    lines = text.replace("\r\n", "\n").rstrip().split("\n")
    return "\n".join(lines[next((at for at, line in enumerate(lines) if line.strip()), 0) :])


def framed(text: str, like: str = "") -> str:
    """A text as a section stores it, with line ends and blank lines around it like those of the text it replaces."""
    if not bare(like):
        return f"\n{text}\n\n" if text else "\n"
    before, after = like[: -len(like.lstrip("\r\n"))], like[len(like.rstrip("\r\n")) :]
    return before + (text.replace("\n", "\r\n") if "\r\n" in like else text) + (after or "\n")


def text_of(sections: Sequence[Section], name: str) -> str:
    """The section's text with its sub-sections under their headings; empty when there is none."""
    index = find(sections, name)
    return "" if index is None else whole_text(sections, index)


def whole_text(sections: Sequence[Section], index: int) -> str:
    """The text of the section at this place, with its sub-sections under their headings."""
    parts = [bare(sections[index]["text"])]
    for sub in sections[index + 1 : end_of(sections, index)]:
        parts.append(f"{'#' * sub['level']} {sub['name']}")
        parts.append(bare(sub["text"]))
    return "\n\n".join(part for part in parts if part)


def name_for(sections: Sequence[Section], name: str) -> tuple[str, str | None]:
    """The heading that an edit of `name` writes and the canonical section that governs it; raises Invalid.

    A name that is nearly a canonical one is refused: it would make a second section that nobody looks for. Any other that
    the story has not is a slip as well, unless it is written as the heading of a new section: `## Name`.
    """
    wanted = " ".join(name.strip().lstrip("#").split())
    if not wanted or len(wanted) > NAME_LIMIT:
        raise Invalid(f"`section` must be a heading of 1 to {NAME_LIMIT} characters.", field="section")
    if plain(wanted) == "status":
        raise Invalid("The status is not a section: call story_update with `status`.", field="section")
    index = find(sections, wanted)
    if index is not None:
        return sections[index]["name"], governing(sections, index)
    meant = canonical(wanted)
    if meant is not None:
        return meant.name, meant.name
    there = {plain(one["name"]) or one["name"]: one["name"] for one in sections}
    known = {**there, **{word: one.name for word, one in _BY_PLAIN_NAME.items()}}
    adds = name.lstrip().startswith("#")
    close = difflib.get_close_matches(plain(wanted), _BY_PLAIN_NAME if adds else known, n=1, cutoff=NEAR)
    if not close and adds:
        return wanted, None
    mend = f" Did you mean {known[close[0]]!r}?" if close else ""
    if not adds:
        names = [one.name for one in CANONICAL] + [own for own in there.values() if canonical(own) is None]
        told = ", ".join(one[:NAME_TOLD] for one in names[:NAMES_TOLD]) + (" and more" if names[NAMES_TOLD:] else "")
        mend += f" There are: {told}. `## {wanted}` adds it."
    raise Invalid(f"There is no section {wanted!r}.{mend}", field="section")


def with_text(sections: Sequence[Section], name: str, text: str, governs: str | None) -> list[Section]:
    """The sections after an edit of `name` (from `name_for`); a missing one is added in its canonical place.

    Only the section's own text changes, its sub-sections stay. Raises Invalid for a text that would reach out of
    its section, Forbidden for a text that drops what an append-only section holds.
    """
    edited = list(sections)
    index = find(edited, name)
    if index is None:
        index = _insert(edited, name)
    section = edited[index]
    text = _checked(section["name"], section["level"], text)
    if governs in APPEND_ONLY:
        _append(edited, index, text)
    else:
        edited[index] = {**section, "text": framed(text, section["text"])}
    return edited


def _append(sections: list[Section], index: int, text: str) -> None:
    added = _after(text, whole_text(sections, index))
    if added is None:
        raise Forbidden(
            f"{sections[index]['name']} is append-only: send the text that is there, unchanged, and yours after it."
            " story_get shows it.",
            field="text",
        )
    last = end_of(sections, index) - 1
    kept = bare(sections[last]["text"])
    whole = f"{kept}\n\n{added}" if kept and added else kept or added
    sections[last] = {**sections[last], "text": framed(whole, sections[last]["text"])}


def _after(text: str, before: str) -> str | None:
    """What `text` has after `before`, blank lines not counted; None when it does not begin with it."""
    kept = [line.rstrip() for line in before.split("\n") if line.strip()]
    lines = text.split("\n")
    at = 0
    for wanted in kept:
        while at < len(lines) and not lines[at].strip():
            at += 1
        if at == len(lines) or lines[at].rstrip() != wanted:
            return None
        at += 1
    return "\n".join(lines[at:]).strip("\n")


def _insert(sections: list[Section], name: str) -> int:
    meant = canonical(name)
    if meant is None:
        sections.append({"name": name, "level": TOP_LEVEL, "text": ""})
        return len(sections) - 1
    first, last, level = 0, len(sections), meant.level
    if meant.parent is not None:
        parent = find(sections, meant.parent)
        if parent is None:
            parent = _insert(sections, meant.parent)
        first, last, level = parent + 1, end_of(sections, parent), sections[parent]["level"] + 1
    at = _place(sections, meant, level, range(first, last))
    sections.insert(at, {"name": meant.name, "level": level, "text": ""})
    return at


def _place(sections: Sequence[Section], meant: Canonical, level: int, where: range) -> int:
    """Right after the canonical sections that come before it, else right before those after it, else at the end."""
    known = {
        at: PLACE[one.name]
        for at in where
        if (one := canonical(sections[at]["name"])) is not None and governing(sections, at) == one.name
    }
    if before := [at for at, place in known.items() if place < PLACE[meant.name]]:
        # Past what lies deeper, so that nobody's sub-section gets another parent.
        return next((at for at in range(max(before) + 1, where.stop) if sections[at]["level"] <= level), where.stop)
    after = (at for at, place in known.items() if place > PLACE[meant.name] and sections[at]["level"] <= level)
    return min(after, default=where.stop)


def headings(text: str) -> Iterator[tuple[int, str, bool]]:
    """Each line of a Markdown text as (heading level, or 0; its text; whether a code fence is open after it)."""
    fence = ""
    for line in text.split("\n"):
        opened = FENCE.fullmatch(line)
        if fence:
            if opened and opened[1].startswith(fence) and not opened[2].strip():
                fence = ""
        elif opened and not (opened[1][0] == "`" and "`" in opened[2]):
            fence = opened[1]
        elif heading := HEADING.fullmatch(line):
            yield len(heading[1]), (heading[2] or "").strip(), False
            continue
        yield 0, line, bool(fence)


def _checked(name: str, level: int, text: str) -> str:
    lines = bare(text).split("\n")
    own = HEADING.fullmatch(lines[0])
    # Agents often send the section's own heading along.
    if own and plain(own[2] or "") == plain(name) and plain(name):
        lines = lines[1:]
    text = bare("\n".join(lines))
    read, level = list(headings(text)), max(level, TOP_LEVEL)
    for depth, heading, _ in read:
        # Otherwise one agent could write another's section from within its own.
        if 0 < depth <= level:
            raise Invalid(
                f"`text` holds the heading {heading[:80]!r} at level {depth}, which would end the section {name}."
                f" Use level {min(level + 1, 6)} or deeper inside it, and one story_update for each section.",
                field="text",
            )
    if read[-1][2]:
        raise Invalid("`text` opens a code fence and does not close it. Close it.", field="text")
    return text
