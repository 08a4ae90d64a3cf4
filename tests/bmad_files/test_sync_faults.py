"""A sync goes on whatever happens to its folder, its database or itself, and nothing is lost meanwhile."""

import asyncio
import logging
import os
import shutil
import time
from pathlib import Path

import asyncpg
import pytest
from bmad_installs import add_v4_docs, write
from stored_rows import dump, fetch, story
from test_export import STORY_22, STORY_23, bytes_of, move, section
from test_sync import edit, git, status_of, until

from bmad_mcp.bmad_files.git_state import GitState, git_state, switched_in_place
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.bmad_files.sync import folder_sync, reconciling, watching
from bmad_mcp.bmad_files.sync.reconciling import reconcile
from bmad_mcp.bmad_files.sync.watching import is_news, watched_folders

SECONDS = 6.0


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """What tries again does so soon: the tests wait for it."""
    monkeypatch.setattr(folder_sync, "AGAIN_SECONDS", 0.3)
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.3)


async def begun(told):
    await until(lambda: any("rows taken in" in one for one in told))


async def comes_in(opened, key, status):
    async def is_in():
        return await status_of(opened, key) == status

    await until(is_in, SECONDS)


async def rows_of(opened):
    """The stories and tasks, as far as people see them."""
    return await fetch(
        opened,
        "SELECT s.key, s.status::text, s.sections, count(t.id) AS tasks FROM bmad_stories s"
        " LEFT JOIN bmad_tasks t ON t.story_id = s.id GROUP BY 1, 2, 3 ORDER BY 1",
    )


# ── the folder ──


async def test_a_folder_that_is_deleted_and_comes_back_is_synced_again(
    workspace, opened, folder, tmp_path, run, caplog, synced
):
    async with synced(workspace, folder) as told:
        await begun(told)
        rows = await rows_of(opened)
        shutil.move(folder, tmp_path / "away")
        with caplog.at_level(logging.WARNING, "bmad_mcp.sync"):
            await until(lambda: "There is no folder" in caplog.text, SECONDS)
        await move(run, "2.1", "done")
        assert not folder.exists(), "the sync makes no folder of its own"
        await asyncio.sleep(1)
        assert caplog.text.count("There is no folder") == 1, "told once, not with each try"
        assert [one["key"] for one in await rows_of(opened)] == [one["key"] for one in rows]
        shutil.move(tmp_path / "away", folder)
        await until(lambda: "**Status**: Done" in (folder / "docs/stories/2.1.story.md").read_text(), SECONDS)
        edit(folder, STORY_23, "Status: Approved", "Status: InProgress")
        await comes_in(opened, "2.3", "in_progress")


async def test_a_folder_below_that_is_replaced_at_once_is_still_watched(workspace, opened, folder, tmp_path, synced):
    shutil.copytree(folder / "docs", tmp_path / "copy")
    async with synced(workspace, folder) as told:
        await begun(told)
        await asyncio.sleep(0.3)
        shutil.rmtree(folder / "docs")
        shutil.copytree(tmp_path / "copy", folder / "docs")
        await asyncio.sleep(1)
        edit(folder, STORY_23, "Status: Approved", "Status: InProgress")
        await comes_in(opened, "2.3", "in_progress")


@pytest.mark.parametrize("how", ["renamed", "deleted"])
async def test_another_folder_in_the_place_of_the_root_is_still_watched(
    workspace, opened, folder, tmp_path, how, synced
):
    shutil.copytree(folder, tmp_path / "copy")
    async with synced(workspace, folder) as told:
        await begun(told)
        await asyncio.sleep(0.3)
        if how == "renamed":
            folder.rename(tmp_path / "old")
        else:
            shutil.rmtree(folder)
        (tmp_path / "copy").rename(folder)
        await asyncio.sleep(1.5)
        edit(folder, STORY_23, "Status: Approved", "Status: InProgress")
        await comes_in(opened, "2.3", "in_progress")


async def test_an_empty_folder_in_the_place_of_the_project_takes_nothing_from_the_database(
    workspace, opened, folder, tmp_path, synced
):
    async with synced(workspace, folder) as told:
        await begun(told)
        rows = await rows_of(opened)
        shutil.move(folder / "docs", tmp_path / "away")
        (folder / "docs").mkdir()
        await asyncio.sleep(1.5)
        assert await rows_of(opened) == rows
        assert list(folder.rglob("*.md")) == []
        (folder / "docs").rmdir()
        shutil.move(tmp_path / "away", folder / "docs")
        await asyncio.sleep(1)
        assert await rows_of(opened) == rows
        edit(folder, STORY_23, "Status: Approved", "Status: InProgress")
        await comes_in(opened, "2.3", "in_progress")


async def test_a_folder_that_appears_later_is_watched(workspace, opened, tmp_path, synced):
    folder = tmp_path / "empty"
    folder.mkdir()
    async with synced(workspace, folder):
        await asyncio.sleep(0.5)
        add_v4_docs(folder)

        async def is_in():
            return bool(await fetch(opened, "SELECT 1 FROM bmad_stories WHERE key = '3.4'"))

        await until(is_in, SECONDS)
        edit(folder, STORY_23, "Status: Approved", "Status: InProgress")
        await comes_in(opened, "2.3", "in_progress")


async def test_a_story_whose_file_is_deleted_stays_and_its_file_does_not_come_back(
    workspace, opened, folder, run, synced
):
    async with synced(workspace, folder) as told:
        await begun(told)
        (folder / STORY_23).unlink()
        await move(run, "2.3", "in_progress")
        await move(run, "2.1", "done")
        await until(lambda: "**Status**: Done" in (folder / "docs/stories/2.1.story.md").read_text(), SECONDS)
        assert not (folder / STORY_23).exists()
        assert await status_of(opened, "2.3") == "in_progress"


async def test_three_hundred_files_that_change_at_once_are_all_taken_in(workspace, opened, tmp_path, run, synced):
    folder = tmp_path / "many"
    paths = [f"docs/stories/1.{number}.thing-{number}.md" for number in range(1, 301)]
    for number, path in enumerate(paths, start=1):
        write(folder, path, f"# Story 1.{number}: Thing {number}\n\n## Status\n\nApproved\n\n## Dev Notes\n\nA note.\n")
    async with synced(workspace, folder) as told:
        await until(lambda: any("rows taken in" in one for one in told), 20)
        for path in paths:
            edit(folder, path, "Approved", "InProgress")
        # An editor that saves again while the first edits are taken in.
        await asyncio.sleep(0.3)
        for path in paths[:50]:
            edit(folder, path, "A note.", "Another note.")

        async def are_in():
            (row,) = await fetch(
                opened,
                "SELECT count(*) FILTER (WHERE status = 'in_progress') AS moved,"
                " count(*) FILTER (WHERE sections::text LIKE '%Another note%') AS noted FROM bmad_stories",
            )
            return (row["moved"], row["noted"]) == (300, 50)

        await until(are_in, 20)
        await move(run, "1.1", "review")
        await until(lambda: "## Status\n\nReview\n" in (folder / paths[0]).read_text(), SECONDS)
    assert not list(folder.rglob(".bmad-mcp-*"))


async def test_a_pipe_in_the_folder_does_not_hold_the_server_up(workspace, opened, folder, synced):
    async with synced(workspace, folder) as told:
        await begun(told)
        os.mkfifo(folder / "docs/stories/9.9.pipe.md")
        (folder / "docs/stories/9.8.link.md").symlink_to("/dev/zero")
        edit(folder, STORY_23, "Status: Approved", "Status: InProgress")
        await comes_in(opened, "2.3", "in_progress")


def test_what_no_reader_looks_at_is_no_news(tmp_path):
    write(tmp_path, "docs/.bmad-mcp-0123456789abcdef", "half")
    write(tmp_path, "docs/.a.md.swp", "half")
    write(tmp_path, "docs/a.md", "a")
    os.mkfifo(tmp_path / "docs/pipe.md")
    (tmp_path / "docs/folder.md").mkdir()
    assert not is_news(tmp_path, "docs/.bmad-mcp-0123456789abcdef", {})
    assert not is_news(tmp_path, "docs/.a.md.swp", {})
    assert not is_news(tmp_path, "docs/pipe.md", {})
    assert not is_news(tmp_path, "docs/folder.md", {})
    assert not is_news(tmp_path, "docs/gone.md", {})
    assert is_news(tmp_path, "docs/a.md", {})
    assert is_news(tmp_path, "docs/gone.md", {"docs/gone.md": "x"})


def test_links_out_of_the_folder_are_not_watched(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "root/docs").symlink_to(tmp_path / "outside")
    (tmp_path / "root/node_modules").mkdir()
    (tmp_path / "root/_bmad").mkdir()
    assert watched_folders(tmp_path / "root", {"node_modules/x.md": ""}) == [tmp_path / "root/_bmad"]
    assert watched_folders(tmp_path / "nowhere", {}) == []


async def test_a_folder_that_cannot_be_watched_is_looked_at_instead_and_that_is_told_once(
    workspace, opened, folder, monkeypatch, caplog, synced
):
    def full(*_, **__):
        raise OSError(28, "OS file watch limit reached.")

    monkeypatch.setattr(watching, "awatch", full)
    with caplog.at_level(logging.WARNING, "bmad_mcp.sync"):
        async with synced(workspace, folder) as told:
            await begun(told)
            edit(folder, STORY_23, "Status: Approved", "Status: InProgress")
            await comes_in(opened, "2.3", "in_progress")
            await asyncio.sleep(1)
    assert caplog.text.count("cannot be watched (") == 1


async def test_a_file_that_cannot_be_written_is_told_once_and_written_when_it_can(
    workspace, opened, folder, run, synced
):
    async with synced(workspace, folder) as told:
        await begun(told)
        (folder / STORY_23).chmod(0o444)
        await move(run, "2.3", "in_progress")
        await until(lambda: any("was not written: The file is read-only" in one for one in told), SECONDS)
        for word in ("one", "two"):
            edit(folder, STORY_22, "The service lives", f"{word} The service lives")
            await asyncio.sleep(0.8)
        assert sum("was not written" in one for one in told) == 1
        assert "Status: Approved" in (folder / STORY_23).read_text()
        (folder / STORY_23).chmod(0o644)
        edit(folder, STORY_22, "one two The service", "The service")
        await until(lambda: "Status: InProgress" in (folder / STORY_23).read_text(), SECONDS)


# ── edits in the middle of a round ──


async def test_an_edit_while_a_round_runs_is_neither_lost_nor_written_over(opened, folder, run, monkeypatch):
    await import_folder(opened, folder)
    await run("agent_activate", agent="dev")
    await section(run, "2.2", "File List", "- database.py")
    real = reconciling.export_read

    async def late(*arguments, **more):
        edit(folder, STORY_22, "The service lives in `src/shop`.", "It lives in `src/search`.")
        return await real(*arguments, **more)

    monkeypatch.setattr(reconciling, "export_read", late)
    done = await reconcile(opened, folder)
    monkeypatch.undo()
    assert [one.path for one in done.refused] == [STORY_22]
    assert "src/search" in (folder / STORY_22).read_text()
    # The files as this round knows them are not those of now: what watches takes them for news.
    assert is_news(folder, STORY_22, done.hashes)
    done = await reconcile(opened, folder)
    assert (done.refused, done.conflicts) == ((), ())
    text, held = (folder / STORY_22).read_text(), str((await story(opened, "2.2"))["sections"])
    for word in ("src/search", "database.py"):
        assert word in text
        assert word in held


async def test_both_sides_at_once_come_together_and_then_nothing_moves(workspace, opened, folder, run, synced):
    async with synced(workspace, folder) as told:
        await begun(told)
        for status, word in (("in_progress", "one"), ("review", "two"), ("in_progress", "three"), ("review", "four")):
            await move(run, "2.3", status)
            text = (folder / STORY_22).read_text()
            (folder / STORY_22).write_text(text.replace("### Testing\n", f"### Testing\n\n{word}\n", 1))
            await asyncio.sleep(0.25)
        await until(lambda: "Status: Ready for Review" in (folder / STORY_23).read_text(), SECONDS)

        async def is_in():
            held = str((await story(opened, "2.2"))["sections"])
            return all(word in held for word in ("one", "two", "three", "four"))

        await until(is_in, SECONDS)
        await asyncio.sleep(1)
    before, rows = bytes_of(folder), await dump(opened)
    done = await reconcile(opened, folder)
    assert (done.taken_in, done.written, done.conflicts) == (0, (), ())
    assert bytes_of(folder) == before
    assert (await dump(opened))["bmad_stories"] == rows["bmad_stories"]


# ── the database and the sync itself ──


async def test_a_sync_whose_connections_are_cut_comes_back_by_itself(workspace, opened, folder, run, database, synced):
    async with synced(workspace, folder) as told:
        await begun(told)
        admin = await asyncpg.connect(**database.admin)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
        await admin.close()
        edit(folder, STORY_23, "Status: Approved", "Status: InProgress")

        async def is_in():
            try:
                return await status_of(opened, "2.3") == "in_progress"
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                return False

        await until(is_in, SECONDS)
        await move(run, "2.3", "review")
        await until(lambda: "Ready for Review" in (folder / STORY_23).read_text(), SECONDS)


async def test_a_sync_asks_for_the_database_to_be_mended(workspace, folder, monkeypatch, synced):
    asked = []

    class Broken:
        async def project(self):
            raise ConnectionRefusedError("the database is away")

        async def mend(self):
            asked.append(time.monotonic())
            return False

    async with synced(Broken(), folder):
        await until(lambda: len(asked) > 1, SECONDS)


async def test_a_fault_in_one_round_does_not_end_the_sync(workspace, opened, folder, monkeypatch, caplog, synced):
    real, calls = folder_sync.reconcile, []

    async def faulty(*arguments):
        calls.append(1)
        if len(calls) in (2, 3):
            raise KeyError("a fault of ours")
        return await real(*arguments)

    monkeypatch.setattr(folder_sync, "reconcile", faulty)
    async with synced(workspace, folder) as told:
        await begun(told)
        edit(folder, STORY_23, "Status: Approved", "Status: InProgress")
        await comes_in(opened, "2.3", "in_progress")
    assert len(calls) > 3
    assert caplog.text.count("Sync failed and tries again.") == 1
    assert "a fault of ours" in caplog.text


async def test_a_sync_that_is_ended_in_the_middle_of_a_round_ends_at_once_and_frees_its_lock(
    workspace, opened, folder, run, monkeypatch, synced
):
    entered, real = asyncio.Event(), folder_sync.reconcile

    async def slow(*arguments):
        entered.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(folder_sync, "reconcile", slow)
    async with synced(workspace, folder):
        await asyncio.wait_for(entered.wait(), SECONDS)
        begun_to_end = time.monotonic()
    assert time.monotonic() - begun_to_end < 1.5
    monkeypatch.setattr(folder_sync, "reconcile", real)
    async with synced(workspace, folder) as told:
        await begun(told)
        assert (await run("project_status")).drift.sync.state == "running"
    assert (await run("project_status")).drift.sync is None


async def test_of_two_syncs_the_second_takes_over_and_what_was_changed_meanwhile_is_not_lost(
    workspace, opened, folder, run, synced
):
    async with synced(workspace, folder) as second_told:
        async with synced(workspace, folder) as first_told:
            await until(lambda: any("rows taken in" in one for one in first_told + second_told))
        edit(folder, STORY_23, "Status: Approved", "Status: InProgress")
        await comes_in(opened, "2.3", "in_progress")
        await move(run, "2.3", "review")
        await until(lambda: "Ready for Review" in (folder / STORY_23).read_text(), SECONDS)


# ── git ──


def test_a_repository_that_is_odd_costs_nothing(tmp_path):
    assert git_state(tmp_path).busy is None
    place = tmp_path / "odd"
    (place / ".git").mkdir(parents=True)
    assert git_state(place) == GitState()
    for head in (b"", b"\xff\xfe\0", b"ref: refs/heads/main", b"x" * 100_000, b"a1b2c3\n"):
        (place / ".git/HEAD").write_bytes(head)
        assert git_state(place).busy is None
    (place / ".git/HEAD").unlink()
    (place / ".git/HEAD").mkdir()
    assert git_state(place).head is None
    (place / ".git/logs").mkdir()
    (place / ".git/logs/HEAD").write_bytes(b"\xff" * 50_000 + b"\ncheckout: moving from a to b\n\t\n")
    assert switched_in_place(place, "main") is False
    assert switched_in_place(tmp_path, "main") is False
    shutil.rmtree(place / ".git")
    (place / ".git").write_text("gitdir: ../nowhere\n")
    assert git_state(place) == GitState()


@pytest.mark.parametrize(
    "name, why",
    [
        ("index.lock", "git is writing"),
        ("MERGE_HEAD", "a merge is under way"),
        ("rebase-merge", "a rebase is under way"),
        ("rebase-apply", "a rebase is under way"),
        ("CHERRY_PICK_HEAD", "a cherry-pick is under way"),
        ("REVERT_HEAD", "a revert is under way"),
    ],
)
def test_what_git_is_in_the_middle_of_is_seen_in_a_worktree_too(tmp_path, name, why):
    main = tmp_path / "main"
    main.mkdir()
    git(main, "init", "-b", "trunk")
    git(main, "commit", "--allow-empty", "-m", "first")
    git(main, "worktree", "add", "-b", "side", str(tmp_path / "side"))
    assert (git_state(main), git_state(tmp_path / "side")) == (GitState("trunk"), GitState("side"))
    places = {main: main / ".git", tmp_path / "side": main / ".git/worktrees/side"}
    for place, git_folder in places.items():
        (git_folder / name).mkdir() if name.startswith("rebase") else (git_folder / name).write_text("")
        below = place / "docs/deep"
        below.mkdir(parents=True)
        assert git_state(below) == GitState("trunk" if place == main else "side", why)


async def test_a_merge_is_waited_for_and_then_taken_in(workspace, opened, folder, run, synced):
    git(folder, "init", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    async with synced(workspace, folder) as told:
        await begun(told)
        (folder / ".git/MERGE_HEAD").write_text("")
        await until(lambda: any("sync is waiting: a merge is under way" in one for one in told), SECONDS)
        edit(folder, STORY_23, "Status: Approved", "<<<<<<< ours\nStatus: Approved\n=======\nStatus: Done\n>>>>>>> x")
        await move(run, "2.1", "done")
        await asyncio.sleep(1.5)
        assert await status_of(opened, "2.3") == "ready"
        assert "Ready for Review" in (folder / "docs/stories/2.1.story.md").read_text()
        text = (folder / STORY_23).read_text()
        begin, end = text.index("<<<<<<<"), text.index(">>>>>>> x") + len(">>>>>>> x")
        (folder / STORY_23).write_text(text[:begin] + "Status: InProgress" + text[end:])
        (folder / ".git/MERGE_HEAD").unlink()
        await comes_in(opened, "2.3", "in_progress")
        await until(lambda: "**Status**: Done" in (folder / "docs/stories/2.1.story.md").read_text(), SECONDS)


async def test_git_writing_for_a_moment_loses_no_edit(opened, folder):
    git(folder, "init", "-b", "main")
    await import_folder(opened, folder)
    lock: Path = folder / ".git/index.lock"
    lock.write_text("")
    edit(folder, STORY_23, "Status: Approved", "Status: InProgress")
    assert (await reconcile(opened, folder)).hashes is None
    lock.unlink()
    assert (await reconcile(opened, folder)).taken_in > 0
    assert await status_of(opened, "2.3") == "in_progress"
