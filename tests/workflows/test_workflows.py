"""Workflow runs: every type from start to completed, every route, and what is refused."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmad_mcp.errors import Conflict, Invalid, InvalidMove, NotFound

SIX = {
    "greenfield-fullstack": 19,
    "greenfield-service": 15,
    "greenfield-ui": 18,
    "brownfield-fullstack": 18,
    "brownfield-service": 14,
    "brownfield-ui": 15,
}


async def drive(run, key, stage, choose):
    """Advance to the end; `choose(stage)` gives the outcome."""
    for _ in range(200):
        answer = await run("workflow_advance", workflow=key, outcome=choose(stage))
        stage = answer.stage
        if stage is None:
            return answer
    raise AssertionError("the run does not end")


def always_done(stage):
    return "major_enhancement" if stage.kind == "decision" else "done"


def skip_what_may(stage):
    if stage.kind == "decision":
        return "major_enhancement"
    return "skip" if stage.optional or stage.condition else "done"


async def to_stage(run, key, stage, action):
    """Advance by `done` until the stage with that action, step or creation is active."""
    while action not in (stage.action, stage.step, stage.creates):
        stage = (await run("workflow_advance", workflow=key, outcome=always_done(stage))).stage
    return stage


async def test_the_six_types_are_there(run):
    found = {one.type: one.stages for one in (await run("workflow_types")).items}
    assert found == SIX


@pytest.mark.parametrize("choose", [always_done, skip_what_may])
@pytest.mark.parametrize("kind", SIX)
async def test_every_type_runs_to_completed(run, kind, choose):
    started = await run("workflow_start", type=kind)
    assert (started.workflow.status, started.workflow.type, started.stage.position) == ("active", kind, 1)
    assert started.workflow.progress.total == SIX[kind]
    answer = await drive(run, started.workflow.key, started.stage, choose)
    assert (answer.workflow.status, answer.workflow.progress.percent) == ("completed", 100)
    found = await run("workflow_get", workflow=started.workflow.key)
    assert len(found.stages) == SIX[kind]
    assert {one.status for one in found.stages} <= {"done", "skipped"}


async def test_an_unknown_type_names_the_known_ones(run):
    with pytest.raises(NotFound, match="greenfield-ui"):
        await run("workflow_start", type="sideways")


async def test_a_stage_says_what_it_needs_and_what_is_there(run):
    started = await run("workflow_start", type="greenfield-fullstack", title="Shop")
    assert (started.stage.agent, started.stage.creates) == ("analyst", "project-brief.md")
    assert started.stage.optional_steps == ["brainstorming_session", "market_research_prompt"]
    following = await run("workflow_advance", workflow="W-1", outcome="done", artifact="docs/brief.md", note="Short.")
    assert following.stage.agent == "pm"
    assert [(one.name, one.have) for one in following.stage.requires] == [("project-brief.md", True)]
    assert following.stage.handoff_prompt
    third = (await run("workflow_advance", workflow="W-1", outcome="done")).stage
    fourth = (await run("workflow_advance", workflow="W-1", outcome="skip" if third.optional else "done")).stage
    assert fourth.ask == "Does this hold: user wants ai generation? Yes: do it, then `done`. No: `skip`."


async def test_a_required_stage_cannot_be_skipped(run):
    await run("workflow_start", type="greenfield-service")
    with pytest.raises(Invalid, match="cannot be skipped"):
        await run("workflow_advance", workflow="W-1", outcome="skip")


async def test_an_unknown_outcome_names_what_may_be_chosen(run):
    await run("workflow_start", type="greenfield-service")
    with pytest.raises(Invalid, match="Choose one of: done"):
        await run("workflow_advance", workflow="W-1", outcome="finish")


async def test_a_decision_wants_one_of_its_routes(run):
    started = await run("workflow_start", type="brownfield-fullstack")
    decision = (await run("workflow_advance", workflow="W-1", outcome="done")).stage
    assert started.stage.step == "enhancement_classification"
    assert decision.kind == "decision"
    assert set(decision.routes) == {"single_story", "small_feature", "major_enhancement"}
    for wrong in ("done", "skip", "big"):
        with pytest.raises(Invalid, match="single_story, small_feature, major_enhancement"):
            await run("workflow_advance", workflow="W-1", outcome=wrong)
    assert (await run("workflow_get", workflow="W-1")).workflow.status == "active"


@pytest.mark.parametrize(
    "route, uses", [("single_story", "brownfield-create-story"), ("small_feature", "brownfield-create-epic")]
)
async def test_a_route_that_leaves_has_one_stage_of_its_own(run, route, uses):
    await run("workflow_start", type="brownfield-fullstack")
    await run("workflow_advance", workflow="W-1", outcome="done")
    own = await run("workflow_advance", workflow="W-1", outcome=route)
    assert (own.stage.agent, own.stage.uses) == ("pm", uses)
    assert own.workflow.status == "active"
    end = await run("workflow_advance", workflow="W-1", outcome="done")
    assert (end.stage, end.workflow.status) == (None, "completed")
    statuses = [one.status for one in (await run("workflow_get", workflow="W-1")).stages]
    assert statuses.count("skipped") == 16


async def test_the_loop_over_stories_has_stages_of_its_own_for_each(run):
    await run("epic_create", title="One")
    for title in ("A", "B", "C"):
        await run("story_create", epic="1", title=title)
    started = await run("workflow_start", type="greenfield-service", story="1.1")
    stage = started.stage
    seen = []
    for _ in range(2):
        stage = await to_stage(run, "W-1", stage, "repeat_development_cycle")
        assert "next_story" in stage.routes
        stage = (await run("workflow_advance", workflow="W-1", outcome="next_story")).stage
        assert (stage.action, stage.agent) == ("create_story", "sm")
        seen.append(stage.story)
    assert seen == ["1.2", "1.3"]
    answer = await drive(run, "W-1", stage, always_done)
    assert answer.workflow.status == "completed"
    found = await run("workflow_get", workflow="W-1")
    creations = [one for one in found.stages if one.action == "create_story"]
    assert [one.iteration or 1 for one in creations] == [1, 2, 3]
    assert {one.status for one in found.stages} == {"done"}


async def test_the_next_story_may_be_named(run):
    await run("epic_create", title="One")
    for title in ("A", "B"):
        await run("story_create", epic="1", title=title)
    started = await run("workflow_start", type="greenfield-service")
    await to_stage(run, "W-1", started.stage, "repeat_development_cycle")
    with pytest.raises(NotFound, match=r"story 9\.9"):
        await run("workflow_advance", workflow="W-1", outcome="next_story", note="now 9.9 please")
    stage = (await run("workflow_advance", workflow="W-1", outcome="next_story", note="now 1.2 please")).stage
    assert stage.story == "1.2"


async def test_findings_lead_back_to_the_validation_and_to_the_review(run):
    started = await run("workflow_start", type="greenfield-service")
    stage = started.stage
    while stage.condition != "po_checklist_issues":
        stage = (await run("workflow_advance", workflow="W-1", outcome="done")).stage
    stage = (await run("workflow_advance", workflow="W-1", outcome="recheck")).stage
    assert (stage.agent, stage.validates, stage.iteration) == ("po", "all_artifacts", 2)
    stage = await to_stage(run, "W-1", stage, "address_qa_feedback")
    stage = (await run("workflow_advance", workflow="W-1", outcome="review_again")).stage
    assert (stage.agent, stage.action) == ("qa", "review_implementation")
    assert (await drive(run, "W-1", stage, always_done)).workflow.status == "completed"


async def test_a_paused_run_waits_and_goes_on_where_it_stood(run):
    started = await run("workflow_start", type="greenfield-ui")
    assert (await run("workflow_pause", workflow="W-1", reason="Holiday")).workflow.status == "paused"
    with pytest.raises(InvalidMove, match="workflow_resume"):
        await run("workflow_advance", workflow="W-1", outcome="done")
    with pytest.raises(InvalidMove, match="paused; it cannot become paused"):
        await run("workflow_pause", workflow="W-1")
    assert (await run("workflow_resume", workflow="W-1")).workflow.status == "active"
    found = await run("workflow_get", workflow="W-1")
    assert [one.position for one in found.stages if one.status == "active"] == [started.stage.position]


async def test_a_cancelled_run_is_over(run):
    await run("workflow_start", type="greenfield-ui")
    cancelled = await run("workflow_cancel", workflow="W-1", reason="No money")
    assert (cancelled.workflow.status, cancelled.workflow.reason) == ("cancelled", "No money")
    for name in ("workflow_pause", "workflow_resume", "workflow_cancel"):
        with pytest.raises(InvalidMove, match="final"):
            await run(name, workflow="W-1")
    with pytest.raises(InvalidMove, match="cannot advance"):
        await run("workflow_advance", workflow="W-1", outcome="done")
    assert {one.status for one in (await run("workflow_get", workflow="W-1")).stages} == {"skipped"}


async def test_runs_are_listed_newest_first_with_where_they_are(run):
    for title in ("A", "B", "C"):
        await run("workflow_start", type="greenfield-service", title=title)
    await run("workflow_cancel", workflow="W-2")
    page = await run("workflow_list", limit=2)
    assert [one.key for one in page.items] == ["W-3", "W-2"]
    assert page.items[0].stage == "analyst: project-brief.md"
    rest = await run("workflow_list", limit=2, cursor=page.next_cursor)
    assert [one.key for one in rest.items] == ["W-1"]
    assert rest.next_cursor is None
    assert [one.key for one in (await run("workflow_list", status="cancelled")).items] == ["W-2"]


async def test_earlier_runs_are_told_to_learn_from(run):
    started = await run("workflow_start", type="brownfield-service", title="First")
    await run("workflow_advance", workflow="W-1", outcome="done", note="The API has no tests.")
    found = await run("workflow_get", workflow="W-1")
    stage = next(one for one in found.stages if one.status == "active")
    assert stage.position == started.stage.position + 1
    again = await run("workflow_start", type="brownfield-service")
    assert again.similar == []
    while (answer := await run("workflow_advance", workflow="W-1", outcome="done")).stage:
        pass
    assert answer.workflow.status == "completed"
    (similar,) = (await run("workflow_start", type="brownfield-service")).similar
    assert (similar.key, similar.notes) == ("W-1", ["The API has no tests."])


async def test_two_advances_at_once_pass_one_stage(run):
    for number in range(1, 6):
        await run("workflow_start", type="greenfield-service")
        both = await asyncio.gather(
            *(run("workflow_advance", workflow=f"W-{number}", outcome="done") for _ in range(2)), return_exceptions=True
        )
        found = await run("workflow_get", workflow=f"W-{number}")
        passed = sum(not isinstance(one, BaseException) for one in both)
        assert found.workflow.progress.done == passed
        assert passed == 1 or all(not isinstance(one, Conflict) for one in both)


async def test_tasks_of_a_run_are_shown_with_it(run):
    await run("workflow_start", type="greenfield-service")
    await run("task_create", title="Interview users", workflow="W-1", agent="analyst")
    (task,) = (await run("workflow_get", workflow="W-1")).tasks
    assert (task.key, task.agent) == ("T-1", "analyst")


async def test_an_unknown_run_is_told(run):
    for name, more in (("workflow_get", {}), ("workflow_advance", {"outcome": "done"}), ("workflow_pause", {})):
        with pytest.raises(NotFound, match="no workflow W-7"):
            await run(name, workflow="W-7", **more)


OUTCOMES = st.sampled_from(
    ["done", "done", "done", "skip", "recheck", "review_again", "next_story", "major_enhancement", "small_feature"]
    + ["pause", "resume"]
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(SIX)), outcomes=st.lists(OUTCOMES, max_size=40))
async def test_an_active_run_always_has_one_active_stage_and_an_end(run, kind, outcomes):
    started = await run("workflow_start", type=kind)
    key = started.workflow.key
    for outcome in outcomes:
        try:
            if outcome in ("pause", "resume"):
                await run(f"workflow_{outcome}", workflow=key)
            else:
                await run("workflow_advance", workflow=key, outcome=outcome)
        except (Invalid, InvalidMove):
            pass
        found = await run("workflow_get", workflow=key)
        active = [one for one in found.stages if one.status == "active"]
        assert len(active) == (found.workflow.status in ("active", "paused"))
    if found_status := (await run("workflow_get", workflow=key)).workflow.status:
        if found_status == "paused":
            await run("workflow_resume", workflow=key)
        if found_status in ("active", "paused"):
            found = await run("workflow_get", workflow=key)
            (active,) = [one for one in found.stages if one.status == "active"]
            first = "major_enhancement" if active.kind == "decision" else "done"
            answer = await run("workflow_advance", workflow=key, outcome=first)
            if answer.stage is not None:
                answer = await drive(run, key, answer.stage, always_done)
            assert answer.workflow.status == "completed"
