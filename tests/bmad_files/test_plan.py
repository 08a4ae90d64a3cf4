"""The pure parts of the import: names, three-way merges and what a plan says, without a database."""

import json
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmad_mcp.bmad_files.merging import Merge, first_import, grouped, merge_fields, merge_sections, merge_status, winner
from bmad_mcp.bmad_files.naming import name_agents, settle_names
from bmad_mcp.bmad_files.plan import Stored, plan
from bmad_mcp.bmad_files.report import ImportReport
from bmad_mcp.bmad_files.rows import wanted_rows
from bmad_mcp.bmad_files.steps import Conflict, Create, Gone, Keep, Update
from bmad_mcp.bmad_files.storable import Storable, fingerprint, name_of
from bmad_mcp.bmad_files.story_rows import derived_status
from bmad_mcp.bmad_files.values import AgentDefinition, BmadProject, ChecklistDefinition, StoryTask, StoryValue
from bmad_mcp.lifecycles import STORY, StoryStatus
from bmad_mcp.shapes import unstorable

AGENT = AgentDefinition(
    id="dev",
    short_id="dev",
    aliases=(),
    name="James",
    title="Developer",
    icon="",
    when_to_use="",
    role="Builds",
    style="",
    identity="",
    focus="",
    principles=(),
    commands=(),
    dependencies={},
    module="core",
    generation="v4",
    path=".bmad-core/agents/dev.md",
)
AMELIA = replace(
    AGENT,
    id="bmad-agent-dev",
    name="Amelia",
    aliases=("bmad-agent-dev",),
    module="bmm",
    generation="v6",
    path=".claude/skills/bmad-agent-dev/SKILL.md",
)
EMPTY = BmadProject("shop", ("v4",), {}, (), (), (), (), (), (), (), (), (), (), ())
STORY_VALUE = StoryValue(
    key="1.2",
    epic_key="1",
    title="Sign in",
    slug="sign-in",
    raw_status="Approved",
    status_form="section",
    role="shopper",
    want="to sign in",
    benefit="it is mine",
    acceptance=("It works.",),
    tasks=(StoryTask("Write it", False, 0, 10), StoryTask("Its tests", False, 2, 11)),
    sections=(),
    tracker_key=None,
    tracker_status=None,
    path="docs/stories/1.2.story.md",
    generation="v4",
    extra={},
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
section_lists = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["A", "B", "C", "D"]), "level": st.integers(2, 3), "text": texts}),
    max_size=6,
)


def named(*agents):
    clean = Storable()
    return {one.name: one for one in name_agents(agents, clean)}, clean.deviations


def test_a_role_goes_by_its_short_name_whatever_the_generation():
    found, told = named(AMELIA)
    assert list(found) == ["dev"]
    assert found["dev"].aliases == {"bmad-agent-dev"}
    assert told == []


def test_of_two_generations_v4_keeps_the_short_name():
    for order in ((AGENT, AMELIA), (AMELIA, AGENT)):
        found, told = named(*order)
        assert {name: one.agent.name for name, one in found.items()} == {"dev": "James", "bmad-agent-dev": "Amelia"}
        assert found["dev"].aliases == frozenset()
        assert [one.code for one in told] == ["name-taken"]


def test_agents_of_the_same_id_in_two_packs_get_their_pack_behind_the_name():
    one = replace(AGENT, id="game-dev", short_id="game-dev", module="phaser")
    found, _ = named(one, replace(one, module="unity"), replace(one, module="unity"))
    assert set(found) == {"game-dev", "game-dev-unity", "game-dev-v4"}


@given(st.lists(st.builds(lambda n, m: replace(AGENT, id=n, short_id=n, module=m), texts, texts), max_size=8))
def test_every_agent_gets_a_name_of_its_own_that_tools_can_ask_for(agents):
    agents = [replace(one, path=f".bmad-core/agents/{number}.md") for number, one in enumerate(agents)]
    found, _ = named(*agents)
    assert len(found) == len(agents)
    for name in found:
        assert name == name_of(name) != ""


def test_a_copy_of_a_definition_is_left_out_and_another_one_gets_a_name():
    core = ChecklistDefinition("dod", "Done", (), "core", "v4", "a.md")
    pack, other = replace(core, module="pack", path="b.md"), replace(core, module="pack", path="c.md")
    hashes = {"a.md": "1", "b.md": "1", "c.md": "2"}
    clean = Storable()
    settled = settle_names([core, pack, other], lambda _: "", lambda one: hashes[one.path], "checklist", clean)
    assert [(name, one.path) for name, one in settled] == [("dod", "a.md"), ("dod-pack", "c.md")]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_what_was_made_storable_is_storable_and_stays_the_same(value):
    clean = Storable()
    once = clean.json(value, None, "value")
    assert unstorable(once) is None
    assert json.loads(json.dumps(once, allow_nan=False)) == once
    assert clean.json(once, None, "value") == once


@pytest.mark.parametrize(
    ("file", "database", "was", "expected"),
    [
        ("a", "a", None, "same"),
        ("b", "a", "a", "file"),
        ("a", "b", "a", "database"),
        ("b", "c", "a", "nobody"),
        ("b", "", None, "file"),
        ("", "b", None, "database"),
        ("b", "c", None, "nobody"),
    ],
)
def test_the_side_that_changed_a_value_wins(file, database, was, expected):
    assert winner(file, database, fingerprint(was) if was is not None else None) == expected


def merged_sections(file, database, was):
    merge = Merge("story", "1.1", "a.md")
    merge_sections(merge, file, database, first_import({}, was, "draft", None).get("sections", {}))
    return merge


@given(section_lists, section_lists)
def test_sections_that_only_one_side_changed_become_that_side(before, after):
    from_file = merged_sections(after, before, before)
    assert not from_file.conflicts
    assert stripped(from_file.values["sections"]) == stripped(after)
    from_database = merged_sections(before, after, before)
    assert not from_database.conflicts
    assert by_name(from_database.values["sections"]) == by_name(after)


def stripped(sections):
    return [(one["name"], one["level"], one["text"].strip()) for one in sections]


def by_name(sections):
    return {name: stripped(group) for name, group in grouped(sections).items()}


def test_a_new_section_goes_behind_what_the_file_has_just_put_under_the_one_before_it():
    was = [{"name": "Record", "level": 2, "text": ""}, {"name": "File List", "level": 3, "text": "a"}]
    file = [*was, {"name": "Deeper", "level": 4, "text": "b"}, {"name": "Notes", "level": 2, "text": "c"}]
    merge = merged_sections(file, [*was, {"name": "Risks", "level": 2, "text": "d"}], was)
    assert [one["name"] for one in merge.values["sections"]] == ["Record", "File List", "Deeper", "Risks", "Notes"]


def test_a_second_section_of_a_name_stands_behind_the_first_in_every_merge():
    file = [{"name": "A", "level": 2, "text": ""}, {"name": "B", "level": 3, "text": ""}]
    first = merged_sections(file, [file[0], file[0]], [])
    assert [one["name"] for one in first.values["sections"]] == ["A", "A", "B"]
    assert merged_sections(file, first.values["sections"], []).values == first.values


@given(section_lists, section_lists, section_lists)
def test_merging_sections_again_changes_nothing_and_tells_the_same_conflicts(was, file, database):
    first = merged_sections(file, database, was)
    again = Merge("story", "1.1", "a.md")
    merge_sections(again, file, first.values["sections"], first.imported["sections"])
    assert again.values == first.values
    assert again.imported == first.imported
    assert again.conflicts == first.conflicts


@given(section_lists, section_lists, section_lists)
def test_no_text_written_here_is_lost_without_a_word(was, file, database):
    merge = merged_sections(file, database, was)
    kept, before = by_name(merge.values["sections"]), by_name(was)
    for name, group in by_name(database).items():
        if group != before.get(name):
            assert kept.get(name) == group


@pytest.mark.parametrize("was", list(StoryStatus))
@pytest.mark.parametrize("file", list(StoryStatus))
@pytest.mark.parametrize("database", list(StoryStatus))
def test_a_status_only_moves_where_the_table_leads_and_never_back_over_work_done_here(was, file, database):
    merge = Merge("story", "1.1", "a.md")
    merge_status(merge, file, True, database.value, was.value)
    result = StoryStatus(merge.values["status"])
    if result is not database:
        assert result is file
        assert STORY.reaches(database, file)
    if file in (was, database):
        assert result is database
        assert not merge.conflicts
    elif result is database:
        assert len(merge.conflicts) == 1
        assert merge.conflicts[0].mend
    again = Merge("story", "1.1", "a.md")
    merge_status(again, file, True, merge.values["status"], merge.imported["status"])
    assert (again.values, again.imported, again.conflicts) == (merge.values, merge.imported, merge.conflicts)


def test_fields_of_a_row_that_tools_made_are_filled_where_they_are_empty():
    merge = Merge("story", "1.1", "a.md")
    merge_fields(merge, {"title": "File", "role": "shopper"}, {"title": "Tool", "role": ""}, {})
    assert merge.values == {"title": "Tool", "role": "shopper"}
    assert [one.field for one in merge.conflicts] == ["title"]


def test_an_epic_without_a_word_of_its_own_follows_its_stories():
    draft, review, done, cancelled = map(StoryStatus, ("draft", "review", "done", "cancelled"))
    assert derived_status([]) is StoryStatus.DRAFT
    assert derived_status([draft, draft]) is StoryStatus.DRAFT
    assert derived_status([draft, review]) is StoryStatus.IN_PROGRESS
    assert derived_status([done, cancelled]) is StoryStatus.DONE
    assert derived_status([cancelled]) is StoryStatus.DRAFT


def wanted(**values):
    return wanted_rows(replace(EMPTY, **values), UUID(int=1), "import")


def test_a_plan_is_pure_and_says_the_same_twice():
    rows = wanted(agents=(AGENT,), stories=(STORY_VALUE,))
    stored = Stored(agents={"po": {"id": uuid4(), "source": "import", "source_path": "po.md", "aliases": []}})
    steps = plan(rows, stored)
    assert steps == plan(rows, stored)
    assert [(type(step).__name__, step.kind, step.key) for step in steps] == [
        ("Create", "agent", "dev"),
        ("Gone", "agent", "po"),
        ("Create", "epic", "1"),
        ("Create", "story", "1.2"),
        ("Create", "task", "docs/stories/1.2.story.md#1"),
        ("Create", "task", "docs/stories/1.2.story.md#2"),
        ("Create", "project", "project"),
    ]
    parent, child = (step for step in steps if step.kind == "task")
    assert parent.values["waits_for"] == (child.key,)
    assert parent.values["open_dependencies"] == 1


def test_stories_with_keys_that_are_none_are_told_and_left_out():
    rows = wanted(stories=(replace(STORY_VALUE, key="1234567.1"), STORY_VALUE, STORY_VALUE))
    assert [row.key for row in rows.stories] == ["1.2"]
    assert [one.code for one in rows.deviations] == ["story-key", "story-key"]


def test_the_word_in_the_file_counts_before_the_one_in_the_tracker():
    told = {
        (raw, tracked): wanted(stories=(replace(STORY_VALUE, raw_status=raw, tracker_status=tracked),))
        .stories[0]
        .status
        for raw in ("Done", "gibberish", None)
        for tracked in ("review", "gibberish", None)
    }
    assert told["Done", "review"] == "done"
    assert told["gibberish", "review"] == "review"
    assert told[None, "review"] == "review"
    assert told["gibberish", None] == "draft"
    assert told[None, None] == "draft"


def report_of(*steps, dry_run=False):
    return ImportReport.of(wanted(), steps, project="shop", folder="shop", dry_run=dry_run)


def test_the_report_counts_names_and_shows_both_sides_of_a_conflict():
    report = report_of(
        Create("story", "1.1", "A", {}),
        Update("story", "1.2", "B", uuid4(), 1, {}, ("title", "content_hash")),
        Update("agent", "dev", "D", uuid4(), 1, {}, ("title", "source")),
        Keep("story", "1.3"),
        Conflict("story", "1.4", "status", "draft", "done", "a.md", "Write done into the file."),
        Gone("story", "1.5", "b.md", "It stays."),
    )
    assert report.changes == 3
    assert report.render() == (
        "Imported shop into project shop\n"
        "Found: v4\n"
        "\n"
        "                       new  changed    same\n"
        "agents                   0        1       0\n"
        "stories                  1        1       1\n"
        "\n"
        "New:\n"
        "  stories: 1.1\n"
        "\n"
        "Changed:\n"
        "  stories: 1.2 (title)\n"
        "  agents: dev (was built in)\n"
        "\n"
        "Conflicts: 1. Both sides changed; the database keeps its own.\n"
        "  story 1.4, status (a.md)\n"
        "    file:     draft\n"
        "    database: done\n"
        "    Write done into the file.\n"
        "\n"
        "Not in the files any more: 1. Nothing was deleted.\n"
        "  story 1.5 (b.md): It stays.\n"
        "\n"
        "3 rows were written.\n"
    )
    told = json.loads(json.dumps(report.as_json()))
    assert told["counts"]["story"] == {"created": 1, "updated": 1, "kept": 1}
    assert told["conflicts"][0]["database"] == "done"


def test_the_report_shows_no_control_characters_of_the_files():
    report = report_of(Conflict("story", "1.1", "title", "a\x1b[2Jb", "c\rd", "x\u202e.md", "Mend."), dry_run=True)
    text = report.render()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "this was a dry run" not in text.splitlines()[0]
    assert text.startswith("Plan to import")
