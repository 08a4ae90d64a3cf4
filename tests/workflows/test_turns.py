"""Each turn of the development loop is about one story: which one, and who says so."""

import pytest
from workflows.driving import drive, stories, to_stage

from bmad_mcp.errors import NotFound
from bmad_mcp.workflows.requirements import names_for
from bmad_mcp.workflows.routes import loop_body, route_named, with_ways_back
from bmad_mcp.workflows.turns import story_named, story_of_path


async def begin(run, stage, key="W-1", **more):
    """The first stage of the next turn."""
    await to_stage(run, key, stage, "repeat_development_cycle")
    return (await run("workflow_advance", workflow=key, outcome="next_story", **more)).stage


async def test_the_loop_has_stages_of_its_own_for_each_story(run):
    await stories(run, "A", "B", "C")
    started = await run("workflow_start", type="greenfield-service", story="1.1")
    assert (started.workflow.story, started.stage.story) == ("1.1", None)
    stage = await to_stage(run, "W-1", started.stage, "create_story")
    seen = [stage.story]
    for iteration in (2, 3):
        stage = await begin(run, stage)
        assert (stage.action, stage.agent, stage.iteration) == ("create_story", "sm", iteration)
        seen.append(stage.story)
    assert seen == ["1.1", "1.2", "1.3"]
    answer = await drive(run, "W-1", stage)
    assert answer.workflow.status == "completed"
    found = await run("workflow_get", workflow="W-1")
    for action in ("create_story", "implement_story", "review_implementation", "continue_for_all_stories"):
        turns = [(one.iteration or 1, one.story) for one in found.stages if one.action == action]
        assert turns == [(1, "1.1"), (2, "1.2"), (3, "1.3")], action
    assert {one.story for one in found.stages if one.action in ("shard_documents", "epic_retrospective")} == {None}
    assert {one.status for one in found.stages} == {"done"}
    assert found.progress.total == 15 + 2 * 6


async def test_a_run_without_a_story_takes_them_in_order_and_passes_over_those_that_are_finished(run):
    await stories(run, "A", "B", "C", "D")
    await run("story_update", story="1.1", expected_version=1, status="cancelled")
    started = await run("workflow_start", type="greenfield-service")
    stage = await to_stage(run, "W-1", started.stage, "create_story")
    assert stage.story == "1.2"
    stage = await to_stage(run, "W-1", stage, "repeat_development_cycle")
    assert stage.routes["next_story"].endswith("Next in order: 1.3.")
    assert (await begin(run, stage)).story == "1.3"


async def test_when_no_story_is_left_the_way_says_so_and_the_story_that_is_written_then_is_taken(run):
    started = await run("workflow_start", type="greenfield-service")
    stage = await to_stage(run, "W-1", started.stage, "create_story")
    assert stage.story is None
    await stories(run, "A")
    stage = (await run("workflow_advance", workflow="W-1", outcome="done")).stage
    assert stage.story == "1.1"
    stage = await to_stage(run, "W-1", stage, "repeat_development_cycle")
    assert "No story is left to begin" in stage.routes["next_story"]
    stage = (await run("workflow_advance", workflow="W-1", outcome="next_story")).stage
    assert stage.story is None
    await run("story_create", epic="1", title="B")
    stage = (await run("workflow_advance", workflow="W-1", outcome="done")).stage
    assert stage.story == "1.2"
    assert (await drive(run, "W-1", stage)).workflow.status == "completed"
    found = (await run("workflow_get", workflow="W-1")).stages
    assert [one.story for one in found if one.action == "implement_story"] == ["1.1", "1.2"]


async def test_the_next_story_may_be_named(run):
    await stories(run, "A", "B", "C")
    started = await run("workflow_start", type="greenfield-service")
    stage = await to_stage(run, "W-1", started.stage, "repeat_development_cycle")
    with pytest.raises(NotFound, match=r"`note` names story 9\.9"):
        await run("workflow_advance", workflow="W-1", outcome="next_story", note="9.9")
    stage = await begin(run, stage, note="Now story 1.3, please.")
    assert stage.story == "1.3"
    assert (await begin(run, stage)).story == "1.2"


async def test_numbers_in_a_note_are_no_story(run):
    await stories(run, "A", "B")
    started = await run("workflow_start", type="greenfield-service")
    stage = await to_stage(run, "W-1", started.stage, "repeat_development_cycle")
    assert (await begin(run, stage, note="It took 9.9 hours with Python 1.1 of old.")).story == "1.2"


@pytest.mark.parametrize("told", [{"note": "story 1.2 is written"}, {"artifact": "docs/stories/1.2.list.md"}])
async def test_the_stage_that_writes_the_story_may_say_that_it_is_another_one(run, told):
    await stories(run, "A", "B")
    started = await run("workflow_start", type="greenfield-service")
    stage = await to_stage(run, "W-1", started.stage, "create_story")
    assert stage.story == "1.1"
    stage = (await run("workflow_advance", workflow="W-1", outcome="done", **told)).stage
    assert stage.story == "1.2"
    shown = {one.action: one.story for one in (await run("workflow_get", workflow="W-1")).stages}
    assert (shown["create_story"], shown["continue_for_all_stories"]) == ("1.2", "1.2")
    assert (await begin(run, stage)).story == "1.1"


async def test_two_runs_at_work_take_different_stories(run):
    await stories(run, "A", "B")
    for key, story in (("W-1", "1.1"), ("W-2", "1.2"), ("W-3", None)):
        started = await run("workflow_start", type="greenfield-service")
        assert (await to_stage(run, key, started.stage, "create_story")).story == story
    await run("workflow_cancel", workflow="W-1")
    started = await run("workflow_start", type="greenfield-service")
    assert (await to_stage(run, "W-4", started.stage, "create_story")).story == "1.1"


@pytest.mark.parametrize(
    ("note", "story"),
    [
        ("1.2", "1.2"),
        (" 1.4B: go", "1.4b"),
        ("Next: Story 2.10.", "2.10"),
        ("story: 3.1", "3.1"),
        ("history 1.2", None),
        ("Python 3.11 is used", None),
        ("1.2.3 was released", None),
        ("story 1.2.3", None),
        ("", None),
        (None, None),
    ],
)
def test_a_note_names_a_story_only_when_it_says_so(note, story):
    assert story_named(note) == story


@pytest.mark.parametrize(
    ("path", "story"),
    [
        ("docs/stories/1.2.login.md", "1.2"),
        ("docs/stories/1.2.story.md", "1.2"),
        ("_bmad-output/implementation-artifacts/1-4b-log-in.md", "1.4b"),
        ("docs/1.2/readme.md", None),
        ("story.md", None),
        (None, None),
    ],
)
def test_a_story_file_names_its_story(path, story):
    assert story_of_path(path) == story


def test_ways_back_are_added_where_the_diagrams_draw_them():
    stages = [
        {"position": 1, "validates": "all"},
        {"position": 2, "condition": "po_checklist_issues"},
        {"position": 3, "repeats": "for_each_epic"},
        {"position": 4, "action": "review_implementation"},
        {"position": 5, "action": "address_qa_feedback", "routes": {"own": {"continue": "x"}}},
        {"position": 6, "step": "repeat_development_cycle"},
        {"position": 7, "kind": "end"},
    ]
    found = with_ways_back(stages)
    ways = {
        one["position"]: {name: way.get("again") for name, way in (one.get("routes") or {}).items()} for one in found
    }
    assert {position: found_ways for position, found_ways in ways.items() if found_ways} == {
        2: {"recheck": [1, 2]},
        5: {"own": None, "review_again": [4, 5]},
        6: {"next_story": [3, 4, 5, 6]},
    }
    assert loop_body(found) == [3, 4, 5, 6]
    assert stages[1] == {"position": 2, "condition": "po_checklist_issues"}, "the definition itself stays"


def test_a_way_back_needs_a_stage_to_go_back_to():
    stages = [{"position": 1, "step": "repeat_development_cycle"}, {"position": 2, "condition": "po_checklist_issues"}]
    assert with_ways_back(stages) == stages
    assert loop_body(stages) == []


def test_a_route_is_meant_however_its_words_are_joined():
    stage = {"routes": {"single_story": {}, "Go-On": {}}}
    assert [route_named(stage, said) for said in ("single_story", "Single story", "go on", "GO_ON", "other")] == [
        *("single_story", "single_story", "Go-On", "Go-On", None),
    ]


def test_prose_behind_a_requirement_is_no_part_of_its_name():
    assert names_for("prd.md (if needed)")[:3] == ("prd.md (if needed)", "prd.md", "prd")
