"""Epics and stories: making, listing, searching, reading."""

import asyncio

import pytest

from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.errors import Invalid, NotFound
from bmad_mcp.operation import perform
from bmad_mcp.stories.markdown import story_markdown

pytest_plugins = ("stories.fixtures",)


async def test_a_story_is_told_once_with_its_sections_that_have_words(run, story, put):
    names = ("Story", "Dev Notes", "Testing", "Dev Agent Record", "Agent Model Used", "File List", "QA Results")
    levels, texts = (2, 2, 3, 2, 3, 3, 2), ("\nAs a user.\n", "", "", "\n", "", "\na.py\n", "\n")
    sections = [
        dict(zip(("name", "level", "text"), one, strict=True)) for one in zip(names, levels, texts, strict=True)
    ]
    await put("1.1", status="ready", sections=sections)
    await run("task_create", title="Do", story="1.1")
    await run("task_create", title="Held", story="1.1")
    await run("task_claim", agent="dev", task="T-2")
    told = (await run("story_get", story="1.1")).model_dump(exclude_unset=True)
    assert told["sections"] == [
        {"name": "Story", "text": "As a user."}, {"name": "Dev Agent Record"},
        {"name": "File List", "level": 3, "text": "a.py"},
    ]  # fmt: skip
    assert (told["role"], told["gate"], told["file"]) == ("visitor", None, None)
    assert [(task["key"], task.get("ready"), task.get("held_by")) for task in told["tasks"]] == [
        ("T-1", True, None), ("T-2", None, "dev"),
    ]  # fmt: skip


async def test_a_story_takes_the_next_number_of_its_epic(run):
    await run("epic_create", title="One")
    await run("epic_create", title="Two")
    keys = [(await run("story_create", epic=epic, title="A story")).story.key for epic in ("1", "2", "1")]
    assert keys == ["1.1", "2.1", "1.2"]


async def test_a_new_story_is_a_draft_at_version_1_with_sections_made_of_the_input(run, story):
    assert (story.key, story.status, story.version) == ("1.1", "draft", 1)
    found = await run("story_get", story="1.1")
    assert [(one.name, one.level) for one in found.sections] == [("Story", 2), ("Acceptance Criteria", 2)]
    assert found.sections[0].text == "**As a** visitor,\n**I want** to log in,\n**so that** I see my own things"
    assert found.sections[1].text == "1. A wrong password is refused\n2. Five wrong passwords lock the account"
    assert found.acceptance == ["A wrong password is refused", "Five wrong passwords lock the account"]
    assert (found.role, found.want, found.points, found.epic, found.epic_title) == (None, None, 3, "1", "Signing in")
    told = found.model_dump(exclude_unset=True)
    assert (told["gate"], told["file"], told["tasks"]) == (None, None, [])


async def test_a_story_without_texts_has_no_sections(run):
    await run("epic_create", title="One")
    await run("story_create", epic=1, title="Only\na title", acceptance=[" ", "\n"])
    found = await run("story_get", story="1.1")
    assert (found.title, found.sections, found.acceptance) == ("Only a title", [], [])


async def test_without_any_epic_a_story_is_refused_with_what_to_do(run):
    with pytest.raises(NotFound, match=r"no epic yet\. Make one with epic_create"):
        await run("story_create", epic=1, title="Too early")


async def test_an_unknown_epic_is_refused_naming_those_there_are(run, story):
    await run("epic_create", title="Two")
    for name, arguments in (("story_create", {"title": "x"}), ("epic_get", {}), ("story_list", {})):
        with pytest.raises(NotFound, match=r"no epic 7\. There are: 1, 2\. epic_create"):
            await run(name, epic="7", **arguments)


async def test_a_number_left_by_the_import_is_never_given_twice(run, sql):
    await run("epic_create", title="One")
    await sql(
        "INSERT INTO bmad_stories (project_id, epic_id, key, epic_number, number, suffix, title)"
        " SELECT project_id, id, '1.4b', 1, 4, 'b', 'Imported' FROM bmad_epics WHERE project_id = bmad_project()"
    )
    await sql("INSERT INTO bmad_epics (project_id, key, number, title) VALUES (bmad_project(), '7', 7, 'Imported')")
    assert (await run("story_create", epic=1, title="Next")).story.key == "1.5"
    assert (await run("epic_create", title="Next")).epic.key == "8"


async def test_forty_creates_at_once_lose_nothing_and_share_no_number(run):
    epics = await asyncio.gather(*(run("epic_create", title=f"Epic {n}") for n in range(10)))
    assert sorted(int(one.epic.key) for one in epics) == list(range(1, 11))
    made = await asyncio.gather(*(run("story_create", epic=1, title=f"Story {n}") for n in range(30)))
    assert sorted(int(one.story.key.split(".")[1]) for one in made) == list(range(1, 31))


async def test_making_an_epic_and_a_story_leaves_a_trail(story, sql):
    rows = await sql("SELECT operation, subject, principal FROM bmad_agent_activity ORDER BY id")
    assert [tuple(row) for row in rows] == [
        ("epic_create", "epic 1", "local"),
        ("story_create", "story 1.1", "local"),
    ]


@pytest.mark.parametrize("points", [-1, 1001, "many"])
async def test_points_out_of_range_are_refused_by_name(run, points):
    with pytest.raises(Invalid, match="points"):
        await run("story_create", epic=1, title="x", points=points)


@pytest.mark.parametrize("written", ["1.1", " 1-1 "])
async def test_a_story_key_may_be_written_as_in_files(run, story, written):
    assert (await run("story_get", story=written)).key == "1.1"


async def test_an_unknown_story_is_told_with_what_to_do(run):
    with pytest.raises(NotFound, match=r"no story 9\.9\. story_list"):
        await run("story_get", story="9.9")
    with pytest.raises(NotFound, match=r"no story 9\.9"):
        await run("story_update", story="9.9", expected_version=1, status="ready")


async def test_nothing_is_seen_from_another_project(story, elsewhere):
    async def there(name, **arguments):
        return await perform(BY_NAME[name], arguments, Caller(), elsewhere)

    for name, arguments in (
        ("story_get", {"story": "1.1"}),
        ("story_update", {"story": "1.1", "expected_version": 1, "status": "ready"}),
        ("epic_get", {"epic": "1"}),
        ("story_create", {"epic": "1", "title": "x"}),
    ):
        with pytest.raises(NotFound):
            await there(name, **arguments)
    assert (await there("story_list")).items == []
    assert (await there("epic_list")).items == []
    assert (await there("story_next")).story is None


async def many(run, count: int) -> None:
    await run("epic_create", title="One")
    await run("epic_create", title="Two")
    for number in range(count):
        await run("story_create", epic=1 + number % 2, title=f"Story number {number}")


async def test_pages_follow_each_other_in_the_order_of_the_keys(run):
    await many(run, 23)
    keys, cursor = [], None
    for _ in range(3):
        page = await run("story_list", limit=10, cursor=cursor)
        keys += [item.key for item in page.items]
        cursor = page.next_cursor
    assert cursor is None
    assert keys == [f"1.{n}" for n in range(1, 13)] + [f"2.{n}" for n in range(1, 12)]
    with pytest.raises(Invalid, match="cursor"):
        await run("story_list", cursor="bm9wZQ")


async def test_letters_come_after_their_number(run, sql):
    await run("epic_create", title="One")
    for number, suffix in ((10, ""), (2, "b"), (2, ""), (2, "a")):
        await sql(
            "INSERT INTO bmad_stories (project_id, epic_id, key, epic_number, number, suffix, title)"
            f" SELECT project_id, id, '1.{number}{suffix}', 1, {number}, '{suffix}', 'x' FROM bmad_epics"
            " WHERE project_id = bmad_project()"
        )
    first = await run("story_list", limit=2)
    rest = await run("story_list", cursor=first.next_cursor)
    assert [one.key for one in (*first.items, *rest.items)] == ["1.2", "1.2a", "1.2b", "1.10"]


async def test_a_list_narrows_by_status_and_epic(run):
    await many(run, 4)
    await run("story_update", story="1.2", expected_version=1, status="ready")
    assert [one.key for one in (await run("story_list", status="ready")).items] == ["1.2"]
    assert [one.key for one in (await run("story_list", epic=2)).items] == ["2.1", "2.2"]
    assert (await run("story_list", epic=2, status="ready")).items == []
    with pytest.raises(Invalid, match="status"):
        await run("story_list", status="doing")


async def test_a_list_tells_how_many_tasks_are_done(run, story):
    for _ in range(3):
        await run("task_create", title="Do", story="1.1")
    await run("task_update", task="T-3", status="cancelled")
    [item] = (await run("story_list")).items
    assert item.model_dump(exclude_unset=True) == {
        "key": "1.1", "title": "Log in", "status": "draft", "points": 3, "tasks": "0/2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("invoices", ["1.1"]),
        ("invoice printing", ["1.1", "1.2"]),
        ('"print labels"', ["1.2"]),
        ("print -labels", ["1.1"]),
        ("1.2", ["1.2"]),
        ("1.", ["1.1", "1.2", "1.3"]),
        ("50%", ["1.3"]),
        ("_", []),
        ("%", ["1.3"]),
        ("Überweisung", ["1.3"]),
        ("weisun", ["1.3"]),
        ("accountant", ["1.2"]),
        ("'; DROP TABLE bmad_stories; --", []),
        ("& | ! ( ) <-> :*", []),
        ("the", []),
        ("   ", ["1.1", "1.2", "1.3"]),
        ("\\", []),
    ],
)
async def test_a_search_finds_words_keys_and_parts_of_titles(run, query, keys):
    await run("epic_create", title="One")
    await run("story_create", epic=1, title="Print invoices")
    await run("story_create", epic=1, title="Print labels", role="accountant")
    await run("story_create", epic=1, title="Überweisung mit 50% Rabatt")
    assert [one.key for one in (await run("story_list", query=query)).items] == keys


async def test_an_epic_counts_its_stories_by_status_and_lists_them(run):
    await many(run, 5)
    await run("story_update", story="1.1", expected_version=1, status="ready")
    page = await run("epic_list", limit=1)
    assert page.items[0].model_dump(exclude_unset=True) == {
        "key": "1", "title": "One", "status": "draft", "stories": {"draft": 2, "ready": 1},
    }  # fmt: skip
    rest = await run("epic_list", cursor=page.next_cursor)
    assert ([one.key for one in rest.items], rest.next_cursor) == (["2"], None)
    epic = await run("epic_get", epic="epic-1")
    assert [one.key for one in epic.stories] == ["1.1", "1.2", "1.3"]


async def test_a_story_as_markdown_tells_the_database_first_and_keeps_each_section_under_its_heading(run, story, put):
    await run("task_create", title="Write\n# the form", story="1.1", agent="dev")
    await put("1.1", sections=[
        {"name": "Story", "level": 2, "text": "\nText\n\n"}, {"name": "Testing", "level": 3, "text": "\nDeep\n"},
    ])  # fmt: skip
    text = story_markdown(await run("story_get", story="1.1"))
    assert text.startswith("# Story 1.1: Log in\n\nStatus: draft · Epic: 1 Signing in · Priority: medium · Points: 3")
    assert "- T-1 pending: Write # the form (dev)\n" in text
    assert text.endswith("\n## Story\n\nText\n\n### Testing\n\nDeep\n")


async def test_a_page_stays_small_however_long_the_titles_are(run):
    await run("epic_create", title="One")
    for number in range(20):
        await run("story_create", epic=1, title=f"{number} " + "long " * 59)
    page = await run("story_list")
    assert len(page.items) == 20
    assert len(page.model_dump_json(exclude_unset=True)) < 1200 * 4
    assert (await run("story_get", story="1.1")).title == "0 " + " ".join(["long"] * 59)
