"""The six built-in workflows, field by field; only the wording of notes is free."""

import re
from typing import Any

import pytest
import yaml

from bmad_mcp.builtin import FOLDER

CORE = FOLDER / ".bmad-core"
Stage = dict[str, Any]

BRIEF = {
    "agent": "analyst",
    "creates": "project-brief.md",
    "optional_steps": ["brainstorming_session", "market_research_prompt"],
}
PRD = {"agent": "pm", "creates": "prd.md", "requires": "project-brief.md"}
FRONT_END_SPEC = {
    "agent": "ux-expert",
    "creates": "front-end-spec.md",
    "requires": "prd.md",
    "optional_steps": ["user_research_prompt"],
}
UI_PROMPT = {
    "agent": "ux-expert",
    "creates": "v0_prompt (optional)",
    "requires": "front-end-spec.md",
    "condition": "user_wants_ai_generation",
}
UI_RESEARCH = ["technical_research_prompt", "review_generated_ui_structure"]
CHECK = [
    {"agent": "po", "validates": "all_artifacts", "uses": "po-master-checklist"},
    {"agent": "various", "updates": "any_flagged_documents", "condition": "po_checklist_issues"},
]
SETUP = {
    "step": "project_setup_guidance",
    "action": "guide_project_structure",
    "condition": "user_has_generated_ui",
}
ORDER = {"step": "development_order_guidance", "action": "guide_development_sequence"}
SHARD = {
    "agent": "po",
    "action": "shard_documents",
    "creates": "sharded_docs",
    "requires": "all_artifacts_in_project",
}


def prd_changes(architecture: str) -> Stage:
    return {
        "agent": "pm",
        "updates": "prd.md (if needed)",
        "requires": architecture,
        "condition": "architecture_suggests_prd_changes",
    }


def cycle(requires: str = "sharded_docs", repeats: str = "for_each_epic") -> list[Stage]:
    """From the first story to the end of the workflow."""
    return [
        {"agent": "sm", "action": "create_story", "creates": "story.md", "requires": requires, "repeats": repeats},
        {
            "agent": "analyst/pm",
            "action": "review_draft_story",
            "updates": "story.md",
            "requires": "story.md",
            "optional": True,
            "condition": "user_wants_story_review",
        },
        {"agent": "dev", "action": "implement_story", "creates": "implementation_files", "requires": "story.md"},
        {
            "agent": "qa",
            "action": "review_implementation",
            "updates": "implementation_files",
            "requires": "implementation_files",
            "optional": True,
        },
        {
            "agent": "dev",
            "action": "address_qa_feedback",
            "updates": "implementation_files",
            "condition": "qa_left_unchecked_items",
        },
        {"step": "repeat_development_cycle", "action": "continue_for_all_stories"},
        {
            "agent": "po",
            "action": "epic_retrospective",
            "creates": "epic-retrospective.md",
            "condition": "epic_complete",
            "optional": True,
        },
        {"step": "workflow_end", "action": "project_complete"},
    ]


def analysis(step: str) -> Stage:
    return {
        "step": step,
        "agent": "architect",
        "action": "analyze existing project and use task document-project",
        "creates": "multiple documents per the document-project template",
    }


def change_prd(requires: str) -> Stage:
    return {"agent": "pm", "creates": "prd.md", "uses": "brownfield-prd-tmpl", "requires": requires}


def change_architecture(requires: str | list[str], **more: str) -> Stage:
    return {
        "agent": "architect",
        "creates": "architecture.md",
        "uses": "brownfield-architecture-tmpl",
        "requires": requires,
        **more,
    }


STAGES: dict[str, list[Stage]] = {
    "greenfield-fullstack": [
        BRIEF,
        PRD,
        FRONT_END_SPEC,
        UI_PROMPT,
        {
            "agent": "architect",
            "creates": "fullstack-architecture.md",
            "requires": ["prd.md", "front-end-spec.md"],
            "optional_steps": UI_RESEARCH,
        },
        prd_changes("fullstack-architecture.md"),
        *CHECK,
        SETUP,
        ORDER,
        SHARD,
        *cycle(),
    ],
    "greenfield-service": [
        BRIEF,
        PRD,
        {
            "agent": "architect",
            "creates": "architecture.md",
            "requires": "prd.md",
            "optional_steps": ["technical_research_prompt"],
        },
        prd_changes("architecture.md"),
        *CHECK,
        SHARD,
        *cycle(),
    ],
    "greenfield-ui": [
        BRIEF,
        PRD,
        FRONT_END_SPEC,
        UI_PROMPT,
        {
            "agent": "architect",
            "creates": "front-end-architecture.md",
            "requires": "front-end-spec.md",
            "optional_steps": UI_RESEARCH,
        },
        prd_changes("front-end-architecture.md"),
        *CHECK,
        SETUP,
        SHARD,
        *cycle(),
    ],
    "brownfield-fullstack": [
        {"step": "enhancement_classification", "agent": "analyst", "action": "classify enhancement scope"},
        {
            "step": "routing_decision",
            "condition": "based_on_classification",
            "routes": {
                "single_story": {"agent": "pm", "uses": "brownfield-create-story"},
                "small_feature": {"agent": "pm", "uses": "brownfield-create-epic"},
                "major_enhancement": {"continue": "to_next_step"},
            },
        },
        {
            "step": "documentation_check",
            "agent": "analyst",
            "action": "check existing documentation",
            "condition": "major_enhancement_path",
        },
        {
            "step": "project_analysis",
            "agent": "architect",
            "action": "analyze existing project and use task document-project",
            "creates": "brownfield-architecture.md (or multiple documents)",
            "condition": "documentation_inadequate",
        },
        change_prd("existing_documentation_or_analysis"),
        {
            "step": "architecture_decision",
            "agent": "pm/architect",
            "action": "determine if architecture document needed",
            "condition": "after_prd_creation",
        },
        change_architecture("prd.md", condition="architecture_changes_needed"),
        *CHECK,
        SHARD,
        *cycle("sharded_docs_or_brownfield_docs", "for_each_epic_or_enhancement"),
    ],
    "brownfield-service": [
        analysis("service_analysis"),
        change_prd("existing_service_analysis"),
        change_architecture("prd.md"),
        *CHECK,
        SHARD,
        *cycle(),
    ],
    "brownfield-ui": [
        analysis("ui_analysis"),
        change_prd("existing_ui_analysis"),
        {
            "agent": "ux-expert",
            "creates": "front-end-spec.md",
            "uses": "front-end-spec-tmpl",
            "requires": "prd.md",
        },
        change_architecture(["prd.md", "front-end-spec.md"]),
        *CHECK,
        SHARD,
        *cycle(),
    ],
}
LENGTHS = {
    "greenfield-fullstack": 19,
    "greenfield-service": 15,
    "greenfield-ui": 18,
    "brownfield-fullstack": 18,
    "brownfield-service": 14,
    "brownfield-ui": 15,
}
PROJECT_TYPES = {
    "greenfield-fullstack": "web-app saas enterprise-app prototype mvp",
    "greenfield-service": "rest-api graphql-api microservice backend-service api-prototype simple-service",
    "greenfield-ui": "spa mobile-app micro-frontend static-site ui-prototype simple-interface",
    "brownfield-fullstack": "feature-addition refactoring modernization integration-enhancement",
    "brownfield-service": "service-modernization api-enhancement microservice-extraction performance-optimization"
    " integration-enhancement",
    "brownfield-ui": "ui-modernization framework-migration design-refresh frontend-enhancement",
}
WITH_INTERFACE = (
    "analyst_to_pm pm_to_ux ux_to_architect architect_review architect_to_pm updated_to_po po_issues complete"
)
HANDOFFS = {
    "greenfield-fullstack": WITH_INTERFACE,
    "greenfield-service": "analyst_to_pm pm_to_architect architect_review architect_to_pm updated_to_po po_issues"
    " complete",
    "greenfield-ui": WITH_INTERFACE,
    "brownfield-fullstack": "classification_complete documentation_assessment document_project_to_pm"
    " pm_to_architect_decision architect_to_po po_to_sm sm_story_creation complete",
    "brownfield-service": "analyst_to_pm pm_to_architect architect_to_po po_issues complete",
    "brownfield-ui": "analyst_to_pm pm_to_ux ux_to_architect architect_to_po po_issues complete",
}


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CORE / "workflows" / f"{name}.yaml").read_text(encoding="utf-8"))
    return found["workflow"]


def without_notes(stage: Stage) -> Stage:
    facts = {key: value for key, value in stage.items() if key != "notes"}
    if "routes" in facts:
        facts["routes"] = {name: without_notes(route) for name, route in facts["routes"].items()}
    return facts


def test_there_are_the_six_workflows_and_no_other() -> None:
    assert sorted(path.name for path in (CORE / "workflows").iterdir()) == sorted(f"{name}.yaml" for name in STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_every_field_of_every_stage_is_as_the_method_has_it(name: str) -> None:
    found = [without_notes(stage) for stage in workflow(name)["sequence"]]
    assert len(found) == LENGTHS[name]
    for position, (stage, expected) in enumerate(zip(found, STAGES[name], strict=True), start=1):
        assert stage == expected, f"{name} stage {position}"


@pytest.mark.parametrize("name", STAGES)
def test_the_head_of_a_workflow_is_as_the_method_has_it(name: str) -> None:
    found = workflow(name)
    assert found["id"] == name
    assert found["type"] == name.split("-")[0]
    assert found["project_types"] == PROJECT_TYPES[name].split()
    assert list(found["handoff_prompts"]) == HANDOFFS[name].split()


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_route_and_handoff_is_told_in_words(name: str) -> None:
    found = workflow(name)
    for stage in found["sequence"]:
        told = [route["notes"] for route in stage["routes"].values()] if "routes" in stage else [stage["notes"]]
        assert all(len(text) > 30 for text in told), stage
    assert all(len(text) > 30 for text in found["handoff_prompts"].values())
    assert len(found["description"]) > 60
    assert len(found["decision_guidance"]["when_to_use"]) >= 3


@pytest.mark.parametrize("name", STAGES)
def test_the_diagram_draws_every_stage_and_the_ways_back(name: str) -> None:
    lines = workflow(name)["flow_diagram"].strip().split("\n")
    assert (lines[0], lines[1].split()[0], lines[-1]) == ("```mermaid", "flowchart", "```")
    edges = [line.split() for line in lines[2:-1] if "-->" in line]
    drawn = {line.split("[")[0].split("{")[0].split("(")[0].strip() for line in lines[2:-1] if "-->" not in line}
    ends = {edge[0] for edge in edges} | {edge[-1] for edge in edges}
    assert ends == drawn, "an edge leads to a node that is not drawn, or a node has no edge"
    stages = workflow(name)["sequence"]
    assert drawn - {"r1", "r2"} == {f"s{position}" for position in range(1, len(stages) + 1)}

    def place(key: str, value: str) -> str:
        return next(f"s{position}" for position, stage in enumerate(stages, start=1) if stage.get(key) == value)

    pairs = {(edge[0], edge[-1]) for edge in edges}
    assert (place("condition", "po_checklist_issues"), place("validates", "all_artifacts")) in pairs
    assert (place("action", "address_qa_feedback"), place("action", "review_implementation")) in pairs
    assert (place("step", "repeat_development_cycle"), place("action", "create_story")) in pairs
    assert (place("step", "repeat_development_cycle"), place("action", "epic_retrospective")) in pairs


def words_in(value: Any) -> list[str]:
    """All texts of a workflow."""
    if isinstance(value, dict):
        return [text for one in value.values() for text in words_in(one)]
    if isinstance(value, list):
        return [text for one in value for text in words_in(one)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", sorted(LENGTHS))
def test_every_name_in_a_note_is_whole_and_leads_somewhere(name: str) -> None:
    texts = words_in(workflow(name))
    # A folded line that ends in a hyphen gets a blank behind it.
    assert not [text for text in texts if re.search(r"\w- \w", text)]
    told = " ".join(texts)
    named = {kind: set(re.findall(rf"[\w-]+-{kind}\b", told)) for kind in ("tmpl", "checklist")}
    assert named["tmpl"] <= {path.stem for path in (CORE / "templates").iterdir()}
    assert named["checklist"] <= {path.stem for path in (CORE / "checklists").iterdir()}
    assert named["tmpl"]
    assert named["checklist"]
    stages = [stage for known in LENGTHS for stage in workflow(known)["sequence"]]
    made = {one for stage in stages for one in re.findall(r"[\w-]+\.md", str(stage.get("creates")))}
    saved = re.findall(r"[\w-]+\.md", (FOLDER / "README.md").read_text())
    assert set(re.findall(r"[\w-]+\.md\b", told)) <= made | set(saved)
