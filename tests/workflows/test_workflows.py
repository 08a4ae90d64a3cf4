"""Workflow runs: every type from start to completed, every route, and what is refused."""

import pytest
from harness import new_project
from stored_rows import change, fetch
from workflows.driving import (
    ADD_DEFINITION,
    SIX,
    always_done,
    drive,
    skip_what_may,
    statuses,
    stories,
    to_stage,
)

from bmad_mcp.errors import Conflict, Invalid, InvalidMove, NotFound


async def test_the_six_types_are_there(run):
    found = {one.type: one for one in (await run("workflow_types")).items}
    assert {name: one.stages for name, one in found.items()} == SIX
    assert {one.source for one in found.values()} == {"builtin"}


async def test_types_are_listed_page_by_page_and_those_that_can_run_first(run, workspace):
    await change(workspace.opened, ADD_DEFINITION, "a-text", "A text", {"stages": []})
    await change(workspace.opened, ADD_DEFINITION, "b-text", "Another", {})
    listed, cursor = [], None
    while True:
        page = await run("workflow_types", limit=3, **({"cursor": cursor} if cursor else {}))
        listed += [one.type for one in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert listed == [*sorted(SIX), "a-text", "b-text"]


@pytest.mark.parametrize("choose", [always_done, skip_what_may])
@pytest.mark.parametrize("kind", SIX)
async def test_every_type_runs_to_completed(run, kind, choose):
    started = await run("workflow_start", type=kind)
    assert (started.workflow.status, started.workflow.type, started.stage.position) == ("active", kind, 1)
    assert (started.workflow.progress.total, started.workflow.progress.percent) == (SIX[kind], 0)
    answer = await drive(run, started.workflow.key, started.stage, choose)
    assert (answer.workflow.status, answer.workflow.progress.percent) == ("completed", 100)
    found = await run("workflow_get", workflow=started.workflow.key)
    assert [one.position for one in found.stages] == list(range(1, SIX[kind] + 1))
    assert {one.status for one in found.stages} <= {"done", "skipped"}
    assert found.completed_at is not None


async def test_the_last_done_before_the_end_completes_the_run(run):
    started = await run("workflow_start", type="greenfield-service")
    stage = await to_stage(run, "W-1", started.stage, "epic_retrospective")
    answer = await run("workflow_advance", workflow="W-1", outcome="skip")
    assert (answer.stage, answer.workflow.status) == (None, "completed")
    last = (await run("workflow_get", workflow="W-1")).stages[-1]
    assert (last.position, last.kind, last.status) == (stage.position + 1, "end", "done")


async def test_an_unknown_type_names_the_known_ones(run):
    with pytest.raises(NotFound, match="greenfield-ui"):
        await run("workflow_start", type="sideways")


async def test_a_run_needs_a_story_that_is_there(run):
    with pytest.raises(NotFound, match=r"no story 7\.1"):
        await run("workflow_start", type="greenfield-ui", story="7.1")
    assert (await run("workflow_list")).items == []


async def test_a_stage_tells_all_that_its_definition_says(run):
    started = await run("workflow_start", type="greenfield-fullstack", title="Shop")
    first = started.stage
    assert (started.workflow.title, first.agent, first.creates) == ("Shop", "analyst", "project-brief.md")
    assert first.optional_steps == ["brainstorming_session", "market_research_prompt"]
    assert first.notes
    assert (first.ask, first.routes, first.requires, first.handoff_prompt) == (None, None, None, None)
    stage = await to_stage(run, "W-1", first, "v0_prompt (optional)")
    assert stage.ask == "Does this hold: user wants ai generation? Yes: do it, then `done`. No: `skip`."
    check = await to_stage(run, "W-1", stage, "all_artifacts")
    assert (check.agent, check.uses) == ("po", "po-master-checklist")
    review = await to_stage(run, "W-1", check, "review_implementation")
    assert (review.optional, review.ask) == (True, None)


async def test_a_required_stage_cannot_be_skipped(run):
    await run("workflow_start", type="greenfield-service")
    with pytest.raises(Invalid, match=r"Stage 1 \(project-brief.md\) is required.*use `done`"):
        await run("workflow_advance", workflow="W-1", outcome="skip")
    assert (await statuses(run, "W-1"))[0] == "active"


async def test_an_unknown_outcome_names_what_may_be_chosen(run):
    started = await run("workflow_start", type="greenfield-service")
    with pytest.raises(Invalid, match=r"Choose one of: done\."):
        await run("workflow_advance", workflow="W-1", outcome="finish")
    await to_stage(run, "W-1", started.stage, "po_checklist_issues")
    with pytest.raises(Invalid, match=r"Choose one of: done, skip, recheck\."):
        await run("workflow_advance", workflow="W-1", outcome="finish")


async def test_a_decision_wants_one_of_its_routes(run):
    started = await run("workflow_start", type="brownfield-fullstack")
    decision = (await run("workflow_advance", workflow="W-1", outcome="done")).stage
    assert started.stage.step == "enhancement_classification"
    assert decision.kind == "decision"
    assert set(decision.routes) == {"single_story", "small_feature", "major_enhancement"}
    assert decision.routes["single_story"].startswith("pm takes over with brownfield-create-story. ")
    assert "single_story, small_feature, major_enhancement" in decision.ask
    for wrong in ("done", "skip", "big"):
        with pytest.raises(
            Invalid, match=r"a decision\. Choose one of: single_story, small_feature, major_enhancement"
        ):
            await run("workflow_advance", workflow="W-1", outcome=wrong)
    assert (await run("workflow_get", workflow="W-1")).workflow.status == "active"


@pytest.mark.parametrize(
    "route, uses", [("single_story", "brownfield-create-story"), ("Small feature", "brownfield-create-epic")]
)
async def test_a_route_that_leaves_has_one_stage_of_its_own(run, route, uses):
    await run("workflow_start", type="brownfield-fullstack")
    await run("workflow_advance", workflow="W-1", outcome="done")
    own = await run("workflow_advance", workflow="W-1", outcome=route)
    assert (own.stage.agent, own.stage.uses, own.workflow.status) == ("pm", uses, "active")
    assert own.workflow.progress.percent < 100
    end = await run("workflow_advance", workflow="W-1", outcome="done")
    assert (end.stage, end.workflow.status, end.workflow.progress.percent) == (None, "completed", 100)
    found = await run("workflow_get", workflow="W-1")
    assert [one.status for one in found.stages] == ["done"] * 3 + ["skipped"] * 16
    assert {one.outcome for one in found.stages[3:]} == {f"route {route.lower().replace(' ', '_')}"}


async def test_the_route_that_stays_goes_on_with_the_next_stage(run):
    await run("workflow_start", type="brownfield-fullstack")
    await run("workflow_advance", workflow="W-1", outcome="done")
    answer = await run("workflow_advance", workflow="W-1", outcome="major_enhancement")
    assert (answer.stage.position, answer.stage.step) == (3, "documentation_check")
    assert answer.workflow.progress.total == SIX["brownfield-fullstack"]
    assert (await drive(run, "W-1", answer.stage)).workflow.status == "completed"


async def test_issues_lead_back_to_the_validation_as_often_as_needed(run):
    started = await run("workflow_start", type="greenfield-service")
    stage = await to_stage(run, "W-1", started.stage, "po_checklist_issues")
    for iteration in (2, 3):
        assert stage.routes == {"recheck": "The issues are mended: validate again."}
        again = (await run("workflow_advance", workflow="W-1", outcome="recheck")).stage
        assert (again.agent, again.validates, again.iteration) == ("po", "all_artifacts", iteration)
        stage = (await run("workflow_advance", workflow="W-1", outcome="done")).stage
        assert (stage.condition, stage.iteration) == ("po_checklist_issues", iteration)
    following = (await run("workflow_advance", workflow="W-1", outcome="skip")).stage
    assert (following.action, following.iteration) == ("shard_documents", None)
    assert (await drive(run, "W-1", following)).workflow.progress.total == SIX["greenfield-service"] + 4


async def test_findings_lead_back_to_the_review_of_the_same_story(run):
    await stories(run, "A", "B")
    started = await run("workflow_start", type="greenfield-service", story="1.1")
    stage = await to_stage(run, "W-1", started.stage, "address_qa_feedback")
    again = (await run("workflow_advance", workflow="W-1", outcome="review_again")).stage
    assert (again.agent, again.action, again.iteration, again.story) == ("qa", "review_implementation", 2, "1.1")
    stage = await to_stage(run, "W-1", again, "repeat_development_cycle")
    turn = (await run("workflow_advance", workflow="W-1", outcome="next_story")).stage
    assert (turn.action, turn.iteration, turn.story) == ("create_story", 2, "1.2")
    stage = await to_stage(run, "W-1", turn, "review_implementation")
    assert (stage.iteration, stage.story) == (3, "1.2")
    assert (await drive(run, "W-1", stage)).workflow.status == "completed"


@pytest.mark.parametrize("move", ["advance", "pause", "resume", "cancel", "get"])
async def test_an_unknown_run_is_told(run, move):
    with pytest.raises(NotFound, match="no workflow W-7"):
        await run(f"workflow_{move}", workflow="W-7", **({"outcome": "done"} if move == "advance" else {}))


async def test_a_paused_run_waits_and_goes_on_where_it_stood(run):
    started = await run("workflow_start", type="greenfield-ui")
    paused = (await run("workflow_pause", workflow="W-1", reason="Holiday")).workflow
    assert (paused.status, paused.reason, paused.stage) == ("paused", "Holiday", "analyst: project-brief.md")
    with pytest.raises(InvalidMove, match=r"is paused, so it cannot advance\. Call workflow_resume"):
        await run("workflow_advance", workflow="W-1", outcome="done")
    with pytest.raises(InvalidMove, match="paused; it cannot become paused"):
        await run("workflow_pause", workflow="W-1")
    resumed = (await run("workflow_resume", workflow="W-1")).workflow
    assert (resumed.status, resumed.reason) == ("active", None)
    with pytest.raises(InvalidMove, match="active; it cannot become active"):
        await run("workflow_resume", workflow="W-1")
    found = await run("workflow_get", workflow="W-1")
    assert [one.position for one in found.stages if one.status == "active"] == [started.stage.position]


async def test_a_run_in_error_can_be_resumed(run, workspace):
    await run("workflow_start", type="greenfield-ui")
    await change(workspace.opened, "UPDATE bmad_workflows SET status = 'error' WHERE project_id = bmad_project()")
    with pytest.raises(InvalidMove, match="Call workflow_resume"):
        await run("workflow_advance", workflow="W-1", outcome="done")
    assert (await run("workflow_resume", workflow="W-1")).workflow.status == "active"


async def test_a_cancelled_run_is_over_and_shows_how_far_it_came(run):
    await run("workflow_start", type="greenfield-ui")
    await run("workflow_advance", workflow="W-1", outcome="done")
    before = (await run("workflow_get", workflow="W-1")).progress
    cancelled = (await run("workflow_cancel", workflow="W-1", reason="No money")).workflow
    assert (cancelled.progress, cancelled.progress.done) == (before, 1)
    assert (cancelled.status, cancelled.reason, cancelled.stage) == ("cancelled", "No money", None)
    assert (await run("workflow_get", workflow="W-1")).progress == cancelled.progress
    for name in ("workflow_pause", "workflow_resume", "workflow_cancel"):
        with pytest.raises(InvalidMove, match="final"):
            await run(name, workflow="W-1")
    with pytest.raises(InvalidMove, match=r"cancelled, so it cannot advance\. workflow_start"):
        await run("workflow_advance", workflow="W-1", outcome="done")
    assert await statuses(run, "W-1") == ["done", "skipped"] + ["pending"] * 16


async def test_a_completed_run_is_final(run):
    started = await run("workflow_start", type="greenfield-service")
    await drive(run, "W-1", started.stage)
    for name, more in (("advance", {"outcome": "done"}), ("pause", {}), ("resume", {}), ("cancel", {})):
        with pytest.raises(InvalidMove):
            await run(f"workflow_{name}", workflow="W-1", **more)


async def test_runs_are_listed_newest_first_with_where_they_are(run):
    for title in ("A", "B", "C"):
        await run("workflow_start", type="greenfield-service", title=title)
    await run("workflow_cancel", workflow="W-2")
    page = await run("workflow_list", limit=2)
    assert [one.key for one in page.items] == ["W-3", "W-2"]
    assert page.items[0].stage == "analyst: project-brief.md"
    rest = await run("workflow_list", limit=2, cursor=page.next_cursor)
    assert ([one.key for one in rest.items], rest.next_cursor) == (["W-1"], None)
    assert [one.key for one in (await run("workflow_list", status="cancelled")).items] == ["W-2"]
    with pytest.raises(Invalid, match="status"):
        await run("workflow_list", status="asleep")


async def test_earlier_runs_are_told_to_learn_from(run):
    started = await run("workflow_start", type="brownfield-service", title="First")
    await run("workflow_advance", workflow="W-1", outcome="done", note="The API has no tests.")
    assert (await run("workflow_start", type="brownfield-service")).similar == []
    await run("workflow_cancel", workflow="W-2", reason="Too early")
    await drive(run, "W-1", (await run("workflow_advance", workflow="W-1", outcome="done")).stage)
    await run("workflow_start", type="brownfield-ui")
    cancelled, completed = (await run("workflow_start", type="brownfield-service")).similar
    assert (completed.key, completed.title, completed.status) == ("W-1", "First", "completed")
    assert (completed.notes, completed.hours) == (["The API has no tests."], 0.0)
    assert (cancelled.key, cancelled.status, cancelled.reason) == ("W-2", "cancelled", "Too early")
    assert started.similar == []


async def test_the_handoff_prompt_of_the_last_agent_that_did_something_is_given(run, workspace):
    definition = {
        "stages": [
            {"position": 1, "kind": "agent", "agent": "analyst", "creates": "a"},
            {"position": 2, "kind": "agent", "agent": "pm", "creates": "b", "optional": True},
            {"position": 3, "kind": "agent", "agent": "ux-expert/architect", "creates": "c"},
            {"position": 4, "kind": "agent", "agent": "pm", "updates": "d"},
            {"position": 5, "kind": "agent", "agent": "po", "validates": "all"},
            {"position": 6, "kind": "agent", "agent": "various", "updates": "e", "condition": "po_checklist_issues"},
            {"position": 7, "kind": "agent", "agent": "po", "action": "shard_documents"},
        ],
        "handoff_prompts": {
            "analyst_to_pm": "To pm",
            "analyst_to_ux": "To ux",
            "updated_to_po": "Updated",
            "po_issues": "Issues",
        },
    }
    await change(workspace.opened, ADD_DEFINITION, "handing", "Handing", definition)
    await run("workflow_start", type="handing")
    told = []
    for outcome in ("done", "skip", "done", "done", "done", "done"):
        told.append((await run("workflow_advance", workflow="W-1", outcome=outcome)).stage.handoff_prompt)
    assert told == ["To pm", "To ux", None, "Updated", "Issues", None]


async def test_a_definition_without_stages_cannot_run_and_names_those_that_can(run, workspace):
    await change(workspace.opened, ADD_DEFINITION, "bmad-prd", "PRD", {"stages": []})
    with pytest.raises(Conflict, match=r"without stages.*brownfield-fullstack"):
        await run("workflow_start", type="bmad-prd")


async def test_an_imported_workflow_runs_however_it_is_shaped(run, workspace):
    stages = [
        {"position": 1, "kind": "guidance", "step": "step-01", "action": "Look around"},
        {"position": 2, "kind": "decision", "step": "choose"},
        {"position": 3, "kind": "decision", "step": "fork", "routes": {"Go On": {"notes": "x", "continue": "next"}}},
        {"position": 4, "kind": "end", "step": "end"},
        {"position": 5, "kind": "agent", "agent": "dev", "action": "never"},
    ]
    await change(workspace.opened, ADD_DEFINITION, "dev-story", "Develop a story", {"stages": stages})
    started = await run("workflow_start", type="dev-story")
    assert (started.workflow.type, started.workflow.title) == ("dev-story", "Develop a story")
    (row,) = await fetch(
        workspace.opened, "SELECT type::text AS type, definition FROM bmad_workflows WHERE project_id = bmad_project()"
    )
    assert row == {"type": "custom", "definition": "dev-story"}
    fork = await to_stage(run, "W-1", started.stage, "fork")
    assert fork.routes == {"Go On": "x"}
    end = await run("workflow_advance", workflow="W-1", outcome="go on")
    assert (end.stage, end.workflow.status, end.workflow.progress.percent) == (None, "completed", 100)
    assert await statuses(run, "W-1") == ["done", "done", "done", "done", "skipped"]


async def test_a_run_goes_on_as_it_began_when_its_definition_changes(run, workspace):
    started = await run("workflow_start", type="greenfield-ui")
    await change(workspace.opened, "UPDATE bmad_templates SET body = '{}' WHERE name = 'greenfield-ui'")
    assert (await drive(run, "W-1", started.stage)).workflow.status == "completed"


async def test_tasks_of_a_run_are_shown_with_it_open_ones_first(run):
    await run("workflow_start", type="greenfield-service")
    for number in range(52):
        await run("task_create", title=f"Task {number}", workflow="W-1", agent="analyst")
    await run("task_update", task="T-1", status="cancelled")
    found = await run("workflow_get", workflow="W-1")
    assert (found.tasks[0].key, found.tasks[0].agent, found.tasks[0].status) == ("T-2", "analyst", "pending")
    assert (len(found.tasks), found.more_tasks) == (50, 2)
    assert found.earlier_stages is None


async def test_of_a_long_run_the_latest_stages_are_shown(run):
    started = await run("workflow_start", type="greenfield-service")
    stage = started.stage
    for _ in range(16):
        stage = await to_stage(run, "W-1", stage, "repeat_development_cycle")
        stage = (await run("workflow_advance", workflow="W-1", outcome="next_story")).stage
    found = await run("workflow_get", workflow="W-1")
    assert (len(found.stages), found.earlier_stages) == (100, found.progress.total - 100)
    assert found.stages[-1].kind == "end"
    assert [one.action for one in found.stages if one.status == "active"] == ["create_story"]


async def test_every_change_leaves_a_trail_and_a_new_version(run, workspace):
    versions = []

    async def version():
        (row,) = await fetch(workspace.opened, "SELECT version FROM bmad_workflows WHERE project_id = bmad_project()")
        versions.append(row["version"])

    await run("workflow_start", type="greenfield-service")
    await version()
    for name, more in (
        ("advance", {"outcome": "done", "note": "Good."}),
        ("pause", {}),
        ("resume", {}),
        ("cancel", {"reason": "Enough"}),
    ):
        await run(f"workflow_{name}", workflow="W-1", **more)
        await version()
    assert versions == sorted(set(versions))
    trail = (await run("activity_list", subject="W-1")).items
    assert [one.operation.removeprefix("workflow_") for one in trail] == [
        *("cancel", "resume", "pause", "advance", "start"),
    ]
    assert [one.note for one in trail if one.note] == ["Enough", "Good.", (await run("workflow_list")).items[0].title]


async def test_an_artifact_of_a_stage_is_recorded_for_the_run_and_its_story(run):
    await stories(run, "A")
    started = await run("workflow_start", type="greenfield-service")
    await run("workflow_advance", workflow="W-1", outcome="done", artifact="./docs//brief.md")
    stage = await to_stage(run, "W-1", started.stage, "implement_story")
    await run("agent_activate", agent="dev")
    await run("workflow_advance", workflow="W-1", outcome="done", artifact="src/app.py")
    code, brief = [await run("artifact_get", artifact=one.key) for one in (await run("artifact_list")).items]
    assert (brief.path, brief.workflow, brief.agent, brief.story) == ("docs/brief.md", "W-1", None, None)
    assert (code.path, code.workflow, code.agent, code.story) == ("src/app.py", "W-1", "dev", "1.1")
    shown = (await run("workflow_get", workflow="W-1")).stages
    assert shown[0].artifact == "docs/brief.md"
    assert shown[stage.position - 1].story == "1.1"


async def test_an_artifact_outside_the_project_is_refused_and_nothing_moves(run):
    await run("workflow_start", type="greenfield-service")
    for path in ("/etc/passwd", "../../x"):
        with pytest.raises(Invalid, match="`artifact` must be relative"):
            await run("workflow_advance", workflow="W-1", outcome="done", artifact=path)
    assert (await statuses(run, "W-1"))[0] == "active"


async def test_the_position_that_is_meant_guards_against_a_run_that_went_on(run):
    await run("workflow_start", type="greenfield-service")
    await run("workflow_advance", workflow="W-1", outcome="done", position=1)
    with pytest.raises(Conflict, match="at stage 2 by now; nothing was changed"):
        await run("workflow_advance", workflow="W-1", outcome="done", position=1)
    assert (await statuses(run, "W-1"))[:3] == ["done", "active", "pending"]


async def test_the_same_call_with_its_key_passes_one_stage_once(run):
    await run("workflow_start", type="greenfield-service")
    first = await run("workflow_advance", workflow="W-1", outcome="done", idempotency_key="k")
    again = await run("workflow_advance", workflow="W-1", outcome="done", idempotency_key="k")
    assert again == first
    assert (await statuses(run, "W-1"))[:3] == ["done", "active", "pending"]


async def test_a_run_of_another_project_is_not_seen(run, pool):
    other = await new_project(pool)
    await change(
        other,
        "INSERT INTO bmad_workflows (project_id, number, type, definition, title, status, completed_at)"
        " VALUES (bmad_project(), 1, 'greenfield-ui', 'greenfield-ui', 'Theirs', 'completed', now())",
    )
    assert (await run("workflow_list")).items == []
    for name, more in (("get", {}), ("advance", {"outcome": "done"}), ("cancel", {})):
        with pytest.raises(NotFound):
            await run(f"workflow_{name}", workflow="W-1", **more)
    assert (await run("workflow_start", type="greenfield-ui")).similar == []
