"""Folders as they really are: odd, broken or hostile. Nothing is rejected, everything is told."""

import os
import time

import pytest
from bmad_installs import add_v4_docs, add_v6_docs, story_text, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.statuses import story_status
from bmad_mcp.bmad_files.yaml_guard import YamlRefused, load_yaml
from bmad_mcp.errors import NotFound


def codes(project) -> list[str]:
    return [one.code for one in project.deviations]


def found(project, code):
    return next(one for one in project.deviations if one.code == code)


@pytest.mark.parametrize(
    "raw, status",
    [
        ("Done", "done"),
        ("**Done**", "done"),
        ("✅ Done", "done"),
        ("Done – merged on Friday, see #12", "done"),
        ("Complete", "done"),
        ("Completed", "done"),
        ("Ready for Review", "review"),
        ("Ready for Done", "review"),
        ("Review", "review"),
        ("in-review", "review"),
        ("InProgress", "in_progress"),
        ("In Progress", "in_progress"),
        ("in-progress", "in_progress"),
        ("Changes Required", "in_progress"),
        ("contexted", "in_progress"),
        ("Approved", "ready"),
        ("Ready for Development", "ready"),
        ("ready-for-dev", "ready"),
        ("drafted", "ready"),
        ("Draft", "draft"),
        ("backlog", "draft"),
        ("Backlog", "draft"),
        ("optional", "draft"),
        ("pending", "draft"),
        ("superseded", "cancelled"),
        ("superseded (was: done)", "cancelled"),
        ("superseded-by-0.16", "cancelled"),
        ("retired", "cancelled"),
    ],
)
def test_words_of_real_projects_are_understood(raw, status):
    assert story_status(raw) == (status, True)


def test_an_unknown_word_is_a_draft_and_said_so():
    assert story_status("Waiting for the moon") == ("draft", False)
    assert story_status("") == ("draft", True)
    assert story_status(None) == ("draft", True)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(NotFound, match="no folder"):
        read_project(tmp_path / "nothing")


def test_an_empty_folder_is_told(tmp_path):
    assert codes(read_project(tmp_path)) == ["nothing-found"]


def test_a_header_line_and_a_section_that_disagree_are_told(tmp_path):
    write(tmp_path, "docs/stories/1.1.a.md", "# Story 1.1: A\n\nStatus: Done\n\n## Status\n\nReview\n")
    project = read_project(tmp_path)
    assert project.stories[0].raw_status == "Review"
    assert "status-twice" in codes(project)


def test_criteria_under_another_heading_and_as_bullets_are_found(tmp_path):
    write(
        tmp_path,
        "docs/stories/0.1.x.md",
        "# 0.1 X\n\n## Status: In Progress\n\n## Acceptance Criteria (ACs)\n\n- AC1: one\n- AC2: two\n",
    )
    (story,) = read_project(tmp_path).stories
    assert story.acceptance == ("AC1: one", "AC2: two")
    assert (story.key, story.title, story.raw_status) == ("0.1", "X", "In Progress")


def test_stories_in_sub_folders_with_letters_and_other_scripts_are_found(tmp_path):
    write(tmp_path, "docs/stories/epic-0/0.1.x.md", "# Story 0.1: X\n\n## Status\n\nDraft\n")
    write(tmp_path, "docs/stories/1.4b.y.md", "# Story 1.4b: Y\n\n## Status\n\nDraft\n")
    write(
        tmp_path, "_bmad-output/implementation-artifacts/1-1a-登录页面.md", "# Story 1.1a: 登录页面\n\nStatus: done\n"
    )
    stories = {one.key: one for one in read_project(tmp_path).stories}
    assert set(stories) == {"0.1", "1.4b", "1.1a"}
    assert stories["1.1a"].slug == "登录页面"


def test_headings_in_fenced_code_are_no_stories(tmp_path):
    write(
        tmp_path,
        "docs/prd.md",
        "# PRD\n\n```\n## Epic 9: No\n```\n\n## Epic 1: Yes\n\n~~~\n### Story 1.9: No\n~~~\n\n### Story 1.1: Yes\n",
    )
    project = read_project(tmp_path)
    assert [one.key for one in project.epics] == ["1"]
    assert [one.key for one in project.stories] == ["1.1"]


def test_a_tracker_with_stray_keys_unknown_words_and_old_words_is_used(tmp_path):
    write(
        tmp_path,
        "_bmad-output/planning-artifacts/sprint-status.yaml",
        "last_updated: 2026-10-20T18:30:00+02:00\ndevelopment_status:\n  epic-1: in-progress\n  1-1-a: drafted\n"
        "  1-2-b: superseded-by-0.16\n  1-3-c: moonlit\n  last_updated: 2026-10-20\n  epic-1-retrospective: pending\n",
    )
    project = read_project(tmp_path)
    assert [one.tracker_status for one in project.stories] == ["drafted", "superseded-by-0.16", "moonlit"]
    assert found(project, "tracker-key").line == 7
    assert "moonlit" in found(project, "status-unknown").message
    assert project.trackers[0].meta["last_updated"] == "2026-10-20T18:30:00+02:00"


def test_two_trackers_that_disagree_are_told(tmp_path):
    for place, word in (("implementation-artifacts", "done"), ("nested/implementation-artifacts", "backlog")):
        write(tmp_path, f"_bmad-output/{place}/sprint-status.yaml", f"development_status:\n  1-1-a: {word}\n")
    project = read_project(tmp_path)
    assert project.stories[0].tracker_status == "done"
    assert "tracker-twice" in codes(project)


def test_a_file_and_a_tracker_that_disagree_are_told_with_both_words(tmp_path):
    add_v6_docs(tmp_path)
    write(
        tmp_path,
        "_bmad-output/implementation-artifacts/2-1-show-products.md",
        "# Story 2.1: Show products\n\nStatus: done\n",
    )
    told = found(read_project(tmp_path), "status-differs").message
    assert "'done' in its file" in told
    assert "'review' in" in told
    assert "the file is further on" in told


def test_the_literal_placeholder_folder_is_read(tmp_path):
    write(
        tmp_path,
        "_bmad/bmm/config.yaml",
        'output_folder: "{output_folder}"\nplanning_artifacts: "{output_folder}/planning"\n',
    )
    write(tmp_path, "{output_folder}/planning/epics.md", "## Epic 1: A\n\n### Story 1.1: B\n")
    project = read_project(tmp_path)
    assert "placeholder-folder" in codes(project)
    assert [one.key for one in project.stories] == ["1.1"]


def test_custom_places_of_core_config_are_used_and_never_leave_the_project(tmp_path):
    write(
        tmp_path,
        ".bmad-core/core-config.yml",
        "devStoryLocation: work/stories\nqa:\n  qaLocation: ../../etc\nprd:\n  prdFile: /etc/passwd\n",
    )
    write(tmp_path, "work/stories/1.1.a.md", story_text("1.1", "A", "## Status\n\nDone\n", "xx"))
    project = read_project(tmp_path)
    assert project.stories[0].path == "work/stories/1.1.a.md"
    assert codes(project).count("place-outside") == 2
    assert not [one for one in project.files if "etc" in one.path]


def test_broken_yaml_is_kept_and_told_with_its_line(tmp_path):
    add_v4_docs(tmp_path)
    path = write(tmp_path, "docs/qa/gates/2.1-x.yml", "schema: 1\nstory: '2.1\ngate: PASS\n")
    project = read_project(tmp_path)
    told = found(project, "yaml")
    assert told.path == "docs/qa/gates/2.1-x.yml"
    assert told.line
    assert next(one for one in project.files if one.path == told.path).raw == path.read_bytes()
    assert len(project.stories) == 12


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"


@pytest.mark.parametrize(
    "text, told",
    [
        (BOMB, "aliases"),
        ("[" * 5000, "deep"),
        ("a: 1\na: 2\n", "twice"),
        ("x: " + "y" * (1024 * 1024 + 1), "over 1024 KiB"),
        ("a: !!python/object/apply:os.system ['true']", "tag"),
        ("? [1, 2]\n: 3\n", "plain word"),
        ("a: [1\nb: 2", ""),
        ("\x01", ""),
    ],
)
def test_hostile_yaml_is_refused_at_once(text, told):
    begun = time.perf_counter()
    with pytest.raises(YamlRefused) as refused:
        load_yaml(text)
    assert told in refused.value.message
    assert time.perf_counter() - begun < 5


def test_numbers_and_dates_stay_as_written():
    assert load_yaml("story: 1.10\nat: 2026-10-05\nn: 3\nyes: true") == {
        "story": "1.10",
        "at": "2026-10-05",
        "n": 3,
        True: True,
    } or (load_yaml("story: 1.10\nat: 2026-10-05\nn: 3") == {"story": "1.10", "at": "2026-10-05", "n": 3})


def test_files_that_are_not_text_are_kept_and_told(tmp_path):
    add_v4_docs(tmp_path)
    (tmp_path / "docs/stories/9.1.a.md").write_bytes(b"# Story 9.1\n\xff\xfe\n")
    (tmp_path / "docs/stories/9.2.b.md").write_bytes(b"# Story 9.2\n\x00\n")
    project = read_project(tmp_path)
    assert found(project, "not-utf-8").line == 2
    assert found(project, "nul").line == 2
    kept = {one.path: one for one in project.files}
    assert kept["docs/stories/9.1.a.md"].raw == b"# Story 9.1\n\xff\xfe\n"
    assert kept["docs/stories/9.1.a.md"].text is None


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    write(tmp_path, "docs/stories/1.1.a.md", "# Story 1.1: A\n" + "x" * (5 * 1024 * 1024 + 1))
    project = read_project(tmp_path)
    assert "too-large" in codes(project)
    assert not project.files


def test_links_are_never_followed(tmp_path):
    secret = tmp_path / "secret"
    write(secret, "1.1.a.md", "# Story 1.1: Secret\n")
    root = tmp_path / "project"
    write(root, "docs/stories/2.1.a.md", "# Story 2.1: A\n\n## Status\n\nDone\n")
    (root / "docs/stories/1.1.a.md").symlink_to(secret / "1.1.a.md")
    (root / "docs/prd").symlink_to(secret, target_is_directory=True)
    (root / "_bmad-output").symlink_to(secret, target_is_directory=True)
    (root / "docs/stories/loop.md").symlink_to("loop.md")
    project = read_project(root)
    assert [one.key for one in project.stories] == ["2.1"]
    assert codes(project).count("link-outside") >= 2
    assert not [one for one in project.files if b"Secret" in one.raw]


def test_a_pipe_does_not_block_and_an_unreadable_folder_is_told(tmp_path):
    write(tmp_path, "docs/stories/2.1.a.md", "# Story 2.1: A\n\n## Status\n\nDone\n")
    os.mkfifo(tmp_path / "docs/stories/1.1.a.md")
    project = read_project(tmp_path)
    assert "not-a-file" in codes(project)
    assert [one.key for one in project.stories] == ["2.1"]


def test_two_files_for_one_story_are_told(tmp_path):
    for name in ("1.1.a.md", "1.1.story.md"):
        write(tmp_path, f"docs/stories/{name}", "# Story 1.1: A\n\n## Status\n\nDone\n")
    project = read_project(tmp_path)
    assert len(project.stories) == 1
    assert "story-twice" in codes(project)


def test_a_pack_with_other_names_for_its_stages_is_read(tmp_path):
    write(
        tmp_path,
        ".bmad-games/workflows/game.yaml",
        "workflow:\n  id: game\n  name: Game\n  full_game_sequence:\n    - agent: designer\n      creates: game.md\n    - step: end\n",
    )
    project = read_project(tmp_path)
    (workflow,) = project.workflows
    assert (workflow.type, len(workflow.stages), workflow.module) == ("custom", 2, "games")
    assert "workflow-shape" in codes(project)


def test_carriage_returns_and_a_byte_order_mark_are_no_trouble(tmp_path):
    text = "\ufeff" + story_text("1.1", "A", "## Status\n\nDone\n", "xx").replace("\n", "\r\n")
    (tmp_path / "docs/stories").mkdir(parents=True)
    (tmp_path / "docs/stories/1.1.a.md").write_bytes(text.encode())
    (story,) = read_project(tmp_path).stories
    assert (story.raw_status, story.title, len(story.tasks), len(story.acceptance)) == ("Done", "A", 3, 3)


PLACES = [
    "docs/stories/1.1.a.md",
    "docs/stories/2-1-b.md",
    "docs/prd.md",
    "docs/prd/epic-1.md",
    "docs/qa/gates/1.1-a.yml",
    ".bmad-core/core-config.yaml",
    ".bmad-core/agents/dev.md",
    ".bmad-core/workflows/a.yaml",
    ".bmad-core/workflows/b.md",
    ".bmad-core/templates/a-tmpl.yaml",
    ".bmad-core/checklists/a.md",
    ".bmad-core/agent-teams/t.yaml",
    ".bmad-core/tasks/t.md",
    ".bmad-core/install-manifest.yaml",
    "_bmad/config.toml",
    "_bmad/bmm/config.yaml",
    "_bmad/_config/manifest.yaml",
    "_bmad/_config/skill-manifest.csv",
    "_bmad/_config/agent-manifest.csv",
    "_bmad/_config/task-manifest.csv",
    "_bmad/_config/workflow-manifest.csv",
    "_bmad/bmm/agents/dev.md",
    "_bmad/bmm/agents/x.agent.yaml",
    "_bmad/bmm/teams/t.yaml",
    "_bmad/bmm/workflows/w/workflow.yaml",
    "_bmad/bmm/workflows/w/workflow.md",
    "_bmad/bmm/workflows/w/instructions.xml",
    "_bmad/bmm/workflows/w/steps/step-01-a.md",
    "_bmad/bmm/workflows/w/checklist.md",
    "_bmad/bmm/workflows/w/template.md",
    "_bmad/custom/bmad-agent-dev.toml",
    "_bmad/custom/config.toml",
    "_bmad/_config/agents/bmm-dev.customize.yaml",
    ".claude/skills/bmad-agent-dev/SKILL.md",
    ".claude/skills/bmad-agent-dev/customize.toml",
    ".claude/skills/bmad-agent-dev/bmad-skill-manifest.yaml",
    ".claude/skills/bmad-build/SKILL.md",
    ".claude/skills/bmad-build/template.md",
    "_bmad-output/implementation-artifacts/sprint-status.yaml",
    "_bmad-output/implementation-artifacts/1-1-a.md",
    "_bmad-output/implementation-artifacts/spec-1-2-b.md",
    "_bmad-output/implementation-artifacts/deferred-work.md",
    "_bmad-output/implementation-artifacts/epic-1-retro-x.md",
    "_bmad-output/specs/spec-x/stories.yaml",
    "_bmad-output/specs/spec-x/tickets.toml",
    "_bmad-output/planning-artifacts/epics.md",
    "_bmad-output/.memlog.md",
    "sprint-status.yaml",
]
PIECES = st.sampled_from(
    [
        b"---\n",
        b"# Story 1.1: A\n",
        b"## Status\n",
        b"## Status: x\n",
        b"Status:",
        b"**Status**",
        b"| Status | x |\n",
        b"- [ ] ",
        b"  - [x] (AC: 1)\n",
        b"```yaml\n",
        b"```\n",
        b"~~~\n",
        b"a: ",
        b"- ",
        b"\n",
        b"development_status:\n",
        b"  1-1-a: done # c\n",
        b"  epic-1: [x]\n",
        b"  1-1-b: ~\n",
        b"workflow:\n",
        b"  sequence:\n",
        b"  phases:\n",
        b"agent:\n",
        b"  name: x\n",
        b"persona: 3\n",
        b"commands: x\n",
        b"dependencies: []\n",
        b"<agent",
        b'<agent a="b">',
        b"<menu>",
        b'<item cmd="x">y</item>',
        b"<role>r</role>",
        b'<step n="1" goal="g">',
        b"[agent]\n",
        b"[agents.x]\n",
        b'[core]\noutput_folder="{x}"\n',
        b"menu=3\n",
        b"[[agent.menu]]\ncode=1\n",
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xc3\xa9\xe2\x9c\x85\xe7\x99\xbb",
        b'"',
        b"'",
        b"{",
        b"[",
        b"]",
        b"}",
        b": ",
        b"&a *a",
        b"\r\n",
        b"\r",
        b"canonicalId,name,path\n",
        b"bmad-agent-dev,x,y\n",
        b"bmad-build,x\n",
        b"path,name\n",
        b"_bmad/bmm/workflows/w/workflow.md,w\n",
        b"## Epic 1: A\n",
        b"### Story 1.2: B\n",
        b"#### Acceptance Criteria\n",
        b"**Acceptance Criteria:**\n",
        b"As a x, I want y, so that z\n",
        b"story: 1.1\n",
        b"gate: PASS\n",
        b"quality_score: \xd9\xa1\n",
        b"template:\n",
        b"sections: {}\n",
        b"bundle: 1\n",
        b"title: [\n",
        b"status: {a: b}\n",
        b"epic: x\n",
        b"verdict: [1]\n",
        b'- id: "1"\n',
        b"  title: t\n",
        b"- (a by b) c\n",
        b"[[epic]]\nid=1\n",
        b"devStoryLocation: [x]\n",
        b"prd: {epicFilePattern: 3}\n",
        b"output_folder: '{output_folder}'\n",
        b"planning_artifacts: '../x'\n",
        b"\x0c\x1c\xe2\x80\xa8",
        b"                                                  ",
        b"########",
        b"type: agent\n",
        b"metadata: {lifecycle: shim}\n",
        b"metadata: 3\n",
        b"action_items: [a]\n",
        b"generated: {}\n",
        b"story_location: docs\n",
        b"project: []\n",
        b"!!binary a\n",
        b"? a\n",
        b"<<: x\n",
    ]
)
CONTENT = st.one_of(st.lists(PIECES, max_size=14).map(b"".join), st.binary(max_size=60))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(st.sampled_from(PLACES), CONTENT, min_size=1, max_size=6))
def test_no_bytes_in_any_known_place_make_the_reader_fail(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("any")
    for path, raw in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(raw)
    project = read_project(root)
    assert "reader-fault" not in codes(project)
    for one in project.files:
        assert one.raw == files[one.path]
