"""The story sentence and the acceptance criteria: from fields to Markdown and back."""

import re
from collections.abc import Sequence

from bmad_mcp.shapes import one_line
from bmad_mcp.stories.sections import Section, framed

# On text where every run of blanks is one character: none of these can go back over a long run.
_AS_A = re.compile(r"\bas an?\b[:,]?", re.IGNORECASE)
_I_WANT = re.compile(r"[,;.]?[ \n]?\bI want\b[:,]?", re.IGNORECASE)
_SO_THAT = re.compile(r"[,;.]?[ \n]?\bso that\b[:,]?", re.IGNORECASE)

_ITEM = re.compile(r"([ \t]*)(?:\d{1,4}[.)]|[-*+])[ \t]+(?:\[[ xX]\][ \t]+)?(.*)")
_LABEL = re.compile(r"[*_]*AC\s*#?\d+(?:[.:)]|[*_]+[.:)]|[*_]*\s+[-–—])[*_]*\s*", re.IGNORECASE)
# Deep enough that no line of an item is read as a heading.
_CONTINUED = "\n    "


def story_sentence(role: str, want: str, benefit: str, mark: str = "**") -> str:
    """`As a …, I want …, so that …`, one clause a line; clauses without text are left out."""
    given = re.match(r"(an?) ", role, re.IGNORECASE)
    opening, who = (f"As {given[1].lower()}", role[given.end() :]) if given else ("As a", role)
    clauses = ((opening, who), ("I want", want), ("so that", benefit))
    return ",\n".join(f"{mark}{lead}{mark} {one_line(clause)}" for lead, clause in clauses if clause.strip())


def read_story_sentence(text: str) -> tuple[str, str, str] | None:
    """Role, want and benefit of a text in the As a … I want … so that form; None when it has another form."""
    paragraphs = (one_line(part) for part in text.replace("**", "").replace("__", "").split("\n\n"))
    flat = "\n".join(part for part in paragraphs if part)
    opening = _AS_A.search(flat)
    want = opening and _I_WANT.search(flat, opening.end())
    benefit = want and _SO_THAT.search(flat, want.end())
    if not (opening and want and benefit):
        return None
    # The sentence ends with its paragraph.
    good = flat[benefit.end() :].lstrip().split("\n", 1)[0]
    clauses = flat[opening.end() : want.start()], flat[want.end() : benefit.start()], good
    role, wanted, good = (one_line(clause).strip(" ,;.") for clause in clauses)
    return (role, wanted, good) if role and wanted else None


def acceptance_list(criteria: Sequence[str]) -> str:
    """The criteria as a numbered list."""
    return "\n".join(f"{number}. {tidy(one).replace(chr(10), _CONTINUED)}" for number, one in enumerate(criteria, 1))


def tidy(criterion: str) -> str:
    """A criterion without blank lines and without spaces at the ends of its lines."""
    return "\n".join(" ".join(line.split()) for line in criterion.splitlines() if line.strip())


def read_acceptance(text: str) -> list[str]:
    """The numbered or bulleted lines of a text, each with the lines under it; labels such as `AC1:` are dropped."""
    criteria: list[str] = []
    outer = 0
    for line in text.split("\n"):
        item = _ITEM.fullmatch(line)
        indent = len(item[1].expandtabs(4)) if item else 0
        if item and (not criteria or indent <= outer + 1):
            criteria.append(_LABEL.sub("", item[2], count=1) if _LABEL.match(item[2]) else item[2])
            outer = indent if len(criteria) == 1 else min(outer, indent)
        elif criteria and line.strip() and line[:1] in (" ", "\t"):
            criteria[-1] += "\n" + line
    return [criterion for criterion in map(tidy, criteria) if criterion]


def sections_of(role: str, want: str, benefit: str, acceptance: Sequence[str]) -> list[Section]:
    """The sections that a new story begins with: those that have text."""
    texts = (
        ("Story", story_sentence(role, want, benefit)),
        ("Acceptance Criteria", acceptance_list(acceptance)),
    )
    return [{"name": name, "level": 2, "text": framed(text)} for name, text in texts if text]
