"""What a stage builds on is looked for among documents and earlier stages; it is told, never enforced."""

import pytest
from stored_rows import change
from workflows.driving import ADD_DEFINITION, stories, to_stage

IMPORT = """
INSERT INTO bmad_artifacts (project_id, number, kind, title, path, source)
VALUES (bmad_project(), $1, $2, regexp_replace($3, '.*/', ''), $3, 'import')
"""


def have(stage):
    return {one.name: one.have for one in stage.requires}


async def asks_for(run, workspace, *names):
    """The stage of a workflow of its own that requires these."""
    stages = [{"position": 1, "kind": "agent", "agent": "pm", "requires": list(names)}]
    await change(workspace.opened, ADD_DEFINITION, "asking", "Asking", {"stages": stages})
    return (await run("workflow_start", type="asking")).stage


async def test_what_is_missing_is_told_and_refuses_nothing(run):
    await run("workflow_start", type="greenfield-service")
    await run("workflow_cancel", workflow="W-1")
    started = await run("workflow_start", type="brownfield-ui")
    assert started.stage.requires is None
    stage = (await run("workflow_advance", workflow="W-2", outcome="done")).stage
    assert have(stage) == {"existing_ui_analysis": True}


async def test_what_an_earlier_stage_made_is_there_and_what_was_skipped_is_not(run, workspace):
    stages = [
        {"position": 1, "kind": "agent", "agent": "a", "creates": "notes.md (or more)", "optional": True},
        {"position": 2, "kind": "agent", "agent": "b", "requires": ["notes.md", "prd.md"]},
    ]
    await change(workspace.opened, ADD_DEFINITION, "two", "Two", {"stages": stages})
    for key, outcome, artifact, there in (
        ("W-1", "done", "docs/what-we-know.md", True),
        ("W-2", "skip", None, False),
        ("W-3", "done", None, False),
    ):
        await run("workflow_start", type="two")
        stage = (await run("workflow_advance", workflow=key, outcome=outcome, artifact=artifact)).stage
        assert have(stage) == {"notes.md": there, "prd.md": False}
        assert (await run("workflow_advance", workflow=key, outcome="done")).workflow.status == "completed"


@pytest.mark.parametrize(
    ("kind", "path", "requirement"),
    [
        ("brief", "docs/brief.md", "project-brief.md"),
        ("output", "docs/architecture.md", "fullstack-architecture.md"),
        ("document", "docs/ui-architecture.md", "front-end-architecture.md"),
        ("prd", "_bmad-output/planning-artifacts/prds/prd-shop/PRD.md", "prd.md"),
        ("prd", "docs/prd/index.md", "prd.md"),
        ("prd", "docs/prd/index.md", "sharded_docs"),
        ("architecture", "docs/architecture/index.md", "architecture.md"),
        ("architecture", "docs/system.md", "existing_documentation_or_analysis"),
        ("ux", "docs/front-end-spec.md", "front-end-spec.md"),
        ("document", "docs/brownfield-architecture.md", "sharded_docs_or_brownfield_docs"),
    ],
)
async def test_a_document_is_found_by_the_names_it_goes_by(run, workspace, kind, path, requirement):
    await change(workspace.opened, IMPORT, 1, kind, path)
    assert have(await asks_for(run, workspace, requirement, "other.md")) == {requirement: True, "other.md": False}


@pytest.mark.parametrize(
    ("kind", "path"), [("template", ".bmad-core/templates/prd.md"), ("data", "_bmad/prd.md"), ("brief", "docs/b.md")]
)
async def test_a_template_or_another_document_is_not_what_is_asked_for(run, workspace, kind, path):
    await change(workspace.opened, IMPORT, 1, kind, path)
    assert have(await asks_for(run, workspace, "prd.md")) == {"prd.md": False}


async def test_two_requirements_may_be_met_by_one_document(run, workspace):
    await change(workspace.opened, IMPORT, 1, "architecture", "docs/architecture.md")
    stage = await asks_for(run, workspace, "architecture.md", "fullstack-architecture.md")
    assert set(have(stage).values()) == {True}


@pytest.mark.parametrize("is_recorded", [True, False])
async def test_the_documents_and_stages_of_a_whole_run_meet_what_it_asks_for(run, is_recorded):
    await stories(run, "A")
    started = await run("workflow_start", type="greenfield-fullstack")
    stage, asked = started.stage, {}
    while stage is not None:
        asked |= have(stage) if stage.requires else {}
        made = f"docs/{stage.creates}" if is_recorded and (stage.creates or "").endswith(".md") else None
        stage = (await run("workflow_advance", workflow="W-1", outcome="done", artifact=made)).stage
    documents = {"project-brief.md", "prd.md", "front-end-spec.md", "fullstack-architecture.md"}
    assert documents < set(asked)
    assert {name for name, there in asked.items() if not there} == (set() if is_recorded else documents)


async def test_what_is_missing_says_how_it_is_recorded_and_then_it_is_there(run, workspace):
    missing = (await asks_for(run, workspace, "project-brief.md", "story.md", "service_analysis")).requires
    assert [one.record for one in missing] == [
        "artifact_record with path='docs/project-brief.md' (toolset planning) once it is there, or"
        f" `bmad-mcp import PATH --project {workspace.opened.key}`.",
        "story_create adds a story.",
        None,
    ]
    await run("artifact_record", kind="brief", path="docs/project-brief.md")
    there = (await run("workflow_start", type="asking")).stage.requires[0]
    assert there.model_dump(exclude_unset=True) == {"name": "project-brief.md", "have": True}


async def test_another_runs_stages_do_not_count_but_the_turns_own_story_does(run):
    await stories(run, "A")
    await run("workflow_start", type="greenfield-service")
    await run("workflow_advance", workflow="W-1", outcome="done", artifact="docs/what-we-know.md")
    other = await run("workflow_start", type="greenfield-service")
    assert other.stage.requires is None
    stage = (await run("workflow_advance", workflow="W-2", outcome="done")).stage
    assert have(stage) == {"project-brief.md": False}
    story = await to_stage(run, "W-2", stage, "implement_story")
    assert have(story) == {"story.md": True}
