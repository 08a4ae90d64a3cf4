"""The compact context of a story: what fits into a small answer, and where the rest is."""

from collections.abc import Mapping, Sequence
from typing import Any

from bmad_mcp.counts import counted
from bmad_mcp.shapes import one_line
from bmad_mcp.stories.schemas import StoryBrief, StoryContext
from bmad_mcp.stories.sections import Section, text_of
from bmad_mcp.stories.wording import story_sentence

# Bytes of UTF-8 and not characters: in every script about four of them make a token.
WHOLE = 3600
SENTENCE = 500
ACCEPTANCE = 1500
SIDE = 900
NOTES_AT_LEAST = 800
TITLE = 120


def cut(text: str, size: int) -> str:
    """The text within `size` bytes, ended at a word, with `…` and how many characters were left out."""
    raw = text.encode()
    if len(raw) <= size:
        return text
    kept = raw[: max(size, 0)].decode(errors="ignore")
    at = max(kept.rfind("\n"), kept.rfind(" "))
    kept = (kept[:at] if at > len(kept) * 0.6 else kept).rstrip()
    return f"{kept} … (+{counted(len(text) - len(kept), 'character')})"


def cut_before(text: str, size: int) -> str:
    """The end of the text within `size` bytes: what was written last."""
    raw = text.encode()
    return text if len(raw) <= size else "… " + raw[len(raw) - size :].decode(errors="ignore").lstrip()


def cut_list(texts: Sequence[str], size: int) -> list[str]:
    """The first texts that fit into `size` bytes, the last of them cut, and how many were left out."""
    kept: list[str] = []
    for text in texts:
        room = size - sum(len(one.encode()) for one in kept)
        if room < 40:
            return [*kept, f"… ({len(texts) - len(kept)} more)"]
        kept.append(cut(text, room))
    return kept


def brief(row: Mapping[str, Any]) -> StoryBrief:
    """A story in one line of a list."""
    return StoryBrief.of(row, title=cut(row["title"], TITLE))


def compact(row: Mapping[str, Any]) -> StoryContext:
    """The context of a story for the agent that works on it now."""
    sections: Sequence[Section] = row["sections"]
    whole: dict[str, Any] = {
        "story": one_line(story_sentence(row["role"], row["want"], row["benefit"], mark=""))
        or text_of(sections, "Story"),
        "acceptance": [one_line(one) for one in row["acceptance"]]
        or [line for line in text_of(sections, "Acceptance Criteria").splitlines() if line.strip()],
        # The tasks of the database stand for the check boxes of the file.
        "plan": "" if row["tasks"] else text_of(sections, "Tasks / Subtasks"),
        "dev_record": _dev_record(sections) if row["status"] == "review" else "",
        "qa_results": text_of(sections, "QA Results"),
        "notes": text_of(sections, "Dev Notes"),
    }
    shown: dict[str, Any] = {
        "story": cut(whole["story"], SENTENCE),
        "acceptance": cut_list(whole["acceptance"], ACCEPTANCE),
        "plan": cut(whole["plan"], SIDE),
        "dev_record": cut(whole["dev_record"], SIDE),
        "qa_results": cut_before(whole["qa_results"], SIDE),
    }
    used = sum(len("".join(value).encode()) for value in shown.values())
    shown["notes"] = cut(whole["notes"], max(WHOLE - used, NOTES_AT_LEAST))
    if shown != whole:
        shown["more"] = f"Cut where … stands; story_get story={row['key']} reads it whole."
    return StoryContext(**{name: value for name, value in shown.items() if value})


def _dev_record(sections: Sequence[Section]) -> str:
    parts = ((name, text_of(sections, name)) for name in ("File List", "Completion Notes List"))
    return "\n".join(f"{name}:\n{text}" for name, text in parts if text)
