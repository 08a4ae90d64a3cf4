"""Where a stage can lead: the routes of decisions, and the ways back that the methods' diagrams draw."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

# The ways back by name; the stages of a definition do not name them, their conditions and steps imply them.
RECHECK = "recheck"
REVIEW_AGAIN = "review_again"
NEXT_STORY = "next_story"

Stage = Mapping[str, Any]


def with_ways_back(stages: Sequence[Stage]) -> list[dict[str, Any]]:
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
            _add_route(stage, NEXT_STORY, start, "Begin the next story; `note` may name it: story 1.2.")
    return found


def loop_body(stages: Sequence[Stage]) -> list[int]:
    """The positions that are done once for each story; empty when the workflow has no loop."""
    turns = [stage["routes"][NEXT_STORY] for stage in stages if NEXT_STORY in (stage.get("routes") or {})]
    return sorted({position for turn in turns for position in turn["again"]})


def _last(stages: Sequence[Stage], is_it: Callable[[Stage], bool]) -> int | None:
    return next((stage["position"] for stage in reversed(stages) if is_it(stage)), None)


def _add_route(stage: dict[str, Any], name: str, start: int | None, means: str) -> None:
    if start is not None:
        again = list(range(start, stage["position"] + 1))
        stage["routes"] = {**(stage.get("routes") or {}), name: {"again": again, "notes": means}}


def decides(stage: Stage) -> bool:
    """Whether the stage is a decision: only one of its routes leads on."""
    return stage["kind"] == "decision" and bool(stage["routes"])


def may_skip(stage: Stage) -> bool:
    """Whether the stage may be left out: it is optional, or a condition decides."""
    return not decides(stage) and bool(stage["optional"] or stage["condition"])


def outcomes(stage: Stage) -> list[str]:
    """What may be given as the stage's outcome."""
    return [*([] if decides(stage) else ["done"]), *(["skip"] if may_skip(stage) else []), *stage["routes"]]


def route_named(stage: Stage, outcome: str) -> str | None:
    """The stage's route that is meant, however its words are joined: `Single story` is `single_story`."""
    spoken = {name.lower().replace("-", "_").replace(" ", "_"): name for name in stage["routes"]}
    return (
        outcome
        if outcome in stage["routes"]
        else spoken.get(outcome.strip().lower().replace("-", "_").replace(" ", "_"))
    )


def leaves(route: Mapping[str, Any]) -> bool:
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
