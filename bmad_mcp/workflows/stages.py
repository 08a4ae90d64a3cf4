"""One step of a run: closes the active stage by its outcome and activates the next."""

import re
from collections.abc import Mapping
from typing import Any

from bmad_mcp.artifacts.outputs import add_outputs
from bmad_mcp.call import Call
from bmad_mcp.errors import Invalid, NotFound
from bmad_mcp.lifecycles import StageStatus
from bmad_mcp.workflows import queries
from bmad_mcp.workflows.routes import NEXT_STORY, is_exit, names_for, told
from bmad_mcp.workflows.schemas import Requirement, StageNow

_STORY = re.compile(r"(?<![\d.])\d{1,6}\.\d{1,6}[a-z]?(?![\d.])")


async def close(
    call: Call, run: Mapping[str, Any], stage: Any, outcome: str, artifact: str | None, note: str | None
) -> None:
    """Close the active stage; raises Invalid when the outcome is none of the stage's."""
    routes: Mapping[str, Any] = stage["routes"]
    route = routes.get(outcome)
    is_decision = stage["kind"] == "decision"
    if route is None and (outcome not in ("done", "skip") or is_decision):
        offered = [*routes] if is_decision else ["done", *(["skip"] if _may_skip(stage) else []), *routes]
        raise Invalid(
            f"`outcome` {outcome[:60]!r} is none of stage {stage['position']}"
            f"{' , a decision' if is_decision else ''}. Choose one of: {', '.join(offered)}.".replace(" ,", ","),
            field="outcome",
        )
    if outcome == "skip" and not _may_skip(stage):
        raise Invalid(
            f"Stage {stage['position']} ({stage['action'] or stage['creates'] or stage['step']}) is neither optional nor"
            " conditional, so it cannot be skipped. Do it, then use `done`.",
            field="outcome",
        )
    status = StageStatus.SKIPPED if outcome == "skip" else StageStatus.DONE
    await call.db.fetchval(queries.CLOSE_STAGE, stage["id"], status.value, outcome, note, artifact)
    if artifact:
        await add_outputs(call, [artifact], agent=stage["agent"], workflow_id=run["id"], story_id=run["story_id"])
    if route is None:
        return
    if "again" in route:
        story = await _story_for(call, run, note) if outcome == NEXT_STORY else stage["story_key"]
        await call.db.execute(queries.ADD_AGAIN, run["id"], route["again"], story)
    elif is_exit(route):
        await call.db.execute(queries.SKIP_PENDING, run["id"], f"route {outcome}")
        await call.db.execute(
            queries.ADD_ROUTE_STAGE,
            run["id"],
            stage["position"],
            outcome,
            route.get("agent"),
            route.get("uses"),
            str(route.get("notes") or ""),
        )


def _may_skip(stage: Any) -> bool:
    return bool(stage["optional"] or stage["condition"])


async def _story_for(call: Call, run: Mapping[str, Any], note: str | None) -> str | None:
    """The story of the next turn: the one that the note names, else the first open one the run has not had."""
    named = _STORY.search(note or "")
    if named is None:
        story: str | None = await call.db.fetchval(queries.NEXT_STORY, run["id"])
        return story
    if await call.db.fetchval(queries.STORY_ID, named[0]) is None:
        raise NotFound(
            f"`note` names story {named[0]}, which this project does not have. story_list shows them.", field="note"
        )
    return named[0]


async def go_on(call: Call, run: Mapping[str, Any], previous: Any) -> StageNow | None:
    """Activate the next stage and tell it; completes the run and gives None when only its end is left."""
    stage = await call.db.fetchrow(queries.ACTIVATE_NEXT, run["id"])
    if stage is None or stage["kind"] == "end":
        if stage is not None:
            await call.db.fetchval(queries.CLOSE_STAGE, stage["id"], StageStatus.DONE.value, "done", None, None)
        await call.db.execute(queries.FINISH, run["id"])
        return None
    await call.db.execute(queries.TOUCH, run["id"])
    return await tell(call, run, stage, previous)


async def tell(call: Call, run: Mapping[str, Any], stage: Any, previous: Any = None) -> StageNow:
    """The stage with what it needs, what may be asked, and where it can lead."""
    asked = {name: requirement for requirement in stage["requires"] for name in names_for(requirement)}
    have = set()
    if asked:
        have = {asked[row["name"]] for row in await call.db.fetch(queries.HAVE, run["id"], list(asked))}
    condition = stage["condition"]
    ask = f"Does this hold: {condition.replace('_', ' ')}? Yes: do it, then `done`. No: `skip`." if condition else None
    if stage["kind"] == "decision":
        ask = "Choose one of the routes as the outcome."
    return StageNow.of(
        stage,
        iteration=stage["iteration"] if stage["iteration"] > 1 else None,
        requires=[Requirement(name=name, have=name in have) for name in stage["requires"]] or None,
        optional=stage["optional"] or None,
        ask=ask,
        optional_steps=list(stage["optional_steps"]) or None,
        routes=told(stage["routes"]) or None,
        story=stage["story_key"],
        handoff_prompt=await _handoff_prompt(call, run, stage, previous),
    )


async def _handoff_prompt(call: Call, run: Mapping[str, Any], stage: Any, previous: Any) -> str | None:
    if previous is None or not previous["agent"] or not stage["agent"] or previous["agent"] == stage["agent"]:
        return None
    giver, taker = (name.replace("ux-expert", "ux") for name in (previous["agent"], stage["agent"]))
    prompt: str | None = await call.db.fetchval(queries.HANDOFF_PROMPT, run["definition"], f"{giver}_to_{taker}")
    return prompt
