"""Words of other tools for a status and a priority → ours."""

from collections.abc import Mapping

from bmad_mcp.bmad_files.statuses import plain
from bmad_mcp.interchange.values import Priority, State

_STATES: Mapping[State, tuple[str, ...]] = {
    "draft": ("draft", "idea", "proposed", "triage", "inbox"),
    "open": ("open", "todo", "to do", "pending", "new", "ready", "backlog", "not started", "planned", "next"),
    "in_progress": ("in progress", "inprogress", "doing", "active", "started", "wip", "in development", "hooked"),
    "review": ("review", "in review", "ready for review", "code review", "testing", "in testing", "qa"),
    "blocked": ("blocked", "on hold", "waiting"),
    "deferred": ("deferred", "postponed", "later", "someday", "pinned", "icebox"),
    "done": ("done", "completed", "complete", "closed", "finished", "resolved", "merged", "shipped"),
    "cancelled": ("cancelled", "canceled", "wont do", "won t do", "abandoned", "duplicate", "obsolete", "archived"),
}
_STATE_OF = {word: state for state, words in _STATES.items() for word in words}
_PRIORITIES: Mapping[str, Priority] = {
    **dict.fromkeys(("critical", "urgent", "highest", "blocker", "p0"), "critical"),
    **dict.fromkeys(("high", "p1"), "high"),
    **dict.fromkeys(("medium", "normal", "p2"), "medium"),
    **dict.fromkeys(("low", "lowest", "p3", "p4"), "low"),
}


def state_of(word: str) -> State | None:
    """What a status word means, or None when nobody knows it."""
    return _STATE_OF.get(plain(word))


def priority_of(word: str) -> Priority | None:
    """What a priority word means, or None when nobody knows it."""
    return _PRIORITIES.get(plain(word))
