"""Installations of every generation, as their own installers make them, and what teams do to them."""

import time

import pytest
from bmad_installs import V4, V6, V60, V63, add_v4_docs, add_v6_docs, alpha, installed, write

from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.errors import Invalid


def codes(project) -> list[str]:
    return [one.code for one in project.deviations]


def test_a_6_3_0_install_is_read_with_the_placeholder_folder_that_it_leaves(tmp_path):
    root = installed(V63, tmp_path / "p")
    write(root, "{output_folder}/planning-artifacts/epics.md", "## Epic 1: A\n\n### Story 1.1: B\n")
    project = read_project(root)
    assert {(one.short_id, one.name) for one in project.agents} == {
        ("analyst", "Mary"),
        ("architect", "Winston"),
        ("dev", "Amelia"),
        ("pm", "John"),
        ("tech-writer", "Paige"),
        ("ux", "Sally"),
    }
    assert len(project.workflows) == 35
    dev = next(one for one in project.agents if one.short_id == "dev")
    assert dev.title == "Developer Agent"
    assert len(dev.principles) == 2
    assert (dev.commands[0].name, dev.dependencies["skills"][0]) == ("DS", "bmad-dev-story")
    assert [one.key for one in project.stories] == ["1.1"]
    assert codes(project).count("placeholder-folder") == 1
    assert set(codes(project)) == {"placeholder", "placeholder-folder"}


def test_a_v6_alpha_installation_is_read(tmp_path):
    root = alpha(tmp_path)
    write(root, "docs/stories/1-2-sign-in.md", "# Story 1.2: Sign in\n\nStatus: drafted\n")
    project = read_project(root)
    assert project.generations == ("v6-alpha",)
    assert {one.id for one in project.agents} == {"bmad-master", "bmad-builder"}
    assert {one.id for one in project.workflows} >= {"brainstorming", "create-agent", "create-workflow"}
    assert {one.generation for one in (*project.agents, *project.workflows)} == {"v6-alpha"}
    assert [(one.key, one.raw_status, one.generation) for one in project.stories] == [("1.2", "drafted", "v6-alpha")]


def test_an_agent_that_is_not_compiled_yet_is_read(tmp_path):
    write(tmp_path, "bmad/_cfg/manifest.yaml", "installation:\n  version: 6.0.0-alpha.9\n")
    write(
        tmp_path,
        "bmad/own/agents/keeper.agent.yaml",
        "agent:\n  metadata: {name: Ida, title: Keeper, icon: K}\n  persona:\n    role: Keeps things\n"
        "    principles: [One, Two]\n  menu:\n    - trigger: keep\n      description: Keep it\n",
    )
    project = read_project(tmp_path)
    (keeper,) = project.agents
    assert (keeper.id, keeper.name, keeper.module, keeper.principles) == ("keeper", "Ida", "own", ("One", "Two"))
    assert [(one.name, one.description) for one in keeper.commands] == [("keep", "Keep it")]
    assert project.config["v6-version"] == "6.0.0-alpha.9"


def test_a_folder_called_bmad_is_no_installation(tmp_path):
    write(tmp_path, "bmad/notes.md", "# Notes\n")
    assert codes(read_project(tmp_path)) == ["nothing-found"]


def test_a_6_0_4_agent_has_its_persona_menu_and_workflows(tmp_path):
    project = read_project(installed(V60, tmp_path / "p"))
    dev = next(one for one in project.agents if one.id == "dev")
    assert dev.role == "Senior Software Engineer"
    assert [one.name for one in dev.commands] == ["MH", "CH", "DS", "CR", "PM", "DA"]
    assert len(dev.principles) == 2
    assert "_bmad/bmm/workflows/4-implementation/dev-story/workflow.yaml" in dev.dependencies["workflows"]
    workflows = {one.id: one for one in project.workflows}
    assert [stage.agent for stage in workflows["dev-story"].stages][:2] == ["dev", "dev"]
    assert [stage.step for stage in workflows["create-prd"].stages][:3] == [
        "step-01-init",
        "step-01b-continue",
        "step-02-discovery",
    ]
    assert workflows["validate-prd"].stages[0].step == "step-v-01-discovery"
    assert len(workflows["domain-research"].stages) == 6
    assert all(stage.action for stage in workflows["create-prd"].stages)


def test_a_customised_6_0_agent_is_read_as_customised(tmp_path):
    root = installed(V60, tmp_path / "p")
    write(
        root,
        "_bmad/_config/agents/bmm-dev.customize.yaml",
        'agent:\n  metadata:\n    name: "Robin"\npersona:\n  role: "Ours"\n  principles: ["A", "B"]\n'
        "menu:\n  - trigger: own\n    description: Our own\n",
    )
    dev = next(one for one in read_project(root).agents if one.id == "dev")
    assert (dev.name, dev.role, dev.principles) == ("Robin", "Ours", ("A", "B"))
    assert dev.identity
    assert dev.commands[-1].name == "own"


def test_the_workflows_of_6_12_0_know_their_steps_and_who_runs_them(tmp_path):
    project = read_project(installed(V6, tmp_path / "p"))
    workflows = {one.id: one for one in project.workflows}
    build = workflows["bmad-build"]
    assert [stage.step for stage in build.stages] == [
        "step-01-clarify-and-route",
        "step-02-plan",
        "step-03-implement",
        "step-04-review",
        "step-05-present",
    ]
    assert {(stage.kind, stage.agent) for stage in build.stages} == {("agent", "dev")}
    assert len(workflows["bmad-code-review"].stages) == 4
    assert workflows["bmad-brainstorming"].module == "core"
    assert "brainstorm" in workflows["bmad-brainstorming"].description
    assert not [one for one in project.workflows if "Deprecated" in one.description]
    assert {one.kind for one in project.templates} == {"document", "data"}
    assert len([one for one in project.templates if one.kind == "document"]) == 11
    assert sorted(one.id for one in project.checklists) == ["bmad-correct-course", "bmad-qa-generate-e2e-tests"]


def test_skills_are_read_wherever_the_assistants_keep_them(tmp_path):
    root = installed(V6, tmp_path / "p")
    (root / ".windsurf").mkdir()
    (root / ".claude/skills").rename(root / ".windsurf/skills")
    (root / ".agents/skills").rename(root / "elsewhere")
    project = read_project(root)
    assert len(project.agents) == 5
    assert {one.path.split("/")[0] for one in project.agents} == {".windsurf"}


def test_a_link_from_one_skills_folder_to_another_is_read_once_at_its_real_place(tmp_path):
    root = installed(V6, tmp_path / "p")
    (root / ".claude/skills").rename(root / ".agents/skills-moved")
    (root / ".claude/skills").symlink_to("../.agents/skills")
    project = read_project(root)
    assert len(project.agents) == 5
    assert {one.path.split("/")[0] for one in project.agents} == {".agents"}
    assert codes(project) == ["shims"]


def test_a_skill_that_the_manifest_names_and_nobody_has_is_told(tmp_path):
    root = installed(V6, tmp_path / "p")
    for home in (".claude", ".agents"):
        (root / home / "skills/bmad-build/SKILL.md").unlink()
    project = read_project(root)
    assert len(project.workflows) == 23
    told = next(one for one in project.deviations if one.code == "skill-missing")
    assert "bmad-build" in told.message


def test_without_a_manifest_the_skills_themselves_are_read(tmp_path):
    root = installed(V6, tmp_path / "p")
    (root / "_bmad/_config/skill-manifest.csv").unlink()
    project = read_project(root)
    assert len(project.agents) == 5
    assert len(project.workflows) == 24


def test_layers_of_configuration_move_the_places(tmp_path):
    root = installed(V6, tmp_path / "p")
    write(
        root, "_bmad/custom/config.toml", '[core]\nproject_name = "Ours"\n[modules.bmm]\nplanning_artifacts = "plans"\n'
    )
    write(root, "_bmad/custom/config.user.toml", '[agents.bmad-agent-pm]\ntitle = "Chief"\n')
    write(root, "plans/epics.md", "## Epic 1: A\n\n### Story 1.1: B\n")
    project = read_project(root)
    assert project.name == "Ours"
    assert [one.key for one in project.stories] == ["1.1"]


def test_menus_of_a_layer_replace_by_code_and_append(tmp_path):
    root = installed(V6, tmp_path / "p")
    write(
        root,
        "_bmad/custom/bmad-agent-dev.toml",
        '[[agent.menu]]\ncode = "CR"\ndescription = "Our review"\nskill = "ours"\n'
        '[[agent.menu]]\ncode = "ZZ"\ndescription = "New"\nprompt = "Do"\n',
    )
    dev = next(one for one in read_project(root).agents if one.short_id == "dev")
    told = {one.name: one.description for one in dev.commands}
    assert told["CR"] == "Our review"
    assert list(told)[-1] == "ZZ"
    assert len(told) == 6


def test_a_pack_brings_its_own_agent_and_no_second_copy_of_common_tasks(tmp_path):
    project = read_project(installed(V4, tmp_path / "p"))
    assert [one.id for one in project.agents if one.module == "infrastructure-devops"] == ["infra-devops-platform"]
    names = [(one.kind, one.id) for one in project.templates]
    assert names.count(("task", "create-doc")) == 1
    assert names.count(("data", "bmad-kb")) == 2
    assert project.config["v4-version"] == "4.44.3"
    assert not [one for one in project.files if one.path.startswith((".claude", ".cursor"))]


def test_v4_definitions_keep_their_parts(tmp_path):
    project = read_project(installed(V4, tmp_path / "p"))
    agents = {one.id: one for one in project.agents}
    assert (agents["ux-expert"].short_id, agents["ux-expert"].aliases) == ("ux", ("ux-expert",))
    assert (agents["dev"].name, agents["dev"].icon, agents["dev"].title) == ("James", "💻", "Full Stack Developer")
    assert "gate {story}" in [one.name for one in agents["qa"].commands]
    assert len(agents["bmad-orchestrator"].commands) > 10
    assert agents["dev"].dependencies["checklists"] == ["story-dod-checklist.md"]
    assert len(agents["dev"].principles) == 5
    templates = {one.id: one for one in project.templates if one.kind == "document"}
    story = templates["story"]
    assert (story.filename, story.format) == (
        "docs/stories/{{epic_num}}.{{story_num}}.{{story_title_short}}.md",
        "markdown",
    )
    assert [one["id"] for one in story.sections][:2] == ["status", "story"]
    assert {"epic_num", "role"} <= set(story.variables)
    assert templates["qa-gate"].sections == ()
    team = next(one for one in project.templates if one.kind == "team" and one.id == "team-all")
    assert (team.title, team.body["agents"]) == ("Team All", ["bmad-orchestrator", "*"])
    dod = next(one for one in project.checklists if one.id == "story-dod")
    assert dod.items[0].section == "Requirements Met"


@pytest.mark.parametrize("name", ["core-config.yaml", "core-config.yml"])
def test_places_that_core_config_names_are_used(tmp_path, name):
    write(
        tmp_path,
        f".bmad-core/{name}",
        "devStoryLocation: work/stories\nqa: {qaLocation: work/qa}\narchitecture: {architectureFile: work/arch.md}\n"
        "prd: {prdFile: work/needs.md, prdShardedLocation: work/needs, epicFilePattern: 'e{n}-*.md'}\n",
    )
    add_v4_docs(tmp_path)
    (tmp_path / "docs").rename(tmp_path / "work")
    (tmp_path / "work/prd.md").rename(tmp_path / "work/needs.md")
    (tmp_path / "work/prd").rename(tmp_path / "work/needs")
    (tmp_path / "work/architecture.md").rename(tmp_path / "work/arch.md")
    for path in sorted((tmp_path / "work/needs").iterdir()):
        path.rename(path.with_name(path.name.replace("epic-", "e")))
    project = read_project(tmp_path)
    assert (len(project.epics), len(project.stories), len(project.gates)) == (3, 12, 2)
    assert {one.path: one.kind for one in project.files}["work/needs/e1-accounts.md"] == "epics"
    assert {one.kind for one in project.documents} == {"architecture", "epics", "prd"}


def test_both_generations_keep_their_own_stories(tmp_path):
    root = installed(V6, installed(V4, tmp_path / "p"))
    write(root, "docs/stories/1.1.old.md", "# Story 1.1: Old\n\n## Status\n\nDone\n")
    write(root, "_bmad-output/implementation-artifacts/2-1-new.md", "# Story 2.1: New\n\nStatus: review\n")
    stories = {one.key: one.generation for one in read_project(root).stories}
    assert stories == {"1.1": "v4", "2.1": "v6"}


def test_a_project_without_an_installation_is_read_as_such(tmp_path):
    project = read_project(add_v4_docs(tmp_path / "shop"))
    assert project.generations == ("project",)
    assert (project.name, project.root_name) == ("shop", "shop")
    assert len(project.stories) == 12
    assert {one.generation for one in project.stories} == {"project"}


def test_a_tracker_gives_the_project_its_name(tmp_path):
    project = read_project(add_v6_docs(tmp_path / "folder"))
    assert (project.name, project.root_name) == ("shop", "folder")


def test_a_file_is_no_project(tmp_path):
    with pytest.raises(Invalid, match="not a folder"):
        read_project(write(tmp_path, "a.md", "# A\n"))


def test_progress_is_told_part_by_part(tmp_path):
    said: list[str] = []
    read_project(add_v6_docs(installed(V6, tmp_path / "p")), progress=said.append)
    assert said == ["reading _bmad", "reading skills", "reading _bmad-output", "reading docs"]


def test_a_full_4_44_3_install_is_read_within_a_second_and_a_half(tmp_path):
    root = add_v4_docs(installed(V4, tmp_path / "p"))
    best = min(_seconds(root) for _ in range(3))
    assert best < 1.5


def _seconds(root) -> float:
    begun = time.perf_counter()
    read_project(root)
    return time.perf_counter() - begun
