"""What a file's form cannot hold stays in the database, and is not written over and over; what is refused is told."""

import pytest
from stored_rows import fetch, story
from test_export import BUILDING, STORY_22, STORY_23, TRACKER, bytes_of, move, section
from test_sync import edit

from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.bmad_files.sync.reconciling import reconcile

FIELDS = ("title", "role", "want", "benefit", "acceptance")


async def settled(opened, folder):
    """Two rounds: nothing is left to settle, and the second does nothing."""
    first = await reconcile(opened, folder)
    assert (first.conflicts, first.refused) == ((), ())
    before = bytes_of(folder)
    second = await reconcile(opened, folder)
    assert (second.taken_in, second.written, second.conflicts) == (0, (), ())
    assert bytes_of(folder) == before
    return first


@pytest.mark.parametrize(
    "told",
    [
        {"benefit": "alone"},
        {"role": "shopper (I want it all)", "want": "", "benefit": "x"},
        {"role": "user", "want": "C# _now_", "benefit": "a so that b"},
        {"acceptance": ("AC1: one", "- two\nGiven three", "# four")},
    ],
)
async def test_a_new_story_keeps_what_no_sentence_holds(opened, folder, run, told):
    await import_folder(opened, folder)
    await run("story_create", epic="2", title=": Gift card (C#)", **told)
    before = await story(opened, "2.5")
    await settled(opened, folder)
    after = await story(opened, "2.5")
    assert after["source_path"] == "docs/stories/2.5.gift-card-c.md"
    assert {name: after[name] for name in FIELDS} == {name: before[name] for name in FIELDS}


async def test_a_new_epic_keeps_a_title_that_no_heading_holds(opened, folder, run):
    await import_folder(opened, folder)
    await run("epic_create", title="Learn F#", goal="# All\n\n## of it")
    await settled(opened, folder)
    (epic,) = await fetch(opened, "SELECT title, goal FROM bmad_epics WHERE key = '4'")
    assert epic == {"title": "Learn F#", "goal": "# All\n\n## of it"}


async def test_a_sentence_that_is_read_differently_is_no_conflict(opened, folder, run):
    await import_folder(opened, folder)
    await run("agent_activate", agent="sm")
    await section(run, "2.2", "Story", "As a user, I want C# things, so that it is so good.")
    await settled(opened, folder)
    assert (await story(opened, "2.2"))["want"] == "C# things"


async def test_a_section_may_hold_deeper_headings(opened, folder, run):
    await import_folder(opened, folder)
    await run("agent_activate", agent="sm")
    await section(run, "2.2", "Dev Notes", "Mind this.\n\n### Cache\n\nNone.\n\n#### Why\n\nSlow.")
    await settled(opened, folder)
    text = (folder / STORY_22).read_text()
    assert "## Dev Notes\n\nMind this.\n\n### Cache\n\nNone.\n\n#### Why\n\nSlow.\n\n### Testing\n" in text


async def test_a_new_section_goes_behind_its_own_one_of_two_of_a_name(opened, folder, run):
    path = folder / STORY_22
    path.write_text(
        path.read_text().replace("### Testing\n\nUnit tests beside the code.\n\n", "") + "\n## Dev Notes\n\nMore.\n"
    )
    await import_folder(opened, folder)
    await run("agent_activate", agent="sm")
    await section(run, "2.2", "Testing", "By hand.")
    await settled(opened, folder)
    assert "`src/shop`.\n\n### Testing\n\nBy hand.\n\n## Change Log\n" in path.read_text()


async def test_a_title_that_begins_with_a_number_makes_no_part_of_a_story(opened, folder, run):
    await import_folder(opened, folder)
    await run("story_create", epic="2", title="2 factor sign-in")
    await settled(opened, folder)
    assert [one["key"] for one in await fetch(opened, "SELECT key FROM bmad_stories WHERE key LIKE '2.5%'")] == ["2.5"]
    assert (folder / "docs/stories/2.5.story.md").exists()


async def test_a_box_that_would_stand_in_an_open_fence_is_refused(opened, folder, run):
    text = "# Story 2.2: Search products\n\n## Status\n\nInProgress\n\n## Story\n\n```python\nnever closed\n"
    (folder / STORY_22).write_text(text)
    await import_folder(opened, folder)
    await run("task_create", title="Measure the page", story="2.2", agent="dev")
    for _ in range(2):
        done = await reconcile(opened, folder)
        (conflict,) = done.conflicts
        assert "the new check boxes would not be read as they are written" in conflict.file
    assert (folder / STORY_22).read_text() == text


async def test_a_line_of_a_section_never_becomes_the_status(opened, v6_folder, run):
    path = v6_folder / BUILDING / "2-3-product-page.md"
    path.write_text(path.read_text().replace("Status: ready-for-dev\n\n", ""))
    await import_folder(opened, v6_folder)
    await run("agent_activate", agent="sm")
    await section(run, "2.3", "Story", "Status: done")
    done = await reconcile(opened, v6_folder)
    assert "would be read as the story's status" in done.conflicts[0].file
    assert (await story(opened, "2.3"))["status"] == "ready"
    assert "  2-3-product-page: ready-for-dev\n" in (v6_folder / TRACKER).read_text()


async def test_what_was_cancelled_here_is_not_taken_up_again_silently(opened, folder, run):
    await import_folder(opened, folder)
    await move(run, "2.3", "cancelled")
    edit(folder, STORY_23, "Status: Approved", "Status: InProgress")
    done = await reconcile(opened, folder)
    assert [(one.field, one.file, one.database) for one in done.conflicts] == [("status", "in_progress", "cancelled")]
    assert (await story(opened, "2.3"))["status"] == "cancelled"
    assert "Status: InProgress" in (folder / STORY_23).read_text()


async def test_a_done_task_that_a_file_opens_again_is_told(opened, folder, run):
    await import_folder(opened, folder)
    edit(folder, STORY_22, "- [x] Write the service", "- [ ] Write the service")
    done = await reconcile(opened, folder)
    assert [(one.kind, one.file, one.database) for one in done.conflicts] == [("task", "open", "completed")]
    drift = (await run("project_status")).drift
    assert any("tick the box again" in one.mend for one in drift.items)
