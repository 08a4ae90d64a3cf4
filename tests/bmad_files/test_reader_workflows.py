"""The six workflows of a real 4.44.3 install, compared stage by stage and field by field with a table of facts."""

import pytest
from bmad_installs import V4, installed

from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.values import StageDefinition, WorkflowDefinition

# Every field of every stage but the notes, which are texts; a route is
# name>agent/uses/exit or where it goes on; a line that is indented goes on from the one before.
FACTS = """
[greenfield-fullstack]
types: web-app, saas, enterprise-app, prototype, mvp
handoffs: analyst_to_pm, pm_to_ux, ux_to_architect, architect_review, architect_to_pm, updated_to_po,
  po_issues, complete
agent=analyst; creates=project-brief.md; optional_steps=brainstorming_session, market_research_prompt
agent=pm; creates=prd.md; requires=project-brief.md
agent=ux-expert; creates=front-end-spec.md; requires=prd.md; optional_steps=user_research_prompt
agent=ux-expert; creates=v0_prompt (optional); requires=front-end-spec.md; condition=user_wants_ai_generation
agent=architect; creates=fullstack-architecture.md; requires=prd.md, front-end-spec.md;
  optional_steps=technical_research_prompt, review_generated_ui_structure
agent=pm; updates=prd.md (if needed); requires=fullstack-architecture.md;
  condition=architecture_suggests_prd_changes
agent=po; validates=all_artifacts; uses=po-master-checklist
agent=various; updates=any_flagged_documents; condition=po_checklist_issues
step=project_setup_guidance; action=guide_project_structure; condition=user_has_generated_ui
step=development_order_guidance; action=guide_development_sequence
agent=po; action=shard_documents; creates=sharded_docs; requires=all_artifacts_in_project
agent=sm; action=create_story; creates=story.md; requires=sharded_docs; repeats=for_each_epic
agent=analyst/pm; action=review_draft_story; updates=story.md; requires=story.md; optional=yes;
  condition=user_wants_story_review
agent=dev; action=implement_story; creates=implementation_files; requires=story.md
agent=qa; action=review_implementation; updates=implementation_files; requires=implementation_files;
  optional=yes
agent=dev; action=address_qa_feedback; updates=implementation_files; condition=qa_left_unchecked_items
step=repeat_development_cycle; action=continue_for_all_stories
agent=po; action=epic_retrospective; creates=epic-retrospective.md; optional=yes; condition=epic_complete
step=workflow_end; action=project_complete

[greenfield-service]
types: rest-api, graphql-api, microservice, backend-service, api-prototype, simple-service
handoffs: analyst_to_pm, pm_to_architect, architect_review, architect_to_pm, updated_to_po, po_issues,
  complete
agent=analyst; creates=project-brief.md; optional_steps=brainstorming_session, market_research_prompt
agent=pm; creates=prd.md; requires=project-brief.md
agent=architect; creates=architecture.md; requires=prd.md; optional_steps=technical_research_prompt
agent=pm; updates=prd.md (if needed); requires=architecture.md; condition=architecture_suggests_prd_changes
agent=po; validates=all_artifacts; uses=po-master-checklist
agent=various; updates=any_flagged_documents; condition=po_checklist_issues
agent=po; action=shard_documents; creates=sharded_docs; requires=all_artifacts_in_project
agent=sm; action=create_story; creates=story.md; requires=sharded_docs; repeats=for_each_epic
agent=analyst/pm; action=review_draft_story; updates=story.md; requires=story.md; optional=yes;
  condition=user_wants_story_review
agent=dev; action=implement_story; creates=implementation_files; requires=story.md
agent=qa; action=review_implementation; updates=implementation_files; requires=implementation_files;
  optional=yes
agent=dev; action=address_qa_feedback; updates=implementation_files; condition=qa_left_unchecked_items
step=repeat_development_cycle; action=continue_for_all_stories
agent=po; action=epic_retrospective; creates=epic-retrospective.md; optional=yes; condition=epic_complete
step=workflow_end; action=project_complete

[greenfield-ui]
types: spa, mobile-app, micro-frontend, static-site, ui-prototype, simple-interface
handoffs: analyst_to_pm, pm_to_ux, ux_to_architect, architect_review, architect_to_pm, updated_to_po,
  po_issues, complete
agent=analyst; creates=project-brief.md; optional_steps=brainstorming_session, market_research_prompt
agent=pm; creates=prd.md; requires=project-brief.md
agent=ux-expert; creates=front-end-spec.md; requires=prd.md; optional_steps=user_research_prompt
agent=ux-expert; creates=v0_prompt (optional); requires=front-end-spec.md; condition=user_wants_ai_generation
agent=architect; creates=front-end-architecture.md; requires=front-end-spec.md;
  optional_steps=technical_research_prompt, review_generated_ui_structure
agent=pm; updates=prd.md (if needed); requires=front-end-architecture.md;
  condition=architecture_suggests_prd_changes
agent=po; validates=all_artifacts; uses=po-master-checklist
agent=various; updates=any_flagged_documents; condition=po_checklist_issues
step=project_setup_guidance; action=guide_project_structure; condition=user_has_generated_ui
agent=po; action=shard_documents; creates=sharded_docs; requires=all_artifacts_in_project
agent=sm; action=create_story; creates=story.md; requires=sharded_docs; repeats=for_each_epic
agent=analyst/pm; action=review_draft_story; updates=story.md; requires=story.md; optional=yes;
  condition=user_wants_story_review
agent=dev; action=implement_story; creates=implementation_files; requires=story.md
agent=qa; action=review_implementation; updates=implementation_files; requires=implementation_files;
  optional=yes
agent=dev; action=address_qa_feedback; updates=implementation_files; condition=qa_left_unchecked_items
step=repeat_development_cycle; action=continue_for_all_stories
agent=po; action=epic_retrospective; creates=epic-retrospective.md; optional=yes; condition=epic_complete
step=workflow_end; action=project_complete

[brownfield-fullstack]
types: feature-addition, refactoring, modernization, integration-enhancement
handoffs: classification_complete, documentation_assessment, document_project_to_pm,
  pm_to_architect_decision, architect_to_po, po_to_sm, sm_story_creation, complete
step=enhancement_classification; agent=analyst; action=classify enhancement scope
step=routing_decision; condition=based_on_classification;
  routes=single_story>pm/brownfield-create-story/exit, small_feature>pm/brownfield-create-epic/exit, major_enhancement>//to_next_step
step=documentation_check; agent=analyst; action=check existing documentation; condition=major_enhancement_path
step=project_analysis; agent=architect; action=analyze existing project and use task document-project;
  creates=brownfield-architecture.md (or multiple documents); condition=documentation_inadequate
agent=pm; creates=prd.md; uses=brownfield-prd-tmpl; requires=existing_documentation_or_analysis
step=architecture_decision; agent=pm/architect; action=determine if architecture document needed;
  condition=after_prd_creation
agent=architect; creates=architecture.md; uses=brownfield-architecture-tmpl; requires=prd.md;
  condition=architecture_changes_needed
agent=po; validates=all_artifacts; uses=po-master-checklist
agent=various; updates=any_flagged_documents; condition=po_checklist_issues
agent=po; action=shard_documents; creates=sharded_docs; requires=all_artifacts_in_project
agent=sm; action=create_story; creates=story.md; requires=sharded_docs_or_brownfield_docs;
  repeats=for_each_epic_or_enhancement
agent=analyst/pm; action=review_draft_story; updates=story.md; requires=story.md; optional=yes;
  condition=user_wants_story_review
agent=dev; action=implement_story; creates=implementation_files; requires=story.md
agent=qa; action=review_implementation; updates=implementation_files; requires=implementation_files;
  optional=yes
agent=dev; action=address_qa_feedback; updates=implementation_files; condition=qa_left_unchecked_items
step=repeat_development_cycle; action=continue_for_all_stories
agent=po; action=epic_retrospective; creates=epic-retrospective.md; optional=yes; condition=epic_complete
step=workflow_end; action=project_complete

[brownfield-service]
types: service-modernization, api-enhancement, microservice-extraction, performance-optimization,
  integration-enhancement
handoffs: analyst_to_pm, pm_to_architect, architect_to_po, po_issues, complete
step=service_analysis; agent=architect; action=analyze existing project and use task document-project;
  creates=multiple documents per the document-project template
agent=pm; creates=prd.md; uses=brownfield-prd-tmpl; requires=existing_service_analysis
agent=architect; creates=architecture.md; uses=brownfield-architecture-tmpl; requires=prd.md
agent=po; validates=all_artifacts; uses=po-master-checklist
agent=various; updates=any_flagged_documents; condition=po_checklist_issues
agent=po; action=shard_documents; creates=sharded_docs; requires=all_artifacts_in_project
agent=sm; action=create_story; creates=story.md; requires=sharded_docs; repeats=for_each_epic
agent=analyst/pm; action=review_draft_story; updates=story.md; requires=story.md; optional=yes;
  condition=user_wants_story_review
agent=dev; action=implement_story; creates=implementation_files; requires=story.md
agent=qa; action=review_implementation; updates=implementation_files; requires=implementation_files;
  optional=yes
agent=dev; action=address_qa_feedback; updates=implementation_files; condition=qa_left_unchecked_items
step=repeat_development_cycle; action=continue_for_all_stories
agent=po; action=epic_retrospective; creates=epic-retrospective.md; optional=yes; condition=epic_complete
step=workflow_end; action=project_complete

[brownfield-ui]
types: ui-modernization, framework-migration, design-refresh, frontend-enhancement
handoffs: analyst_to_pm, pm_to_ux, ux_to_architect, architect_to_po, po_issues, complete
step=ui_analysis; agent=architect; action=analyze existing project and use task document-project;
  creates=multiple documents per the document-project template
agent=pm; creates=prd.md; uses=brownfield-prd-tmpl; requires=existing_ui_analysis
agent=ux-expert; creates=front-end-spec.md; uses=front-end-spec-tmpl; requires=prd.md
agent=architect; creates=architecture.md; uses=brownfield-architecture-tmpl;
  requires=prd.md, front-end-spec.md
agent=po; validates=all_artifacts; uses=po-master-checklist
agent=various; updates=any_flagged_documents; condition=po_checklist_issues
agent=po; action=shard_documents; creates=sharded_docs; requires=all_artifacts_in_project
agent=sm; action=create_story; creates=story.md; requires=sharded_docs; repeats=for_each_epic
agent=analyst/pm; action=review_draft_story; updates=story.md; requires=story.md; optional=yes;
  condition=user_wants_story_review
agent=dev; action=implement_story; creates=implementation_files; requires=story.md
agent=qa; action=review_implementation; updates=implementation_files; requires=implementation_files;
  optional=yes
agent=dev; action=address_qa_feedback; updates=implementation_files; condition=qa_left_unchecked_items
step=repeat_development_cycle; action=continue_for_all_stories
agent=po; action=epic_retrospective; creates=epic-retrospective.md; optional=yes; condition=epic_complete
step=workflow_end; action=project_complete
"""
TOLD = ("step", "agent", "action", "creates", "updates", "validates", "uses", "requires", "optional", "condition")
KINDS = {"routing_decision": "decision", "workflow_end": "end"}


def rendered(stage: StageDefinition) -> str:
    parts = []
    for name in (*TOLD, "optional_steps", "repeats"):
        value = getattr(stage, name)
        if value:
            parts.append(
                f"{name}={', '.join(value) if isinstance(value, tuple) else 'yes' if value is True else value}"
            )
    if stage.routes:
        routes = (
            f"{name}>{route.get('agent', '')}/{route.get('uses', '')}/"
            + ("exit" if route.get("exit") else route["continue"])
            for name, route in stage.routes.items()
        )
        parts.append("routes=" + ", ".join(routes))
    return "; ".join(parts)


def expected() -> dict[str, list[str]]:
    blocks = (block.strip().splitlines() for block in FACTS.replace("\n  ", " ").strip().split("\n\n"))
    return {head.strip("[]"): rest for head, *rest in blocks}


@pytest.fixture(scope="module")
def workflows(tmp_path_factory) -> dict[str, WorkflowDefinition]:
    project = read_project(installed(V4, tmp_path_factory.mktemp("v4")))
    return {one.id: one for one in project.workflows}


def test_there_are_six_workflows_with_99_stages(workflows):
    assert set(workflows) == set(expected())
    assert sum(len(one.stages) for one in workflows.values()) == 99
    assert {one.type for one in workflows.values()} == set(workflows)


@pytest.mark.parametrize("name", expected())
def test_a_workflow_has_exactly_the_stages_of_the_table(workflows, name):
    types, handoffs, *stages = expected()[name]
    workflow = workflows[name]
    assert "types: " + ", ".join(workflow.project_types) == types
    assert "handoffs: " + ", ".join(workflow.handoff_prompts) == handoffs
    assert [rendered(stage) for stage in workflow.stages] == stages
    assert [stage.position for stage in workflow.stages] == list(range(1, len(stages) + 1))


def test_a_stage_is_a_decision_an_end_a_piece_of_guidance_or_an_agents(workflows):
    for workflow in workflows.values():
        for stage in workflow.stages:
            usual = "agent" if stage.agent else "guidance"
            assert stage.kind == KINDS.get(stage.step or "", usual), (workflow.id, stage.position)
        assert workflow.stages[-1].kind == "end"


def test_the_texts_around_the_stages_are_kept(workflows):
    for workflow in workflows.values():
        assert sum(bool(stage.notes) for stage in workflow.stages) >= len(workflow.stages) - 1
        assert "graph TD" in workflow.flow_diagram
        assert workflow.when_to_use
        assert workflow.description
        assert all(workflow.handoff_prompts.values())
    routes = next(stage.routes for stage in workflows["brownfield-fullstack"].stages if stage.routes)
    assert all(route["notes"] for route in routes.values())
