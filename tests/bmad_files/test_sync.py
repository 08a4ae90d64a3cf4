"""A folder and the database stay the same: edits come in, tool changes go out, conflicts follow the rules."""

import asyncio
import shutil
import subprocess

import pytest
from bmad_installs import add_v4_docs, write
from stored_rows import dump, fetch, story
from test_export import BUILDING, STORY_22, STORY_23, TRACKER, bytes_of, finish, move, section

from bmad_mcp.bmad_files.exporting import export_folder
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.bmad_files.sync.reconciling import reconcile
from bmad_mcp.errors import Conflict


async def until(what, seconds=10.0):
    """Waits until `what()` is true."""
    async with asyncio.timeout(seconds):
        while not (await what() if asyncio.iscoroutinefunction(what) else what()):
            await asyncio.sleep(0.02)


def edit(folder, path, old, new):
    text = (folder / path).read_text()
    assert old in text
    (folder / path).write_text(text.replace(old, new, 1))


async def status_of(opened, key):
    return (await story(opened, key))["status"]


async def test_edits_come_in_and_tool_changes_go_out(workspace, opened, folder, run, synced):
    async with synced(workspace, folder) as told:
        await until(lambda: any("rows taken in" in one for one in told))
        assert await status_of(opened, "2.3") == "ready"
        edit(folder, STORY_23, "Status: Approved", "Status: InProgress")

        async def is_started():
            return await status_of(opened, "2.3") == "in_progress"

        await until(is_started)
        await move(run, "2.3", "review")
        await until(lambda: "Status: Ready for Review" in (folder / STORY_23).read_text())
        (folder / "docs/stories/2.9.gift-wrap.md").write_text("# Story 2.9: Gift wrap\n\nStatus: Draft\n")

        async def is_there():
            return bool(await fetch(opened, "SELECT 1 FROM bmad_stories WHERE key = '2.9'"))

        await until(is_there)


async def test_a_sync_that_has_nothing_to_do_writes_nothing(workspace, opened, folder):
    await import_folder(opened, folder)
    before = bytes_of(folder)
    for _ in range(3):
        done = await reconcile(opened, folder)
        assert (done.taken_in, done.written, done.conflicts) == (0, (), ())
    assert bytes_of(folder) == before


async def test_a_status_never_goes_down_because_both_sides_changed_it(opened, folder, run):
    await import_folder(opened, folder)
    await move(run, "2.3", "in_progress", "review")
    edit(folder, STORY_23, "Status: Approved", "Status: InProgress")
    done = await reconcile(opened, folder)
    assert [one.why for one in done.settled] == ["review is further than in_progress"]
    assert await status_of(opened, "2.3") == "review"
    assert "Status: Ready for Review" in (folder / STORY_23).read_text()
    assert done.conflicts == ()


async def test_the_owner_of_a_section_wins_and_the_other_text_is_kept(opened, folder, run):
    await import_folder(opened, folder)
    await run("agent_activate", agent="dev")
    await section(run, "2.2", "File List", "- database.py")
    edit(folder, STORY_22, "### File List\n", "### File List\n\n- file.py\n")
    done = await reconcile(opened, folder)
    assert [one.why for one in done.settled] == ["dev owns the section"]
    assert "- database.py" in (folder / STORY_22).read_text()
    assert "- file.py" not in (folder / STORY_22).read_text()
    (copy,) = (await run("artifact_list", kind="conflict-copy")).items
    assert (await run("artifact_get", artifact=copy.key)).content == "- file.py"
    assert (await reconcile(opened, folder)).settled == ()


async def test_what_no_rule_decides_is_shown_and_left(opened, folder, run):
    await import_folder(opened, folder)
    await run("agent_activate", agent="dev")
    await section(run, "2.2", "Change Log", "dev was here")
    edit(folder, STORY_22, "| 2026-10-01 | 0.1 | First draft | sm |", "| 2026-10-02 | 0.2 | Second draft | sm |")
    before = bytes_of(folder)
    done = await reconcile(opened, folder)
    assert [(one.key, one.field) for one in done.conflicts] == [("2.2", "section Change Log")]
    assert done.settled == ()
    assert bytes_of(folder) == before
    drift = (await run("project_status")).drift
    (item,) = [one for one in drift.items if one.between == "conflict"]
    assert item.first == "2.2"
    assert "Bring both texts together" in item.mend


async def test_drift_names_the_command_that_mends_it(opened, v6_folder, run):
    edit(v6_folder, TRACKER, "2-2-search-products: in-progress", "2-2-search-products: backlog")
    await import_folder(opened, v6_folder)
    await move(run, "2.3", "in_progress")
    items = {one.between: one.mend for one in (await run("project_status")).drift.items}
    assert items == {
        "file and tracker": f"bmad-mcp export {v6_folder} --project {opened.key} --mend",
        "database and files": f"bmad-mcp export {v6_folder} --project {opened.key}",
    }


def git(folder, *arguments):
    subprocess.run(
        ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


async def test_a_switch_of_the_branch_does_not_wreck_the_database(workspace, opened, folder, run, synced):
    git(folder, "init", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    git(folder, "branch", "old")
    async with synced(workspace, folder) as told:
        await until(lambda: any("rows taken in" in one for one in told))
        await move(run, "2.3", "in_progress")
        await until(lambda: "Status: InProgress" in (folder / STORY_23).read_text())
        edit(folder, STORY_22, "The service lives in `src/shop`.", "It lives in `src/search`.")

        async def is_in():
            return "src/search" in str((await story(opened, "2.2"))["sections"])

        await until(is_in)
        git(folder, "commit", "-am", "second")
        git(folder, "checkout", "old")
        await until(lambda: any(one.startswith("sync is paused: The folder is on old") for one in told))
        assert await is_in()
        assert await status_of(opened, "2.3") == "in_progress"
        sync = (await run("project_status")).drift.sync
        assert sync.state == "paused"
        assert f"bmad-mcp import {folder}" in sync.reason
        await move(run, "2.3", "review")
        await asyncio.sleep(1.5)
        assert "Status: Approved" in (folder / STORY_23).read_text(), "nothing is written into the other branch"
        git(folder, "checkout", "main")
        await until(lambda: "Status: Ready for Review" in (folder / STORY_23).read_text())
        await until(lambda: told[-1].startswith("sync: running again"))


async def test_a_new_branch_with_the_same_files_goes_on(workspace, opened, folder, run, synced):
    git(folder, "init", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    async with synced(workspace, folder) as told:
        await until(lambda: any("rows taken in" in one for one in told))
        git(folder, "checkout", "-b", "feature")
        edit(folder, STORY_22, "The service lives in `src/shop`.", "It lives in `src/search`.")
        await move(run, "2.3", "in_progress")
        await until(lambda: "Status: InProgress" in (folder / STORY_23).read_text())
        assert not any("paused" in one for one in told)
        assert "src/search" in str((await story(opened, "2.2"))["sections"])


async def test_a_status_that_goes_back_in_a_file_is_told(workspace, opened, folder, synced):
    await import_folder(opened, folder)
    edit(folder, "docs/stories/2.1.story.md", "**Status**: Ready for Review", "**Status**: InProgress")
    async with synced(workspace, folder) as told:
        await until(lambda: any("story 2.1 (status back from review to in_progress" in one for one in told))


async def test_git_in_the_middle_of_something_is_waited_for(opened, folder):
    git(folder, "init", "-b", "main")
    lock = folder / ".git/index.lock"
    lock.write_text("")
    assert ((done := await reconcile(opened, folder)).state, done.reason) == ("waiting", "git is writing")
    lock.unlink()
    assert (await reconcile(opened, folder)).state == "running"


async def test_one_of_two_syncs_leads_and_the_other_takes_over(workspace, opened, folder, run, synced):
    async with synced(workspace, folder) as first:
        await until(lambda: any("rows taken in" in one for one in first))
        async with synced(workspace, folder) as second:
            await move(run, "2.3", "in_progress")
            await until(lambda: "Status: InProgress" in (folder / STORY_23).read_text())
            await asyncio.sleep(0.3)
            assert second == []


async def test_a_folder_without_a_bmad_project_is_told_once(workspace, opened, run, tmp_path, synced):
    async with synced(workspace, tmp_path) as told:
        await until(lambda: told)
        assert f"there is no BMad project in {tmp_path} yet" in told[0]
        await run("epic_create", title="Tides")
        await until(lambda: list(tmp_path.rglob("*.md")))
    assert sum("no BMad project" in one for one in told) == 1


async def test_the_boxes_go_both_ways(workspace, opened, v6_folder, run, synced):
    path = f"{BUILDING}/2-3-product-page.md"
    async with synced(workspace, v6_folder) as told:
        await until(lambda: any("rows taken in" in one for one in told))
        await finish(run, "Data access", "2.3")
        await until(lambda: "  - [x] Data access" in (v6_folder / path).read_text())
        edit(v6_folder, path, "- [ ] Write the page", "- [x] Write the page")

        async def is_done():
            rows = await fetch(
                opened,
                "SELECT status::text FROM bmad_tasks WHERE title LIKE 'Write the page%' AND source_ref LIKE '%2-3%'",
            )
            return [one["status"] for one in rows] == ["completed"]

        await until(is_done)


def other_project(folder):
    """Another project that numbers its stories alike."""
    for path in add_v4_docs(folder).rglob("*.md"):
        path.write_text(f"{path.read_text()}\nAnother project.\n")
    return folder


def origin(folder, address):
    write(folder, ".git/HEAD", "ref: refs/heads/main\n")
    write(folder, ".git/config", f'[core]\n\tbare = false\n[remote "origin"]\n\turl = {address}\n')
    return folder


async def test_the_folder_of_another_project_is_not_merged_in(opened, folder, tmp_path):
    await import_folder(opened, folder)
    other = other_project(tmp_path / "shop2")
    rows, before = await dump(opened), bytes_of(other)
    done = await reconcile(opened, other)
    assert (done.state, done.taken_in, done.written) == ("paused", 0, ())
    assert f"holds the files of {folder}, and {other} has others" in done.reason
    assert f"bmad-mcp import {other} --project {opened.key}" in done.reason
    (kept,) = await fetch(opened, "SELECT settings -> 'files' -> 'sync' ->> 'state' AS state FROM bmad_projects")
    assert kept["state"] == "paused"
    assert bytes_of(other) == before
    assert {name: held for name, held in (await dump(opened)).items() if "project" not in name} == {
        name: held for name, held in rows.items() if "project" not in name
    }
    # An export there must not make it the project's folder either.
    with pytest.raises(Conflict):
        await export_folder(opened, other)
    assert (await reconcile(opened, other)).state == "paused"
    # Said on purpose, it is taken in.
    await import_folder(opened, other)
    assert (await reconcile(opened, other)).state == "running"


async def test_a_checkout_that_was_moved_goes_on(opened, folder, tmp_path):
    await import_folder(opened, folder)
    moved = folder.rename(tmp_path / "elsewhere")
    edit(moved, STORY_23, "Status: Approved", "Status: InProgress")
    assert (await reconcile(opened, moved)).state == "running"
    assert await status_of(opened, "2.3") == "in_progress"


async def test_another_checkout_of_the_same_repository_goes_on_whatever_it_says(opened, folder, tmp_path):
    await import_folder(opened, origin(folder, "https://me:secret@example.org/shop.git"))
    shutil.rmtree(folder)
    other = origin(other_project(tmp_path / "shop2"), "https://you:word@example.org/shop.git")
    assert (await reconcile(opened, other)).state == "running"
    (kept,) = await fetch(opened, "SELECT settings -> 'files' ->> 'origin' AS origin FROM bmad_projects")
    assert kept["origin"] == "https://example.org/shop.git#."
    third = origin(add_v4_docs(tmp_path / "shop3"), "https://example.org/other.git")
    assert (await reconcile(opened, third)).state == "paused"
