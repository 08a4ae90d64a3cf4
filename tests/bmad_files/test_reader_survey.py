"""What real projects do otherwise than the formats say: each with a folder of our own making, read and told."""

import pytest
from bmad_installs import add_v4_docs, add_v6_docs, story_text, write

from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.statuses import story_status

STORIES = "docs/stories"
BUILDING = "_bmad-output/implementation-artifacts"
PLANNING = "_bmad-output/planning-artifacts"


def codes(project) -> list[str]:
    return [one.code for one in project.deviations if one.code != "epic-missing"]


def told(project, code):
    return next(one for one in project.deviations if one.code == code)


def one_story(root, text: str, name: str = f"{STORIES}/1.1.a.md"):
    write(root, name, text)
    (story,) = read_project(root).stories
    return story


@pytest.mark.parametrize(
    "head, word, form, status",
    [
        ("## Status\n\nDone\n", "Done", "section", "done"),
        ("## Status\n**Done**\n", "Done", "section", "done"),
        ("## Status\n\n- **Done** ✅\n", "Done ✅", "section", "done"),
        ("## Status\n\n✅ Done – merged on Friday\n", "✅ Done – merged on Friday", "section", "done"),
        ("## Status\n\n**Status:** Review\n", "Review", "section", "review"),
        ("## Status\n\n<!-- one of five -->\nApproved\n", "Approved", "section", "ready"),
        ("## Status\n\n- [x] Done\n", "[x] Done", "section", "done"),
        ("## Status: Done\n", "Done", "heading", "done"),
        ("## Status - In Progress\n", "In Progress", "heading", "in_progress"),
        ("**Status**: Ready for Review\n", "Ready for Review", "bold", "review"),
        ("**Status:** Ready for Development\n", "Ready for Development", "bold", "ready"),
        ("- **Status:** Complete\n", "Complete", "bold", "done"),
        ("> **Status**: Backlog\n", "Backlog", "bold", "draft"),
        ("Status: ready-for-dev\n", "ready-for-dev", "line", "ready"),
        ("Story Status: in-progress\n", "in-progress", "line", "in_progress"),
        ("| Field | Value |\n|---|---|\n| Status | review |\n", "review", "table", "review"),
        ("Status: superseded (was: done)\n", "superseded (was: done)", "line", "cancelled"),
    ],
)
def test_a_status_is_found_in_every_form(tmp_path, head, word, form, status):
    story = one_story(tmp_path, f"# Story 1.1: A\n\n{head}\n## Story\n\nAs a x, I want y.\n")
    assert (story.raw_status, story.status_form) == (word, form)
    assert story_status(story.raw_status) == (status, True)


def test_a_status_in_the_front_matter_is_found(tmp_path):
    story = one_story(tmp_path, "---\ntitle: 'From the head'\nstatus: in-review\nroute: oneshot\n---\n\n# Else\n")
    assert (story.raw_status, story.status_form, story.title) == ("in-review", "front matter", "From the head")
    assert story.extra["route"] == "oneshot"


def test_words_like_status_elsewhere_are_no_status(tmp_path):
    text = "# Story 1.1: A\n\n**Status of the API:** 404\n\n## Status Report\n\nGreen\n\n## QA\n\n### Status\n\nPASS\n"
    story = one_story(tmp_path, text.replace("### Status\n\nPASS\n", ""))
    assert (story.raw_status, story.status_form) == (None, "none")
    assert "status-missing" in codes(read_project(tmp_path))
    assert one_story(tmp_path, f"{text}\n## Status\n\nDone\n").raw_status == "Done"


def test_a_long_free_text_is_kept_whole(tmp_path):
    text = "Done – all of it, reviewed twice by QA, see the log below " + "and more " * 60
    assert one_story(tmp_path, f"# Story 1.1: A\n\n## Status\n\n{text}\n").raw_status == text.strip()


def test_a_header_line_that_says_the_same_as_the_section_is_no_deviation(tmp_path):
    write(tmp_path, f"{STORIES}/1.1.a.md", "# Story 1.1: A\n\nStatus: Done\n\n## Status\n\n**Done**\n")
    assert codes(read_project(tmp_path)) == []


@pytest.mark.parametrize(
    "body",
    [
        "## Acceptance Criteria\n\n1. One\n2. Two\n   goes on\n",
        "## Acceptance Criteria (ACs)\n\n- One\n- Two\n   goes on\n",
        "## ACs\n\n* [ ] One\n* [x] Two\n  goes on\n",
        "### Acceptance Criteria\n\nThese hold:\n\n1) One\n2) Two\n   goes on\n\n### Next\n\n1. No\n",
        "## Acceptance Criteria\n\nOne\n\nTwo\ngoes on\n",
    ],
)
def test_criteria_are_found_as_numbers_bullets_boxes_and_paragraphs(tmp_path, body):
    assert one_story(tmp_path, f"# Story 1.1: A\n\nStatus: Done\n\n{body}").acceptance == ("One", "Two\ngoes on")


def test_given_when_then_is_one_criterion(tmp_path):
    text = "**Given** a\n\n**When** b\n**Then** c\n\n**Given** d\n**Then** e\n"
    story = one_story(tmp_path, f"# Story 1.1: A\n\nStatus: Done\n\n## Acceptance Criteria\n\n{text}")
    assert story.acceptance == ("**Given** a\n**When** b\n**Then** c", "**Given** d\n**Then** e")


def test_tasks_carry_their_depth_line_and_criteria(tmp_path):
    text = (
        "# Story 1.1: A\n\nStatus: Done\n\n## Tasks / Subtasks\n\n- [x] First (AC: 1, 3)\n\t- [ ] Below (AC #2)\n"
        "- [X] Second (AC1, AC2)\n\n```\n- [ ] not this\n```\n- [link](no.md)\n\n## Dev Notes\n\n- [ ] nor this\n"
    )
    tasks = one_story(tmp_path, text).tasks
    assert [(one.text.split(" ")[0], one.done, one.indent, one.line, one.acceptance) for one in tasks] == [
        ("First", True, 0, 7, ("1", "3")),
        ("Below", False, 4, 8, ("2",)),
        ("Second", True, 0, 9, ("1", "2")),
    ]


@pytest.mark.parametrize(
    "text, wish",
    [
        ("As a shopper, I want to pay, so that I am done.", ("shopper", "to pay", "I am done")),
        ("**As a** shopper,\n**I want** to pay,\n**so that** I am done.", ("shopper", "to pay", "I am done")),
        ("As an **owner**\nI want reports\nSo that I see.", ("owner", "reports", "I see")),
        ("As a shopper, I want to pay. More text here.", ("shopper", "to pay", "")),
        ("Pay with a card.", ("", "", "")),
    ],
)
def test_a_wish_is_read_in_its_three_parts(tmp_path, text, wish):
    story = one_story(tmp_path, f"# Story 1.1: A\n\nStatus: Done\n\n## Story\n\n{text}\n")
    assert (story.role, story.want, story.benefit) == wish


@pytest.mark.parametrize(
    "name, key, slug",
    [
        ("1.2.sign-in.md", "1.2", "sign-in"),
        ("1.2.story.md", "1.2", ""),
        ("1.2.sign-in.story.md", "1.2", "sign-in"),
        ("story-1.2.md", "1.2", ""),
        ("STORY-1.2-Sign in.md", "1.2", "Sign-in"),
        ("0.1.x.md", "0.1", "x"),
        ("01.02.x.md", "1.2", "x"),
        ("1.4b.x.md", "1.4b", "x"),
        ("1-2-sign-in.md", "1.2", "sign-in"),
        ("1-1a-登录页面.md", "1.1a", "登录页面"),
        ("epic-3-story-4-pay.md", "3.4", "pay"),
    ],
)
def test_a_name_says_which_story_it_is(tmp_path, name, key, slug):
    story = one_story(tmp_path, "# A\n\nStatus: Done\n", f"{STORIES}/{name}")
    assert (story.key, story.slug) == (key, slug or "a")


def test_a_part_of_a_story_gets_a_letter(tmp_path):
    for name in ("3.2.list", "3.2.1.first", "3.2.2.second"):
        write(tmp_path, f"{STORIES}/{name}.md", f"# Story {name.rpartition('.')[0]}: A\n\nStatus: Done\n")
    project = read_project(tmp_path)
    assert [(one.key, one.slug) for one in project.stories] == [("3.2", "list"), ("3.2a", "first"), ("3.2b", "second")]
    assert codes(project) == ["story-part", "story-part"]
    assert project.stories[1].extra["number"] == "3.2.1"


def test_a_name_and_a_heading_that_disagree_are_told(tmp_path):
    assert one_story(tmp_path, "# Story 1.7: A\n\nStatus: Done\n").key == "1.1"
    assert "1.7" in told(read_project(tmp_path), "story-number").message


def test_a_report_beside_a_story_is_a_document_and_no_deviation(tmp_path):
    write(tmp_path, f"{STORIES}/1.1-review-notes.md", "# Review\n\nAll well.\n")
    write(tmp_path, f"{STORIES}/1.1.story.md", story_text("1.1", "A", "## Status\n\nDone\n", "xx"))
    project = read_project(tmp_path)
    assert [one.path for one in project.stories] == [f"{STORIES}/1.1.story.md"]
    assert codes(project) == []
    assert {one.path: one.kind for one in project.files}[f"{STORIES}/1.1-review-notes.md"] == "document"


def test_a_file_among_the_stories_without_a_number_is_told_and_kept(tmp_path):
    write(tmp_path, f"{STORIES}/index.md", "# All\n")
    write(tmp_path, f"{STORIES}/login.md", "# Login\n")
    project = read_project(tmp_path)
    assert codes(project) == ["story-name"]
    assert [one.title for one in project.documents] == ["All", "Login"]


def test_epics_and_stories_are_told_by_headings_of_several_forms(tmp_path):
    write(
        tmp_path,
        f"{PLANNING}/epics.md",
        "# Shop\n\n## Epic List\n\n### Epic 1: Accounts\n\nShort.\n\n## Epic 1: Accounts\n\nThe goal.\n\n"
        "### Story 1.1: Sign in ###\n\nAs a x, I want y, so that z.\n\n**Acceptance Criteria:**\n\n- One\n\n"
        "#### Story 1.2 - Sign out\n\n##Epic 2\n\n### Story 2.1\n\n### Story 2-2: Odd\n\n## Notes\n\nNo epic.\n",
    )
    project = read_project(tmp_path)
    assert [(one.key, one.title, one.goal, one.line) for one in project.epics] == [
        ("1", "Accounts", "The goal.", 9),
        ("2", "Epic 2", "", 23),
    ]
    assert [(one.key, one.title, one.want, one.acceptance) for one in project.stories] == [
        ("1.1", "Sign in", "y", ("One",)),
        ("1.2", "Sign out", "", ()),
        ("2.1", "Story 2.1", "", ()),
    ]
    assert project.epics[0].story_keys == ("1.1", "1.2")
    assert codes(project) == ["heading-form"]


def test_a_story_file_counts_before_its_epic_which_fills_the_gaps(tmp_path):
    write(
        tmp_path,
        f"{PLANNING}/epics.md",
        "## Epic 1: A\n\n### Story 1.1: Other\n\nAs a x, I want y, so that z.\n\n**Acceptance Criteria:**\n\n- One\n",
    )
    write(tmp_path, f"{BUILDING}/1-1-own.md", "# Story 1.1: Own\n\nStatus: review\n")
    (story,) = read_project(tmp_path).stories
    assert (story.title, story.raw_status, story.want, story.acceptance) == ("Own", "review", "y", ("One",))
    assert story.extra["epic_file"] == f"{PLANNING}/epics.md"


def test_shards_and_the_whole_document_tell_each_epic_once(tmp_path):
    add_v4_docs(tmp_path)
    write(
        tmp_path, "docs/prd.md", "# PRD\n\n## Epic 1 Accounts\n\nLong ago.\n\n### Story 1.1 Sign up\n\n## Epic 4 More\n"
    )
    project = read_project(tmp_path)
    assert [(one.key, one.path) for one in project.epics] == [
        ("1", "docs/prd/epic-1-accounts.md"),
        ("2", "docs/prd/epic-2-catalogue.md"),
        ("3", "docs/prd/epic-3-orders.md"),
        ("4", "docs/prd.md"),
    ]


def test_an_epic_file_without_its_heading_is_told(tmp_path):
    write(tmp_path, "docs/prd/epic-1-a.md", "# Accounts\n")
    assert codes(read_project(tmp_path)) == ["epic-heading"]


# ── trackers ──


def test_comments_of_a_tracker_and_words_with_history_are_kept(tmp_path):
    write(
        tmp_path,
        f"{BUILDING}/sprint-status.yaml",
        "generated: 2026-04-14\ndevelopment_status:\n  epic-1: in-progress\n"
        "  1-1-a: superseded # was done; the új one is 1-3 # see there\n  1-2-b: 'retired'\n  1-3-c: done\n"
        "  epic-1-retrospective: pending # later\n",
    )
    project = read_project(tmp_path)
    (tracker,) = project.trackers
    assert [(one.key, one.kind, one.raw_status, one.comment, one.line) for one in tracker.entries] == [
        ("epic-1", "epic", "in-progress", "", 3),
        ("1-1-a", "story", "superseded", "was done; the új one is 1-3 # see there", 4),
        ("1-2-b", "story", "retired", "", 5),
        ("1-3-c", "story", "done", "", 6),
        ("epic-1-retrospective", "retrospective", "pending", "later", 7),
    ]
    assert [story_status(one.tracker_status)[0] for one in project.stories] == ["cancelled", "cancelled", "done"]
    assert set(codes(project)) == {"tracker-stamp", "tracker-only"}
    assert told(project, "tracker-stamp").line == 1


def test_a_tracker_that_is_the_only_status_gives_it_and_needs_no_word(tmp_path):
    write(tmp_path, f"{BUILDING}/1-1-a.md", "# Story 1.1: A\n\n## Story\n\nAs a x, I want y.\n")
    write(tmp_path, f"{BUILDING}/sprint-status.yaml", "development_status:\n  1-1-a: in-progress\n")
    project = read_project(tmp_path)
    assert [(one.raw_status, one.tracker_status) for one in project.stories] == [(None, "in-progress")]
    assert codes(project) == []


def test_a_tracker_below_another_ones_folder_is_a_project_of_its_own(tmp_path):
    add_v6_docs(tmp_path)
    write(tmp_path, f"{BUILDING}/tool/sprint-status.yaml", "development_status:\n  1-1-other: backlog\n  9-9-x: done\n")
    write(tmp_path, f"{BUILDING}/tool/1-1-other.md", "# Story 1.1: Other\n\nStatus: backlog\n")
    write(tmp_path, f"{PLANNING}/tool/epics.md", "## Epic 9: Tool\n\n### Story 9.9: X\n")
    project = read_project(tmp_path)
    assert len(project.stories) == 12
    assert project.stories[0].title == "Sign up"
    assert [one.nested for one in project.trackers].count(True) == 1
    assert told(project, "nested-project").path == f"{BUILDING}/tool"
    alone = read_project(tmp_path / BUILDING / "tool")
    assert [(one.key, one.tracker_status) for one in alone.stories] == [("1.1", "backlog"), ("9.9", "done")]


def test_a_project_in_a_sub_folder_is_told_and_not_mixed_in(tmp_path):
    add_v6_docs(tmp_path)
    add_v6_docs(tmp_path / "apps/shop")
    project = read_project(tmp_path)
    assert len(project.stories) == 12
    assert told(project, "nested-project").path == "apps/shop"
    assert {one.path for one in project.trackers if one.nested} == {f"apps/shop/{BUILDING}/sprint-status.yaml"}


def test_a_tracker_among_the_plans_and_stories_beside_it_are_found(tmp_path):
    write(tmp_path, "planning-artifacts/sprint-status.yaml", "development_status:\n  1-1-a: done\n")
    write(tmp_path, "planning-artifacts/stories/1-1-a.md", "# Story 1.1: A\n\nStatus: ready-for-dev\n")
    project = read_project(tmp_path)
    assert [(one.raw_status, one.tracker_status) for one in project.stories] == [("ready-for-dev", "done")]
    assert codes(project) == ["status-differs"]


def test_stories_where_the_tracker_says_they_are_are_found(tmp_path):
    write(tmp_path, f"{BUILDING}/sprint-status.yaml", 'story_location: "work"\ndevelopment_status:\n  1-1-a: done\n')
    write(tmp_path, "work/1-1-a.md", "# Story 1.1: A\n\nStatus: done\n")
    assert [one.path for one in read_project(tmp_path).stories] == ["work/1-1-a.md"]


@pytest.mark.parametrize("key", ["1.1-a", "1-1", "1.1"])
def test_a_key_that_bmad_would_refuse_is_used_and_told(tmp_path, key):
    write(tmp_path, f"{BUILDING}/sprint-status.yaml", f"development_status:\n  {key}: done\n")
    project = read_project(tmp_path)
    assert [(one.key, one.tracker_key) for one in project.stories] == [("1.1", key)]
    assert codes(project) == ["tracker-key", "tracker-only"]


def test_a_repeated_key_of_a_tracker_costs_only_itself(tmp_path):
    write(
        tmp_path,
        f"{BUILDING}/sprint-status.yaml",
        "development_status:\n  1-1-a: backlog\n  1-2-b: done\n  1-1-a: review\n",
    )
    project = read_project(tmp_path)
    assert [one.tracker_status for one in project.stories] == ["review", "done"]
    assert told(project, "yaml-repeated").line == 4


@pytest.mark.parametrize("text", ["- a\n", "development_status: [a]\n", "", "x: 1\n"])
def test_a_tracker_without_statuses_is_told(tmp_path, text):
    write(tmp_path, f"{BUILDING}/sprint-status.yaml", text)
    assert "tracker-shape" in codes(read_project(tmp_path))


# ── what else a v6 project keeps ──


def test_a_build_spec_of_a_story_waits_for_the_review_that_its_tracker_tells(tmp_path):
    write(tmp_path, f"{BUILDING}/sprint-status.yaml", "development_status:\n  1-1-a: review\n")
    write(
        tmp_path,
        f"{BUILDING}/spec-1-1-a.md",
        "---\ntitle: 'A'\nstatus: 'done'\nroute: dispatch\n---\n\n## Intent\n\nDo it.\n\n## Tasks & Acceptance\n\n"
        "**Execution:**\n- [x] `a.py` -- do it\n",
    )
    project = read_project(tmp_path)
    (story,) = project.stories
    assert (story.raw_status, story.tracker_status, story.extra["spec_status"]) == (None, "review", "done")
    assert (story.title, len(story.tasks), story.path) == ("A", 1, f"{BUILDING}/spec-1-1-a.md")
    assert "The tracker counts." in told(project, "status-differs").message


def test_a_story_file_counts_before_its_spec(tmp_path):
    write(tmp_path, f"{BUILDING}/spec-1-1-a.md", "---\ntitle: Spec\nstatus: done\n---\n")
    write(tmp_path, f"{BUILDING}/1-1-a.md", "# Story 1.1: Own\n\nStatus: review\n")
    (story,) = read_project(tmp_path).stories
    assert (story.title, story.raw_status, story.extra["spec"]) == ("Own", "review", f"{BUILDING}/spec-1-1-a.md")


def test_documents_are_told_apart_and_their_lists_read(tmp_path):
    project = read_project(add_v6_docs(tmp_path))
    by_kind = {one.kind: one for one in project.documents}
    assert by_kind["retro"].meta == {"epic": 1, "date": "2026-10-09", "verdict": "accepted"}
    assert by_kind["spec"].meta["status"] == "ready-for-dev"
    assert by_kind["deferred-work"].items == ({"line": 3, "source_spec": "spec-rate-limit.md", "summary": "Metrics"},)
    assert by_kind["memlog"].meta["goal"] == "agree on scope"
    assert [(one.type, one.who, one.line) for one in project.notes] == [("decision", "Alex", 7), ("fact", "pm", 8)]


def test_notes_of_every_form_are_read(tmp_path):
    head = '---\ntopic: the "best": one\n---\n\n'
    write(
        tmp_path,
        "_bmad-output/x/.memlog.md",
        f"{head}- (idea) one\n- (by user) two\n- three\n- (a by b) (c) four\n\ntext\n",
    )
    project = read_project(tmp_path)
    assert [(one.type, one.who, one.text) for one in project.notes] == [
        ("idea", "", "one"),
        ("note", "user", "two"),
        ("note", "", "three"),
        ("a", "b", "(c) four"),
    ]
    assert codes(project) == []


def test_a_specs_own_list_of_stories_is_kept_and_checked(tmp_path):
    write(
        tmp_path,
        "_bmad-output/specs/spec-x/stories.yaml",
        '- id: "1"\n  title: One\n- id: 2\n  title: Two\n- id: "1-3"\n  title: Three\n- id: "4"\n  title: F\n  status: done\n',
    )
    write(tmp_path, "_bmad-output/specs/spec-x/stories/1-one.md", "---\ntitle: One\nstatus: done\n---\n")
    project = read_project(tmp_path)
    (listed,) = (one for one in project.documents if one.kind == "stories")
    assert [one["title"] for one in listed.items] == ["One", "Two", "Three", "F"]
    assert codes(project).count("stories-entry") == 3
    assert project.stories == ()


def test_tickets_of_v7_are_shown_and_told(tmp_path):
    write(
        tmp_path,
        "initiative-shop/epic-a/tickets.toml",
        '[[epic]]\nid = 1\ntitle = "A"\n[[entry]]\nid = 2\ntitle = "B"\nafter = []\n',
    )
    project = read_project(tmp_path)
    assert project.generations == ("v7",)
    (tickets,) = (one for one in project.documents if one.kind == "ticket")
    assert [(one["table"], one["title"]) for one in tickets.items] == [("epic", "A"), ("entry", "B")]
    assert [(one.key, one.title) for one in project.stories] == [("1.2", "B")]
    assert codes(project) == ["v7-tickets"]
    assert project.files[0].generation == "v7"


# ── gates ──


def test_gates_keep_all_they_say_and_what_they_lack_is_told(tmp_path):
    add_v4_docs(tmp_path)
    write(
        tmp_path,
        "docs/qa/gates/2.1-show-products.yaml",
        "schema: 1\nstory: 2.1\nstory_title: Show\ngate: concerns\nstatus_reason: Slow.\nreviewer: Q\n"
        "updated: 2026-10-07T10:00:00Z\ntop_issues:\n  - {id: PERF-001, severity: high, finding: slow}\n"
        "waiver: {active: true, reason: demo, approved_by: Ann}\nquality_score: 72.5\nnfr_validation: {security: {status: PASS}}\n",
    )
    write(tmp_path, "docs/qa/gates/2.2-search.yml", "gate: PASS\n")
    write(tmp_path, "docs/qa/gates/2.3-page.yml", "story: '2.3'\ngate: MAYBE\n")
    project = read_project(tmp_path)
    gates = {one.story_key: one for one in project.gates}
    assert set(gates) == {"1.1", "1.2", "2.1", "2.2"}
    gate = gates["2.1"]
    assert (gate.gate, gate.score, gate.updated, gate.waiver["approved_by"]) == (
        "CONCERNS",
        72,
        "2026-10-07T10:00:00Z",
        "Ann",
    )
    assert gate.issues[0]["id"] == "PERF-001"
    assert gate.data["nfr_validation"] == {"security": {"status": "PASS"}}
    assert told(project, "gate-incomplete").path == "docs/qa/gates/2.2-search.yml"
    assert told(project, "gate-shape").line == 2


def test_a_gate_for_a_story_that_nobody_tells_is_told(tmp_path):
    add_v4_docs(tmp_path)
    write(tmp_path, "docs/qa/gates/8.8-x.yml", "schema: 1\nstory: '8.8'\ngate: PASS\n")
    assert "gate-alone" in codes(read_project(tmp_path))


# ── packs ──


PHASES = """name: novel
title: A novel
steps:
  - id: outline
    title: Make an outline
    agent: plotter
    inputs: [idea, theme]
    outputs: outline.md
    repeat: for_each_part
"""


def test_a_pack_that_calls_things_otherwise_is_understood(tmp_path):
    write(tmp_path, ".bmad-books/workflows/novel.yaml", PHASES)
    write(
        tmp_path,
        ".bmad-books/workflows/saga.yaml",
        "workflow:\n  id: saga\n  phases:\n    idea:\n      - {agent: a, task: think, output: i.md}\n"
        "    text:\n      - {agent: b, task: write, input: i.md}\n",
    )
    write(tmp_path, ".bmad-books/workflows/cover.md", "# Cover\n\nA text.\n")
    project = read_project(tmp_path)
    workflows = {one.id: one for one in project.workflows}
    (outline,) = workflows["novel"].stages
    assert (outline.step, outline.agent, outline.action) == ("outline", "plotter", "Make an outline")
    assert (outline.requires, outline.creates, outline.repeats) == (("idea", "theme"), "outline.md", "for_each_part")
    assert workflows["novel"].name == "A novel"
    assert [(one.agent, one.action, one.requires) for one in workflows["saga"].stages] == [
        ("a", "think", ()),
        ("b", "write", ("i.md",)),
    ]
    assert workflows["cover"].stages == ()
    assert codes(project) == ["workflow-shape"] * 3
