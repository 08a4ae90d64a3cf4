"""A second import after edits on both sides: whose change counts, and what is only told."""

from pathlib import Path

from bmad_installs import write
from stored_rows import dump, fetch, story, tasks

from bmad_mcp.bmad_files.importing import import_folder

STORY_21 = "docs/stories/2.1.story.md"
STORY_22 = "docs/stories/2.2.search-products.md"
STORY_24 = "docs/stories/2.4.sort-and-filter.md"
TRACKER = "_bmad-output/implementation-artifacts/sprint-status.yaml"


def edit(folder: Path, path: str, old: str, new: str) -> None:
    text = (folder / path).read_text()
    assert old in text
    (folder / path).write_text(text.replace(old, new, 1))


def texts(told):
    return {one["name"]: one["text"].strip() for one in told["sections"]}


async def edit_section(run, key, section, text):
    now = await run("story_get", story=key)
    await run("story_update", story=key, expected_version=now.version, section=section, text=text)


async def activated(run, agent):
    await run("agent_activate", agent=agent)


async def test_an_edited_file_changes_what_it_says_and_nothing_else(folder, opened):
    await import_folder(opened, folder)
    before = await dump(opened)
    edit(folder, STORY_24, "It works with a keyboard alone.", "It works with a keyboard.")
    edit(folder, STORY_24, "# Story 2.4: Sort and filter", "# Story 2.4: Sort, filter and page")
    report = await import_folder(opened, folder)
    assert report.updated["story"] == ("2.4 (title, acceptance, sections)",)
    assert report.updated["file"] == (STORY_24,)
    assert not report.conflicts
    told = await story(opened, "2.4")
    assert told["title"] == "Sort, filter and page"
    assert told["acceptance"][2] == "It works with a keyboard."
    assert told["version"] == 2
    after = await dump(opened)
    changed = {table for table in after if after[table] != before[table]}
    assert changed == {"bmad_stories", "bmad_artifacts", "bmad_agent_activity", "bmad_projects"}
    others = [row for row in after["bmad_stories"] if row["key"] != "2.4"]
    assert others == [row for row in before["bmad_stories"] if row["key"] != "2.4"]


async def test_a_status_in_the_file_is_followed_along_the_allowed_moves(folder, opened):
    await import_folder(opened, folder)
    edit(folder, STORY_24, "## Status\n\nApproved", "## Status\n\nReady for Review")
    report = await import_folder(opened, folder)
    assert not report.conflicts
    told = await story(opened, "2.4")
    assert (told["status"], told["raw_status"]) == ("review", "Ready for Review")
    assert all(task["story_open"] for task in await tasks(opened, "2.4"))
    edit(folder, STORY_24, "Ready for Review", "Draft")
    await import_folder(opened, folder)
    assert (await story(opened, "2.4"))["status"] == "draft"
    assert not any(task["story_open"] for task in await tasks(opened, "2.4"))


async def test_a_final_status_is_not_taken_back_by_a_file(folder, opened):
    await import_folder(opened, folder)
    edit(folder, "docs/stories/1.1.story.md", "Done", "InProgress")
    report = await import_folder(opened, folder)
    (conflict,) = report.conflicts
    assert (conflict.kind, conflict.key, conflict.field) == ("story", "1.1", "status")
    assert (conflict.file, conflict.database) == ("in_progress", "done")
    assert "final" in conflict.mend
    assert (await story(opened, "1.1"))["status"] == "done"
    settled = await dump(opened)
    again = await import_folder(opened, folder)
    assert again.conflicts == report.conflicts, "an open conflict is told every time"
    assert again.changes == 0
    assert await dump(opened) == settled
    edit(folder, "docs/stories/1.1.story.md", "InProgress", "Done")
    assert not (await import_folder(opened, folder)).conflicts


async def test_work_done_through_tools_is_not_downgraded_by_a_file(folder, opened, run):
    await import_folder(opened, folder)
    version = (await story(opened, "2.4"))["version"]
    moved = await run("story_update", story="2.4", expected_version=version, status="in_progress")
    await run("story_update", story="2.4", expected_version=moved.story.version, status="review")
    untouched = await import_folder(opened, folder)
    assert untouched.changes == 0
    assert not untouched.conflicts, "the file says what it said before; the database is ahead"
    edit(folder, STORY_24, "Approved", "InProgress")
    (conflict,) = (await import_folder(opened, folder)).conflicts
    assert (conflict.file, conflict.database) == ("in_progress", "review")
    assert "story_update story=2.4 status=in_progress" in conflict.mend
    assert (await story(opened, "2.4"))["status"] == "review"
    edit(folder, STORY_24, "InProgress", "Done")
    assert not (await import_folder(opened, folder)).conflicts
    assert (await story(opened, "2.4"))["status"] == "done", "the file went further than the tools"


async def test_sections_changed_on_either_side_come_together(folder, opened, run):
    await import_folder(opened, folder)
    await activated(run, "dev")
    await edit_section(run, "2.4", "Completion Notes List", "Built with care.")
    await run("agent_activate", agent="sm")
    await edit_section(run, "2.4", "Testing", "Property tests.")
    edit(folder, STORY_24, "The service lives in `src/shop`.", "The service lives in `src/catalogue`.")
    report = await import_folder(opened, folder)
    assert not report.conflicts
    told = await story(opened, "2.4")
    sections = texts(told)
    assert sections["Dev Notes"] == "The service lives in `src/catalogue`."
    assert sections["Testing"] == "Property tests."
    assert sections["Completion Notes List"] == "Built with care."
    assert list(sections).index("Completion Notes List") == list(sections).index("Agent Model Used") + 1


async def test_a_section_changed_on_both_sides_is_a_conflict_and_the_database_keeps_its_own(folder, opened, run):
    await import_folder(opened, folder)
    await activated(run, "sm")
    await edit_section(run, "2.4", "Testing", "Property tests.")
    edit(folder, STORY_24, "Unit tests beside the code.", "Journeys through the browser.")
    edit(folder, STORY_24, "It works with a keyboard alone.", "It works with a keyboard.")
    report = await import_folder(opened, folder)
    (conflict,) = report.conflicts
    assert conflict.field == "section Testing"
    assert (conflict.file, conflict.database) == ("Journeys through the browser.", "Property tests.")
    assert conflict.path == STORY_24
    told = await story(opened, "2.4")
    assert texts(told)["Testing"] == "Property tests."
    assert told["acceptance"][2] == "It works with a keyboard.", "the rest of the file is taken"
    again = await import_folder(opened, folder)
    assert (again.changes, again.conflicts) == (0, report.conflicts)
    edit(folder, STORY_24, "Journeys through the browser.", "Property tests.")
    settled = await import_folder(opened, folder)
    assert not settled.conflicts
    edit(folder, STORY_24, "Property tests.", "No tests.")
    assert not (await import_folder(opened, folder)).conflicts
    told = await story(opened, "2.4")
    assert texts(told)["Testing"] == "No tests."


async def test_a_section_removed_from_the_file_goes_unless_it_was_edited_here(folder, opened, run):
    await import_folder(opened, folder)
    await activated(run, "sm")
    await edit_section(run, "2.1", "Testing", "Property tests.")
    for path in (STORY_21, STORY_24):
        edit(folder, path, "### Testing\n\nUnit tests beside the code.\n\n", "")
    report = await import_folder(opened, folder)
    (conflict,) = report.conflicts
    assert (conflict.key, conflict.field, conflict.file) == ("2.1", "section Testing", "(removed)")
    assert "Testing" in [one["name"] for one in (await story(opened, "2.1"))["sections"]]
    assert "Testing" not in [one["name"] for one in (await story(opened, "2.4"))["sections"]]


async def test_a_ticked_box_completes_its_task_and_frees_what_waited(folder, opened, run):
    await import_folder(opened, folder)
    parent, child, page = await tasks(opened, "2.4")
    waiting = await run("task_create", title="After the page", depends_on=[page["key"]])
    text = (folder / STORY_24).read_text()
    text = text.replace("  - [ ] Data access", "  - [x] Data access").replace(
        "- [ ] Write the page", "- [x] Write the page"
    )
    (folder / STORY_24).write_text(text)
    report = await import_folder(opened, folder)
    assert report.counts["task"].updated == 2
    parent, child, page = await tasks(opened, "2.4")
    assert (child["status"], page["status"], parent["status"]) == ("completed", "completed", "pending")
    assert parent["open_dependencies"] == 0
    freed = await run("task_get", task=waiting.task.key)
    assert freed.task.ready


async def test_a_box_ticked_while_an_agent_holds_its_task_is_a_conflict(folder, opened, run):
    await import_folder(opened, folder)
    page = (await tasks(opened, "2.4"))[2]
    claim = await run("task_claim", agent="dev", task=page["key"])
    edit(folder, STORY_24, "- [ ] Write the page", "- [x] Write the page")
    report = await import_folder(opened, folder)
    (conflict,) = report.conflicts
    assert (conflict.kind, conflict.key, conflict.file, conflict.database) == ("task", page["key"], "done", "active")
    assert "dev holds it" in conflict.mend
    await run("task_complete", task=page["key"], lease=claim.lease)
    assert not (await import_folder(opened, folder)).conflicts


async def test_a_box_unticked_after_its_task_was_completed_is_a_conflict(folder, opened):
    await import_folder(opened, folder)
    edit(folder, STORY_22, "- [x] Write the service", "- [ ] Write the service")
    (conflict,) = (await import_folder(opened, folder)).conflicts
    assert (conflict.file, conflict.database) == ("open", "completed")
    assert (await tasks(opened, "2.2"))[0]["status"] == "completed"


async def test_boxes_are_followed_when_they_move_change_their_words_or_go(folder, opened):
    await import_folder(opened, folder)
    service, access, page = await tasks(opened, "2.4")
    text = (folder / STORY_24).read_text()
    boxes = text[text.index("- [ ] Write the service") : text.index("## Dev Notes")]
    (folder / STORY_24).write_text(
        text.replace(
            boxes,
            "- [ ] Agree on the order\n- [ ] Write the service for sort and filter (AC: 1)\n  - [ ] Indexes\n"
            "- [ ] Write the page and its tests (AC: 2, 3)\n\n",
        )
    )
    report = await import_folder(opened, folder)
    now = {row["id"]: row for row in await tasks(opened, "2.4")}
    assert now[service["id"]]["source_ref"] == f"{STORY_24}#2"
    assert now[service["id"]]["title"] == service["title"]
    assert now[page["id"]]["source_ref"] == f"{STORY_24}#4"
    assert now[page["id"]]["title"] == "Write the page and its tests (AC: 2, 3)"
    new = [row["title"] for row in now.values() if row["id"] not in {service["id"], access["id"], page["id"]}]
    assert new == ["Agree on the order", "Indexes"]
    assert now[service["id"]]["open_dependencies"] == 2, "it waits for the new box under it as well"
    (gone,) = report.gone
    assert (gone.kind, gone.key) == ("task", access["key"])
    assert "task_update" in gone.mend
    assert now[access["id"]]["status"] == "pending", "nothing is cancelled or deleted"
    assert (await import_folder(opened, folder)).changes == 0
    (folder / STORY_24).write_text(text)
    await import_folder(opened, folder)
    back = {row["id"]: row for row in await tasks(opened, "2.4")}
    assert [back[one["id"]]["source_ref"][-2:] for one in (service, access, page)] == ["#1", "#2", "#3"]


async def test_a_task_renamed_here_keeps_its_name(folder, opened, run):
    await import_folder(opened, folder)
    page = (await tasks(opened, "2.4"))[2]
    await run("task_update", task=page["key"], title="The page, in two columns")
    edit(folder, STORY_24, "Write the page (AC: 2, 3)", "Write the whole page (AC: 2, 3)")
    await import_folder(opened, folder)
    assert (await tasks(opened, "2.4"))[2]["title"] == "The page, in two columns"


async def test_the_task_for_a_whole_story_gives_way_to_check_boxes(v6_folder, opened, run):
    await import_folder(opened, v6_folder)
    (whole,) = await tasks(opened, "2.4")
    assert whole["source_ref"] == "2.4#implement"
    path = "_bmad-output/implementation-artifacts/2-4-sort-and-filter.md"
    write(
        v6_folder, path, "# Story 2.4: Sort\n\nStatus: ready-for-dev\n\n## Tasks / Subtasks\n\n- [ ] One\n- [ ] Two\n"
    )
    await import_folder(opened, v6_folder)
    found = await tasks(opened, "2.4")
    assert [(one["title"], one["status"]) for one in found[1:]] == [("One", "pending"), ("Two", "pending")]
    assert found[0]["status"] == "cancelled"
    assert (await story(opened, "2.4"))["status"] == "ready"
    assert (await import_folder(opened, v6_folder)).changes == 0


async def test_a_story_finished_in_the_tracker_closes_its_task(v6_folder, opened):
    await import_folder(opened, v6_folder)
    edit(v6_folder, TRACKER, "2-4-sort-and-filter: backlog", "2-4-sort-and-filter: done")
    edit(v6_folder, TRACKER, "epic-3: backlog", "epic-3: in-progress")
    report = await import_folder(opened, v6_folder)
    assert not report.conflicts
    told = await story(opened, "2.4")
    assert (told["status"], told["tracker_status"]) == ("done", "done")
    assert told["completed_at"] is not None
    assert (await tasks(opened, "2.4"))[0]["status"] == "completed"
    (epic,) = await fetch(opened, "SELECT status::text, raw_status FROM bmad_epics WHERE key = '3'")
    assert (epic["status"], epic["raw_status"]) == ("in_progress", "in-progress")


async def test_a_file_that_vanished_is_told_and_nothing_is_deleted(folder, opened):
    await import_folder(opened, folder)
    before = await dump(opened)
    (folder / STORY_24).unlink()
    (folder / "docs/architecture.md").unlink()
    report = await import_folder(opened, folder)
    assert {(one.kind, one.key, one.path) for one in report.gone} == {
        ("story", "2.4", STORY_24),
        ("file", "docs/architecture.md", "docs/architecture.md"),
    }
    assert await dump(opened) == before
    assert "Nothing was deleted" in report.render()


async def test_a_whole_folder_that_vanished_deletes_nothing(folder, opened, tmp_path):
    await import_folder(opened, folder)
    before = await dump(opened)
    empty = tmp_path / "empty"
    empty.mkdir()
    report = await import_folder(opened, empty)
    after = await dump(opened)
    for table in ("bmad_stories", "bmad_epics", "bmad_tasks", "bmad_artifacts", "bmad_agents"):
        assert after[table] == before[table]
    assert len([one for one in report.gone if one.kind == "story"]) == 12


async def test_a_story_file_that_was_renamed_is_the_same_story(folder, opened):
    await import_folder(opened, folder)
    identity = (await story(opened, "2.4"))["id"]
    (folder / STORY_24).rename(folder / "docs/stories/2.4.story.md")
    report = await import_folder(opened, folder)
    told = await story(opened, "2.4")
    assert (told["id"], told["source_path"]) == (identity, "docs/stories/2.4.story.md")
    assert (await tasks(opened, "2.4"))[0]["source_ref"] == "docs/stories/2.4.story.md#1"
    assert not report.conflicts


async def test_stories_and_tasks_made_by_tools_live_beside_imported_ones(folder, opened, run):
    made = await run("epic_create", title="Accounts here")
    await run("story_create", epic=made.epic.key, title="Sign up here", role="guest", want="an account", benefit="fun")
    report = await import_folder(opened, folder)
    fields = {(one.kind, one.field) for one in report.conflicts}
    assert ("story", "title") in fields
    assert ("epic", "title") in fields
    told = await story(opened, "1.1")
    assert told["title"] == "Sign up here"
    assert told["source_path"] == "docs/stories/1.1.story.md"
    own = await run("story_create", epic="3", title="A story of our own")
    assert own.story.key == "3.5"
    await run("task_create", title="Ours", story="2.4")
    before = await dump(opened)
    again = await import_folder(opened, folder)
    assert again.conflicts == report.conflicts
    assert await dump(opened) == before


async def test_a_document_recorded_by_a_tool_takes_the_bytes_of_its_file(folder, opened, run):
    task = await run("task_create", title="Write it down")
    claim = await run("task_claim", agent="dev", task=task.task.key)
    await run("task_complete", task=task.task.key, lease=claim.lease, artifacts=["docs/architecture.md"])
    await import_folder(opened, folder)
    (row,) = await fetch(opened, "SELECT * FROM bmad_artifacts WHERE path = 'docs/architecture.md'")
    assert row["content"] == (folder / "docs/architecture.md").read_text()
    assert (row["source"], row["kind"], row["agent"]) == ("import", "architecture", "dev")


async def test_a_document_that_tools_replaced_is_a_conflict_until_both_are_the_same(folder, opened, run):
    await import_folder(opened, folder)
    await run("artifact_record", kind="architecture", path="docs/architecture.md", content="# Ours\n")
    assert not (await import_folder(opened, folder)).conflicts, "the file is as it was imported"
    (folder / "docs/architecture.md").write_text("# Theirs\n")
    report = await import_folder(opened, folder)
    (conflict,) = report.conflicts
    assert (conflict.kind, conflict.key) == ("file", "docs/architecture.md")
    assert "artifact_get" in conflict.mend
    read = "SELECT content, source FROM bmad_artifacts WHERE path = 'docs/architecture.md'"
    assert await fetch(opened, read) == [{"content": "# Ours\n", "source": "tool"}]
    (folder / "docs/architecture.md").write_text("# Ours\n")
    assert not (await import_folder(opened, folder)).conflicts
    assert await fetch(opened, read) == [{"content": "# Ours\n", "source": "import"}]


async def test_sessions_and_status_of_agents_are_not_touched(tmp_path, opened, run):
    await run("agent_activate", agent="dev")
    write(
        tmp_path,
        ".bmad-core/agents/dev.md",
        "# dev\n\n```yaml\nagent:\n  name: Jo\n  id: dev\n  title: Engineer\npersona:\n  role: Builds\n```\n",
    )
    report = await import_folder(opened, tmp_path)
    assert report.updated["agent"] == ("dev (was built in)",)
    (dev,) = await fetch(opened, "SELECT display_name, status::text FROM bmad_agents WHERE name = 'dev'")
    assert (dev["display_name"], dev["status"]) == ("Jo", "active")
    assert len(await fetch(opened, "SELECT id FROM bmad_agent_sessions WHERE ended_at IS NULL")) == 1
