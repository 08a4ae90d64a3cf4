"""Who may edit which section of a story and who may move its status, as tables."""

from collections.abc import Mapping

from bmad_mcp.errors import Forbidden
from bmad_mcp.lifecycles import StoryStatus

PLANNERS = frozenset({"sm", "po", "pm"})
DEVELOPER = frozenset({"dev"})
REVIEWER = frozenset({"qa"})

SECTION_EDITORS: Mapping[str, frozenset[str]] = {
    "Story": PLANNERS,
    "Acceptance Criteria": PLANNERS,
    "Tasks / Subtasks": frozenset({"sm", "dev"}),
    "Dev Notes": PLANNERS,
    "Testing": PLANNERS,
    "Change Log": frozenset({"sm", "dev", "qa"}),
    "Dev Agent Record": DEVELOPER,
    "Agent Model Used": DEVELOPER,
    "Debug Log References": DEVELOPER,
    "Completion Notes List": DEVELOPER,
    "File List": DEVELOPER,
    "QA Results": REVIEWER,
}
CUSTOM_SECTION_EDITORS = PLANNERS
APPEND_ONLY = frozenset({"QA Results"})

FREE_MOVERS = PLANNERS | DEVELOPER
LIMITED_MOVERS: Mapping[str, frozenset[tuple[StoryStatus, StoryStatus]]] = {
    "qa": frozenset(
        {(StoryStatus.REVIEW, StoryStatus.DONE), (StoryStatus.REVIEW, StoryStatus.IN_PROGRESS)},
    ),
}


def check_edit(agent: str | None, section: str, governs: str | None) -> None:
    """Raises Forbidden unless the agent may edit the section; `governs` is the canonical section it belongs to."""
    if agent is None:
        raise Forbidden(
            f"Sections are edited by an agent in session, and none is. Call agent_activate first; {section} is edited"
            f" by {_listed(_editors(governs))}.",
            field="section",
        )
    if agent not in _editors(governs):
        raise Forbidden(
            f"{agent} may not edit {section}; {_listed(_editors(governs))} may. Hand it over with handoff_offer, or"
            " activate that agent.",
            field="section",
        )


def check_move(agent: str | None, story: str, current: str, target: str) -> None:
    """Raises Forbidden unless the agent may make this move; without an agent a person acts, who may."""
    if agent is None or agent in FREE_MOVERS:
        return
    moves = LIMITED_MOVERS.get(agent, frozenset())
    if (current, target) in moves:
        return
    own = " or ".join(sorted(f"{source} → {end}" for source, end in moves))
    raise Forbidden(
        f"{agent} may not move story {story} from {current} to {target}; {_listed(FREE_MOVERS)} may."
        + (f" {agent} may move {own}." if own else ""),
        field="status",
    )


def check_plan(agent: str | None, what: str) -> None:
    """Raises Forbidden unless the agent may change what a story is called and how it ranks; a person may."""
    if agent is not None and agent not in PLANNERS:
        raise Forbidden(
            f"{agent} may not change the {what} of a story; {_listed(PLANNERS)} may. Hand it over with handoff_offer, or"
            " activate that agent.",
            field=what,
        )


def check_gate(agent: str | None) -> None:
    """Raises Forbidden unless the agent may record a quality gate; without an agent a person acts, who may."""
    if agent is not None and agent not in REVIEWER:
        raise Forbidden(
            f"{agent} may not record a gate; {_listed(REVIEWER)} may. Hand the story over with handoff_offer to=qa, or"
            " activate that agent.",
            field="gate",
        )


def _editors(governs: str | None) -> frozenset[str]:
    return CUSTOM_SECTION_EDITORS if governs is None else SECTION_EDITORS[governs]


def _listed(agents: frozenset[str]) -> str:
    return " or ".join(sorted(agents))
