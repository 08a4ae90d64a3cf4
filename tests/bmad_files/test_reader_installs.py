"""The reader on real installs: everything is counted, nothing is read twice."""

import dataclasses
from collections import Counter

import pytest
from bmad_installs import V4, V6, V60, add_v4_docs, add_v6_docs, installed

from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.builtin import FOLDER as BUILTIN


@pytest.fixture(scope="module")
def v4(tmp_path_factory):
    return read_project(add_v4_docs(installed(V4, tmp_path_factory.mktemp("v4"))))


@pytest.fixture(scope="module")
def v6(tmp_path_factory):
    return read_project(add_v6_docs(installed(V6, tmp_path_factory.mktemp("v6"))))


@pytest.fixture(scope="module")
def v60(tmp_path_factory):
    return read_project(installed(V60, tmp_path_factory.mktemp("v60")))


def test_a_4_44_3_install_is_read_whole(v4):
    core = [one for one in v4.agents if one.module == "core"]
    assert len(core) == 10
    assert {one.short_id for one in core} >= {"analyst", "pm", "architect", "sm", "dev", "qa", "po", "ux"}
    assert Counter(one.kind for one in v4.templates if one.module == "core") == {
        "document": 13,
        "task": 23,
        "data": 8,
        "team": 4,
    }
    items = {one.id: len(one.items) for one in v4.checklists if one.module == "core"}
    assert items == {"architect": 195, "change": 63, "pm": 139, "po-master": 151, "story-dod": 28, "story-draft": 23}
    assert sum(items.values()) == 599
    assert [one.module for one in v4.agents if one.module != "core"] == ["infrastructure-devops"]


def test_its_six_workflows_have_the_stages_of_ours_field_by_field(v4):
    """The built-in definitions tell the same facts in other words."""
    ours = {one.id: one for one in read_project(BUILTIN).workflows}
    theirs = {one.id: one for one in v4.workflows}
    assert set(ours) == set(theirs)
    for name, workflow in theirs.items():
        assert len(ours[name].stages) == len(workflow.stages), name
        assert set(ours[name].handoff_prompts) == set(workflow.handoff_prompts), name
        assert ours[name].project_types == workflow.project_types, name
        for mine, real in zip(ours[name].stages, workflow.stages, strict=True):
            for field in dataclasses.fields(real):
                if field.name == "notes":
                    continue
                if field.name == "routes":
                    assert set(mine.routes) == set(real.routes)
                    continue
                assert getattr(mine, field.name) == getattr(real, field.name), (name, real.position, field.name)


def test_its_texts_are_not_ours(v4):
    ours = "\n".join((one.text or "") for one in read_project(BUILTIN).files).lower()
    for agent in v4.agents:
        for text in (agent.role, agent.style, agent.identity, agent.focus, *agent.principles):
            assert len(text) < 40 or text.lower() not in ours


def test_its_stories_keep_their_raw_words(v4):
    assert len(v4.epics) == 3
    assert len(v4.stories) == 12
    words = {one.key: (one.raw_status, one.status_form) for one in v4.stories}
    assert words["1.1"] == ("Done", "section")
    assert words["1.2"] == ("Done", "section")
    assert words["1.3"] == ("Done", "heading")
    assert words["1.4"] == ("✅ Done", "section")
    assert words["2.1"] == ("Ready for Review", "bold")
    assert words["2.3"] == ("Approved", "line")
    assert words["3.3"] == (None, "none")
    story = next(one for one in v4.stories if one.key == "2.2")
    assert (story.role, story.want) == ("shopper", "to search products")
    assert len(story.acceptance) == 3
    assert [(task.done, task.indent, task.acceptance) for task in story.tasks] == [
        (True, 0, ("1",)),
        (True, 2, ()),
        (False, 0, ("2", "3")),
    ]
    assert {gate.story_key: gate.gate for gate in v4.gates} == {"1.1": "PASS", "1.2": "CONCERNS"}


def test_a_6_12_0_install_is_read_from_one_copy_of_each_skill(v6):
    assert [(one.id, one.short_id, one.name) for one in v6.agents] == [
        ("bmad-agent-analyst", "analyst", "Mary"),
        ("bmad-agent-architect", "architect", "Winston"),
        ("bmad-agent-dev", "dev", "Amelia"),
        ("bmad-agent-pm", "pm", "John"),
        ("bmad-agent-ux-designer", "ux", "Sally"),
    ]
    assert len(v6.workflows) == 24
    assert not [one for one in v6.files if one.path.startswith(".agents/")]
    assert [one.code for one in v6.deviations] == ["shims"]
    dev = next(one for one in v6.agents if one.short_id == "dev")
    assert dev.aliases == ("bmad-agent-dev",)
    assert len(dev.principles) == 6
    assert dev.commands


def test_its_tracker_and_story_files_are_put_together(v6):
    stories = {one.key: one for one in v6.stories}
    assert len(stories) == 12
    assert (stories["1.1"].raw_status, stories["1.1"].tracker_status, stories["1.1"].path) == (None, "done", None)
    assert (stories["2.2"].raw_status, stories["2.2"].tracker_key) == ("in-progress", "2-2-search-products")
    assert len(stories["2.3"].tasks) == 3
    assert {one.key: one.raw_status for one in v6.epics} == {"1": "done", "2": "in-progress", "3": "backlog"}
    (tracker,) = v6.trackers
    assert [entry.kind for entry in tracker.entries].count("retrospective") == 3
    assert tracker.action_items[0]["owner"] == "Alex"
    assert [(note.type, note.who) for note in v6.notes] == [("decision", "Alex"), ("fact", "pm")]
    assert {one.kind for one in v6.files} >= {"tracker", "story", "spec", "retro", "memlog", "deferred-work", "epics"}


def test_a_6_0_4_install_is_read_whole(v60):
    assert len(v60.agents) == 10
    assert len(v60.workflows) == 25
    assert Counter(one.kind for one in v60.templates)["task"] == 7
    dev = next(one for one in v60.agents if one.id == "dev")
    assert (dev.name, dev.title, dev.aliases) == ("Amelia", "Developer Agent", ("bmad-agent-dev",))
    assert dev.role
    assert dev.commands


def test_both_generations_stand_side_by_side(tmp_path):
    root = installed(V6, installed(V4, tmp_path / "both"))
    add_v4_docs(root)
    project = read_project(root)
    assert project.generations == ("v4", "v6")
    assert [one.generation for one in project.agents if one.short_id == "dev"] == ["v4", "v6"]
    assert len(project.stories) == 12


def test_team_and_personal_layers_change_a_skill(tmp_path):
    root = installed(V6, tmp_path / "layers")
    (root / "_bmad/custom").mkdir(exist_ok=True)
    (root / "_bmad/custom/bmad-agent-dev.toml").write_text('[agent]\nicon = "T"\nprinciples = ["Team rule."]\n')
    (root / "_bmad/custom/bmad-agent-dev.user.toml").write_text('[agent]\nicon = "U"\n')
    dev = next(one for one in read_project(root).agents if one.short_id == "dev")
    assert dev.icon == "U"
    assert dev.principles[-1] == "Team rule."
    assert len(dev.principles) == 7


@pytest.mark.parametrize("version", [V4, V60, V6])
def test_every_file_is_kept_byte_for_byte_and_once(version, tmp_path):
    root = installed(version, tmp_path / "p")
    files = read_project(root).files
    assert len({one.path for one in files}) == len(files)
    for one in files:
        assert one.raw == (root / one.path).read_bytes()
