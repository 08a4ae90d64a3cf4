"""Where a stage can lead: the routes of decisions, and the ways back that the methods' diagrams draw."""

from collections.abc import Mapping, Sequence
from typing import Any

# Stage attributes that mark a way back → the route's name, where it goes, and what it means.
RECHECK = "recheck"
REVIEW_AGAIN = "review_again"
NEXT_STORY = "next_story"

# A workflow names a document in one way, and the template that makes it saves it under another.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "project-brief.md": ("brief.md", "project-brief.md"),
    "prd.md": ("prd.md", "prd/index.md"),
    "architecture.md": ("architecture.md", "architecture/index.md"),
    "fullstack-architecture.md": ("architecture.md", "architecture/index.md", "fullstack-architecture.md"),
    "front-end-architecture.md": ("ui-architecture.md", "front-end-architecture.md"),
    "brownfield-architecture.md": ("architecture.md", "brownfield-architecture.md"),
    "front-end-spec.md": ("front-end-spec.md",),
}


def names_for(requirement: str) -> tuple[str, ...]:
    """The names under which a required document may be found."""
    bare = requirement.split(" (")[0].strip()
    return tuple(dict.fromkeys((requirement, bare, *ALIASES.get(bare, ()))))


def with_ways_back(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The stages of a definition with the ways back added to their routes: a route with `again` repeats positions."""
    found = [dict(stage) for stage in stages]
    for index, stage in enumerate(found):
        before = found[:index]
        if stage.get("condition") == "po_checklist_issues":
            start = _last(before, lambda one: bool(one.get("validates")))
            _add_route(stage, RECHECK, start, "The issues are mended: validate again.")
        elif stage.get("action") == "address_qa_feedback":
            start = _last(before, lambda one: one.get("action") == "review_implementation")
            _add_route(stage, REVIEW_AGAIN, start, "The findings are addressed: review again.")
        elif stage.get("step") == "repeat_development_cycle":
            start = _last(before, lambda one: bool(one.get("repeats")))
            _add_route(stage, NEXT_STORY, start, "More stories are left: begin the next one. `note` may name it.")
    return found


def _last(stages: Sequence[Mapping[str, Any]], is_it: Any) -> int | None:
    return next((stage["position"] for stage in reversed(stages) if is_it(stage)), None)


def _add_route(stage: dict[str, Any], name: str, start: int | None, means: str) -> None:
    if start is not None:
        again = list(range(start, stage["position"] + 1))
        stage["routes"] = {**(stage.get("routes") or {}), name: {"again": again, "notes": means}}


def is_exit(route: Mapping[str, Any]) -> bool:
    """Whether a decision's route leaves the workflow after one stage of its own."""
    return "continue" not in route and "again" not in route


def told(routes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Each route with what it means, in one sentence."""
    found = {}
    for name, route in routes.items():
        who = f"{route['agent']} takes over" if route.get("agent") else ""
        uses = f" with {route['uses']}" if route.get("uses") else ""
        found[name] = ". ".join(part for part in (who + uses, str(route.get("notes") or "").strip()) if part) or name
    return found
