"""Foreign status words → ours; the raw word is kept beside."""

import re
import unicodedata
from functools import lru_cache

from bmad_mcp.lifecycles import StoryStatus

# The words of v4 files, v6 trackers and what real projects write instead; longest first within a family.
_WORDS: tuple[tuple[str, StoryStatus], ...] = (
    ("superseded", StoryStatus.CANCELLED),
    ("cancelled", StoryStatus.CANCELLED),
    ("canceled", StoryStatus.CANCELLED),
    ("abandoned", StoryStatus.CANCELLED),
    ("dropped", StoryStatus.CANCELLED),
    ("retired", StoryStatus.CANCELLED),
    ("wont do", StoryStatus.CANCELLED),
    ("ready for review", StoryStatus.REVIEW),
    ("ready for done", StoryStatus.REVIEW),
    ("ready for qa", StoryStatus.REVIEW),
    ("in review", StoryStatus.REVIEW),
    ("under review", StoryStatus.REVIEW),
    ("review", StoryStatus.REVIEW),
    ("built", StoryStatus.REVIEW),
    ("ready for development", StoryStatus.READY),
    ("ready for dev", StoryStatus.READY),
    ("ready", StoryStatus.READY),
    ("approved", StoryStatus.READY),
    ("drafted", StoryStatus.READY),
    ("changes required", StoryStatus.IN_PROGRESS),
    ("in progress", StoryStatus.IN_PROGRESS),
    ("in development", StoryStatus.IN_PROGRESS),
    ("inprogress", StoryStatus.IN_PROGRESS),
    ("contexted", StoryStatus.IN_PROGRESS),
    ("implementing", StoryStatus.IN_PROGRESS),
    ("started", StoryStatus.IN_PROGRESS),
    ("blocked", StoryStatus.IN_PROGRESS),
    ("wip", StoryStatus.IN_PROGRESS),
    ("completed", StoryStatus.DONE),
    ("complete", StoryStatus.DONE),
    ("accepted", StoryStatus.DONE),
    ("closed", StoryStatus.DONE),
    ("merged", StoryStatus.DONE),
    ("done", StoryStatus.DONE),
    ("not started", StoryStatus.DRAFT),
    ("backlog", StoryStatus.DRAFT),
    ("optional", StoryStatus.DRAFT),
    ("pending", StoryStatus.DRAFT),
    ("planned", StoryStatus.DRAFT),
    ("draft", StoryStatus.DRAFT),
    ("todo", StoryStatus.DRAFT),
    ("to do", StoryStatus.DRAFT),
)


# What stands before the word: `Current Status: Done`, `[x] Done`.
_LABEL = re.compile(r"^(?:x |current |story |status )+")


# A project has a few status words and headings, thousands of times; a long text is not worth keeping.
_KEPT_LENGTH = 100


def plain(raw: str) -> str:
    """A status word without emoji, emphasis, case and punctuation."""
    return _kept_plain(raw) if len(raw) <= _KEPT_LENGTH else _plain(raw)


def _plain(raw: str) -> str:
    text = unicodedata.normalize("NFKC", raw)
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    text = "".join(letter if letter.isalnum() else " " for letter in text.lower())
    return " ".join(text.split())


_kept_plain = lru_cache(maxsize=4096)(_plain)


def story_status(raw: str | None) -> tuple[StoryStatus, bool]:
    """Our status for a foreign word, and whether the word was understood; a text is read by how it begins."""
    raw = raw or ""
    return _kept_status(raw) if len(raw) <= _KEPT_LENGTH else _status(raw)


def _status(raw: str) -> tuple[StoryStatus, bool]:
    words = _LABEL.sub("", plain(raw))
    for word, status in _WORDS:
        if words == word or words.startswith(word + " "):
            return status, True
    return StoryStatus.DRAFT, not words


_kept_status = lru_cache(maxsize=1024)(_status)


RANK = {
    StoryStatus.CANCELLED: -1,
    StoryStatus.DRAFT: 0,
    StoryStatus.READY: 1,
    StoryStatus.IN_PROGRESS: 2,
    StoryStatus.REVIEW: 3,
    StoryStatus.DONE: 4,
}


def tells_more(raw: str) -> bool:
    """Whether a status as written says more than the word itself: `Done - merged as #12`."""
    words = _LABEL.sub("", plain(raw))
    return all(words != word for word, _ in _WORDS)
