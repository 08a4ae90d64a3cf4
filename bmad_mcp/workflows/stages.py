"""One step of a run: closes the active stage by its outcome and activates the next."""

from collections.abc import Mapping
from typing import Any

from bmad_mcp.artifacts.outputs import add_outputs
from bmad_mcp.call import Call
from bmad_mcp.errors import Invalid
from bmad_mcp.lifecycles import StageStatus
from bmad_mcp.workflows import queries, turns
from bmad_mcp.workflows.requirements import requirements_of
from bmad_mcp.workflows.routes import NEXT_STORY, decides, leaves, may_skip, outcomes, route_named, told
from bmad_mcp.workflows.schemas import StageNow

Run = Mapping[str, Any]


async def close(call: Call, run: Run, stage: Any, outcome: str, artifact: str | None, note: str | None) -> str:
    """Close the active stage and give the outcome as it counts; raises Invalid when it is none of the stage's."""
    name = route_named(stage, outcome)
    counted = name or outcome
    if name is None:
        _refuse_outcome(stage, outcome)
    if stage["repeats"] and counted != "skip":
        stage = await turns.settle(call, run, stage, note, artifact)
    status = StageStatus.SKIPPED if counted == "skip" and name is None else StageStatus.DONE
    await call.db.fetchval(queries.CLOSE_STAGE, stage["id"], status.value, counted, note, artifact)
    if artifact:
        story_id = await call.db.fetchval(queries.STORY_ID, stage["story_key"]) if stage["story_key"] else None
        await add_outputs(call, [artifact], workflow_id=run["id"], story_id=story_id or run["story_id"])
    if name is not None:
        await _take(call, run, stage, name, note)
    return counted


def _refuse_outcome(stage: Any, outcome: str) -> None:
    """Raise Invalid unless the outcome is one that every stage has and this one allows."""
    allowed = outcomes(stage)
    if outcome in allowed:
        return
    if outcome == "skip" and not decides(stage):
        what = stage["action"] or stage["creates"] or stage["step"] or stage["agent"]
        raise Invalid(
            f"Stage {stage['position']} ({what}) is required: it is neither optional nor conditional, so it cannot be"
            " skipped. Do it, then use `done`.",
            field="outcome",
        )
    decision = ", a decision" if decides(stage) else ""
    raise Invalid(
        f"`outcome` {outcome[:60]!r} is none of stage {stage['position']}{decision}. Choose one of: {', '.join(allowed)}.",
        field="outcome",
    )


async def _take(call: Call, run: Run, stage: Any, name: str, note: str | None) -> None:
    """Open the stages that a route leads to."""
    route = stage["routes"][name]
    if "again" in route:
        story = await turns.next_story(call, run, note) if name == NEXT_STORY else stage["story_key"]
        await call.db.execute(queries.ADD_AGAIN, run["id"], route["again"], story)
    elif decides(stage) and leaves(route):
        await call.db.execute(queries.SKIP_PENDING, run["id"], f"route {name}")
        notes = str(route.get("notes") or "")
        await call.db.execute(
            queries.ADD_ROUTE_STAGE, run["id"], stage["position"], name, route.get("agent"), route.get("uses"), notes
        )


async def go_on(call: Call, run: Run) -> StageNow | None:
    """Activate the next stage and tell it; completes the run and gives None when only its end is left."""
    stage = await call.db.fetchrow(queries.ACTIVATE_NEXT, run["id"])
    if stage is None or stage["kind"] == "end":
        if stage is not None:
            await call.db.fetchval(queries.CLOSE_STAGE, stage["id"], StageStatus.DONE.value, "done", None, None)
        # A definition may go on after its end; a run does not.
        await call.db.execute(queries.SKIP_PENDING, run["id"], "the run has ended")
        await call.db.execute(queries.FINISH, run["id"])
        return None
    if stage["repeats"] and not stage["story_key"]:
        stage = await turns.about(call, run, stage, await turns.next_in_order(call, run))
    await call.db.execute(queries.TOUCH, run["id"])
    return await _tell(call, run, stage)


async def _tell(call: Call, run: Run, stage: Any) -> StageNow:
    """The stage with what it needs, what may be asked, and where it can lead."""
    routes = told(stage["routes"])
    if NEXT_STORY in routes:
        following = await turns.next_in_order(call, run)
        order = f"Next in order: {following}." if following else "No story is left to begin; story_create adds one."
        routes[NEXT_STORY] += f" {order}"
    return StageNow.of(
        stage,
        iteration=stage["iteration"] if stage["iteration"] > 1 else None,
        requires=await requirements_of(call, run["id"], stage) or None,
        optional=stage["optional"] or None,
        ask=_ask(stage),
        optional_steps=list(stage["optional_steps"]) or None,
        routes=routes or None,
        story=stage["story_key"],
        handoff_prompt=await _handoff_prompt(call, run, stage),
    )


def _ask(stage: Any) -> str | None:
    condition = (stage["condition"] or "").replace("_", " ")
    if decides(stage):
        return f"Which way{f', {condition}' if condition else ''}? The outcome is one of: {', '.join(stage['routes'])}."
    if may_skip(stage) and condition:
        return f"Does this hold: {condition}? Yes: do it, then `done`. No: `skip`."
    return None


async def _handoff_prompt(call: Call, run: Run, stage: Any) -> str | None:
    """What the definition says when work goes from the last agent that did something to this stage's agent."""
    previous = await call.db.fetchrow(queries.LAST_DONE, run["id"])
    if previous is None or not stage["agent"] or previous["agent"] == stage["agent"]:
        return None
    givers, takers = (_spoken(agent) for agent in (previous["agent"], stage["agent"]))
    keys = [f"{giver}_to_{taker}" for giver in givers for taker in takers]
    # What was updated is handed over to be checked, and to nothing else.
    if previous["updates"] and stage["validates"]:
        keys += [f"updated_to_{taker}" for taker in takers]
    if stage["condition"] == "po_checklist_issues":
        keys.append("po_issues")
    prompt: str | None = await call.db.fetchval(queries.HANDOFF_PROMPT, run["definition"], keys)
    return prompt


def _spoken(agents: str) -> list[str]:
    """The agents of an expression such as `analyst/pm`, as handoff prompts call them."""
    return [name.strip().replace("ux-expert", "ux") for name in agents.split("/")]
