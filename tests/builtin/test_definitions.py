"""The built-in personas, templates, checklists and task guides: complete, loadable and consistent with each other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bmad_mcp.builtin import FOLDER

CORE = FOLDER / ".bmad-core"
AGENTS = ("analyst", "pm", "architect", "sm", "dev", "qa", "po", "ux")
TEMPLATES = {
    "project-brief": "docs/brief.md",
    "prd": "docs/prd.md",
    "brownfield-prd": "docs/prd.md",
    "architecture": "docs/architecture.md",
    "brownfield-architecture": "docs/architecture.md",
    "fullstack-architecture": "docs/architecture.md",
    "front-end-architecture": "docs/ui-architecture.md",
    "front-end-spec": "docs/front-end-spec.md",
    "story": "docs/stories/{{epic_num}}.{{story_num}}.{{story_title_short}}.md",
    "epic": "docs/prd/epic-{{epic_num}}-{{epic_slug}}.md",
    "qa-gate": "docs/qa/gates/{{epic_num}}.{{story_num}}-{{story_slug}}.yml",
    "retrospective": "docs/retrospectives/epic-{{epic_num}}-retrospective.md",
}
CHECKLISTS = ("story-dod", "story-draft", "po-master", "architect", "pm", "change")
TASKS = (
    "shard-documents",
    "create-story",
    "review-story",
    "qa-gate",
    "document-project",
    "brownfield-create-story",
    "brownfield-create-epic",
    "execute-checklist",
)
SECTION_TYPES = {
    "code",
    "bullet-list",
    "table",
    "numbered-list",
    "mermaid",
    "checklist",
    "paragraphs",
    "choice",
    "template-text",
}
LISTED = {"table", "bullet-list", "numbered-list", "checklist"}


def yaml_texts() -> Iterator[tuple[str, str]]:
    """(where, text) of every YAML file and of every fenced YAML block of an agent."""
    for path in sorted(CORE.rglob("*.yaml")):
        yield path.relative_to(CORE).as_posix(), path.read_text(encoding="utf-8")
    for path in sorted((CORE / "agents").glob("*.md")):
        for block in blocks(path):
            yield path.relative_to(CORE).as_posix(), block


def blocks(path: Path) -> list[str]:
    return re.findall(r"(?ms)^```ya?ml\n(.*?)^```$", path.read_text(encoding="utf-8"))


def agent(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(blocks(CORE / "agents" / f"{name}.md")[0])
    return found


def template(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CORE / "templates" / f"{name}-tmpl.yaml").read_text(encoding="utf-8"))
    return found


def all_sections(sections: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for section in sections:
        yield section
        yield from all_sections(section.get("sections", []))


def names_in(folder: str) -> set[str]:
    return {path.name for path in (CORE / folder).iterdir()}


def rows_of_readme() -> list[list[str]]:
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").split("\n")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]


def test_the_folders_hold_what_is_promised_and_nothing_else() -> None:
    assert names_in("agents") == {f"{name}.md" for name in AGENTS}
    assert names_in("templates") == {f"{name}-tmpl.yaml" for name in TEMPLATES}
    assert names_in("checklists") == {f"{name}-checklist.md" for name in CHECKLISTS}
    assert names_in("tasks") == {f"{name}.md" for name in TASKS}


def test_every_yaml_loads_safely_without_aliases_and_without_a_key_twice() -> None:
    found = dict(yaml_texts())
    assert len(found) == 8 + 6 + 12 + 1
    for where, text in found.items():
        assert isinstance(yaml.safe_load(text), dict), where
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            assert not isinstance(event, yaml.AliasEvent), where
            assert getattr(event, "anchor", None) is None, where
        for node in mappings(yaml.compose(text, Loader=yaml.SafeLoader)):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"{where}: {keys}"


def mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from mappings(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from mappings(value)


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_is_one_yaml_block_with_every_key(name: str) -> None:
    assert len(blocks(CORE / "agents" / f"{name}.md")) == 1
    found = agent(name)
    assert list(found) == ["agent", "persona", "commands", "dependencies"]
    assert list(found["agent"]) == ["name", "id", "title", "icon", "whenToUse"]
    assert list(found["persona"]) == ["role", "style", "identity", "focus", "core_principles"]
    assert found["agent"]["id"] == name
    assert 5 <= len(found["persona"]["core_principles"]) <= 8
    texts = [*found["agent"].values(), *found["persona"].values(), *found["persona"]["core_principles"]]
    assert all(text and isinstance(text, str | list) for text in texts)


@pytest.mark.parametrize("name", AGENTS)
def test_commands_are_maps_with_a_single_key_and_include_help_and_exit(name: str) -> None:
    commands = agent(name)["commands"]
    assert all(isinstance(one, dict) and len(one) == 1 for one in commands)
    keys = [next(iter(one)) for one in commands]
    assert len(keys) == len(set(keys))
    assert {"help", "exit"} <= set(keys)
    assert all(isinstance(told, str) and told for one in commands for told in one.values())


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_says_what_it_may_edit_and_how_it_uses_the_server(name: str) -> None:
    principles = agent(name)["persona"]["core_principles"]
    assert sum(text.startswith("Story sections:") for text in principles) == 1
    # First, so that it stays when a persona is cut to fit its budget.
    assert principles[0].startswith("On this server:")
    assert max(map(len, principles)) <= 320


def test_what_an_agent_depends_on_exists_and_every_definition_is_used() -> None:
    used: set[str] = set()
    for name in AGENTS:
        for folder, files in agent(name)["dependencies"].items():
            assert set(files) <= names_in(folder), f"{name}: {folder}"
            used |= {f"{folder}/{file}" for file in files}
    there = {f"{folder}/{file}" for folder in ("tasks", "templates", "checklists") for file in names_in(folder)}
    assert there == used


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_has_the_shape_that_the_reader_and_the_renderer_know(name: str) -> None:
    found = template(name)
    assert set(found) <= {"template", "workflow", "agent_config", "sections"}
    assert found["template"]["id"] == name
    assert isinstance(found["template"]["version"], str)
    assert found["template"]["output"]["filename"] == TEMPLATES[name]
    assert found["template"]["output"]["format"] == ("yaml" if name == "qa-gate" else "markdown")
    assert found["workflow"]["mode"] in ("interactive", "yolo")
    sections = list(all_sections(found["sections"]))
    for section in sections:
        assert section["id"]
        assert section["title"]
        assert section.get("type", "template-text") in SECTION_TYPES, section["id"]
        for key in ("choices", "items", "columns", "editors", "examples"):
            assert all(isinstance(one, str) for one in section.get(key, [])), f"{section['id']}: {key}"
        assert {"template", "sections", "items", "columns", "choices"} & set(section), f"{section['id']} is empty"
        assert section.get("type") != "table" or section["columns"]
    assert "{{" in (CORE / "templates" / f"{name}-tmpl.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TEMPLATES)
def test_sections_that_take_lists_have_ids_of_their_own(name: str) -> None:
    takes = [
        section["id"]
        for section in all_sections(template(name)["sections"])
        if section.get("repeatable") or section.get("type") in LISTED
    ]
    assert len(takes) == len(set(takes)), takes


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_value_for_a_variable_never_replaces_a_section_of_the_same_name(name: str) -> None:
    text = (CORE / "templates" / f"{name}-tmpl.yaml").read_text(encoding="utf-8")
    variables = set(re.findall(r"\{\{(\w+)\}\}", text))
    for section in all_sections(template(name)["sections"]):
        if section["id"] in variables and section.get("type") in LISTED | {"code", "mermaid", "choice"}:
            assert section["template"] == f"{{{{{section['id']}}}}}", section["id"]


def test_the_story_template_gives_each_section_its_owner_and_editors() -> None:
    rights = {
        section["title"]: (section["owner"], sorted(section["editors"]))
        for section in all_sections(template("story")["sections"])
    }
    master, developer, reviewer = "scrum-master", "dev-agent", "qa-agent"
    written = (master, [master])
    recorded = (developer, [developer])
    assert rights == {
        "Status": (master, [developer, master]),
        "Story": written,
        "Acceptance Criteria": written,
        "Tasks / Subtasks": (master, [developer, master]),
        "Dev Notes": written,
        "Testing": written,
        "Change Log": (master, [developer, reviewer, master]),
        "Dev Agent Record": recorded,
        "Agent Model Used": recorded,
        "Debug Log References": recorded,
        "Completion Notes List": recorded,
        "File List": recorded,
        "QA Results": (reviewer, [reviewer]),
    }
    status = template("story")["sections"][0]
    assert status["choices"] == ["Draft", "Approved", "InProgress", "Review", "Done"]


def test_the_gate_template_makes_yaml_with_all_required_fields() -> None:
    text = template("qa-gate")["sections"][0]["template"]
    filled = re.sub(r"\{\{(top_issues|\w+ed|ac_\w+|immediate|future)\}\}", "[]", text)
    filled = re.sub(r'"\{\{\w+\}\}\.\{\{\w+\}\}"', '"1.2"', filled)
    gate = yaml.safe_load(re.sub(r"\{\{\w+\}\}", "word", filled))
    required = {"schema", "story", "gate", "status_reason", "reviewer", "updated", "top_issues", "waiver"}
    assert required <= set(gate)
    assert (gate["schema"], gate["story"]) == (1, "1.2")
    assert set(gate["nfr_validation"]) == {"security", "performance", "reliability", "maintainability"}


@pytest.mark.parametrize("name", CHECKLISTS)
def test_a_checklist_has_a_title_sections_and_twelve_to_forty_items(name: str) -> None:
    text = (CORE / "checklists" / f"{name}-checklist.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    items = re.findall(r"(?m)^\s*- \[ \] (.+)$", text)
    assert 12 <= len(items) <= 40
    assert len(items) == len(set(items))
    parts = re.split(r"(?m)^## ", text)
    assert len(parts) > 3
    assert all("- [ ] " in part for part in parts[1:])
    assert "- [ ]" not in parts[0]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_guide_has_a_title_and_numbered_steps(name: str) -> None:
    text = (CORE / "tasks" / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert len(re.findall(r"(?m)^\d+\. ", text)) >= 3
    for folder, ending in (("checklists", ".md"), ("templates", ".yaml")):
        for named in re.findall(r"`([\w-]+-(?:checklist|tmpl))`", text):
            if named.endswith("-checklist") == (folder == "checklists"):
                assert named + ending in names_in(folder), named


def test_everything_a_workflow_uses_is_in_the_readme_and_leads_to_a_file() -> None:
    aliases = {row[0]: row[1] for row in rows_of_readme() if len(row) == 2 and row[0] != "uses"}
    used = set()
    for path in (CORE / "workflows").glob("*.yaml"):
        for stage in yaml.safe_load(path.read_text(encoding="utf-8"))["workflow"]["sequence"]:
            used |= {one["uses"] for one in (stage, *stage.get("routes", {}).values()) if "uses" in one}
    assert used == set(aliases)
    for name, target in aliases.items():
        assert (CORE / target).is_file(), target
        assert Path(target).stem == name


def test_the_documents_in_the_readme_are_saved_where_their_templates_say() -> None:
    rows = [row for row in rows_of_readme() if len(row) == 3 and row[0] != "name"]
    named = {row[0] for row in rows}
    told: set[str] = set()
    for path in (CORE / "workflows").glob("*.yaml"):
        for stage in yaml.safe_load(path.read_text(encoding="utf-8"))["workflow"]["sequence"]:
            told |= {str(stage[key]) for key in ("action", "creates") if key in stage}
    assert named <= told
    for name, target, saved in rows:
        assert (CORE / target).is_file(), name
        if target.startswith("templates/"):
            output = yaml.safe_load((CORE / target).read_text(encoding="utf-8"))["template"]["output"]
            assert output["filename"] == saved, name


def test_no_agent_carries_the_name_of_a_person() -> None:
    people = {"mary", "john", "winston", "sally", "bob", "james", "quinn", "sarah", "amelia"}
    for path in CORE.rglob("*.*"):
        found = set(re.findall(r"[a-z]+", path.read_text(encoding="utf-8").lower()))
        assert not found & people, path.name
