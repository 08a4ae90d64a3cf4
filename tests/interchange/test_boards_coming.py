"""Boards of other tools come in whole, a second time without a change, and never undo what tools did here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from bmad_installs import add_v6_docs, write
from boards import KEPT, SHOP, beads, issue, made_anew, real_backlog, real_beads, real_taskmaster, task, taskmaster
from stored_rows import change, dump, fetch

from bmad_mcp.bmad_files.exporting import export_folder
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.bmad_files.sync.reconciling import reconcile
from bmad_mcp.errors import Invalid, NotFound
from bmad_mcp.interchange.importing import import_from

TASKS = """
SELECT 'T-' || t.number AS key, t.source_ref, t.title, t.description, t.status::text AS status, t.raw_status,
    t.priority::text AS priority, t.open_dependencies AS waits, t.story_open, s.key AS story, t.version,
    (SELECT array_agg(d.source_ref ORDER BY d.source_ref) FROM bmad_task_dependencies e
     JOIN bmad_tasks d ON d.project_id = e.project_id AND d.id = e.depends_on_id
     WHERE e.project_id = t.project_id AND e.task_id = t.id) AS waits_for
FROM bmad_tasks t LEFT JOIN bmad_stories s ON s.project_id = t.project_id AND s.id = t.story_id
WHERE t.project_id = bmad_project() ORDER BY t.number
"""
STORIES = """
SELECT s.key, s.title, s.status::text AS status, s.priority::text AS priority, s.acceptance, s.sections, s.extra,
    e.key AS epic, e.title AS epic_title, e.status::text AS epic_status, e.goal, s.version
FROM bmad_stories s JOIN bmad_epics e ON e.project_id = s.project_id AND e.id = s.epic_id
WHERE s.project_id = bmad_project() ORDER BY s.epic_number, s.number
"""
FILES = (
    "SELECT title, content, encoding, kind FROM bmad_artifacts WHERE project_id = bmad_project() AND kind <> 'manifest'"
)


async def tasks_of(opened) -> dict[str, dict[str, Any]]:
    return {
        (row["source_ref"] or row["key"]).partition(":")[2] or row["key"]: row for row in await fetch(opened, TASKS)
    }


async def stories_of(opened) -> dict[str, dict[str, Any]]:
    return {row["title"]: row for row in await fetch(opened, STORIES)}


def sections(story) -> dict[str, str]:
    return {one["name"]: one["text"].strip() for one in story["sections"]}


# When each was made.
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:[\d.]+Z)?")


def files_of(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): MOMENT.sub("then", path.read_text())
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.soak
@pytest.mark.parametrize("name", ["taskmaster", "backlog"])
def test_the_kept_boards_are_what_the_tools_make(tmp_path, name):
    assert files_of(made_anew(name, tmp_path)) == files_of(KEPT / name)


async def test_a_board_that_task_master_made(workspace, tmp_path):
    opened = workspace.opened
    root = real_taskmaster(tmp_path / "shop")
    report = await import_from(opened, "taskmaster", root)
    assert report.deviations == ()
    tasks, stories = await tasks_of(opened), await stories_of(opened)
    assert set(tasks) == {"master/1.1", "master/1.2", "master/2", "later/1"}
    assert [tasks[ref]["status"] for ref in ("master/1.1", "master/1.2", "master/2")] == [
        "completed",
        "pending",
        "pending",
    ]
    assert set(stories) == {"Sign up"}
    story = stories["Sign up"]
    assert (story["status"], story["priority"], story["epic_title"]) == ("in_progress", "high", "Task Master: master")
    assert sections(story) == {"Story": "Accounts for shoppers", "Dev Notes": "Use argon2."}
    assert story["extra"]["board"]["status"] == "in-progress"
    assert tasks["master/1.1"]["story"] == tasks["master/1.2"]["story"] == story["key"]
    assert "Four fields." in tasks["master/1.1"]["description"]
    assert tasks["master/1.2"]["waits_for"] == ["taskmaster:master/1.1"]
    assert tasks["master/1.2"]["waits"] == 0
    # Task 2 waits for the whole story: for what none of its other subtasks waits for.
    assert tasks["master/2"]["waits_for"] == ["taskmaster:master/1.2"]
    assert tasks["master/2"]["waits"] == 1
    (file,) = await fetch(opened, FILES)
    assert file["content"] == (root / ".taskmaster/tasks/tasks.json").read_text()


async def test_a_board_that_backlog_md_made(workspace, tmp_path):
    opened = workspace.opened
    root = real_backlog(tmp_path / "shop")
    report = await import_from(opened, "backlog", root)
    assert [one.code for one in report.deviations] == ["in-progress"]
    tasks, stories = await tasks_of(opened), await stories_of(opened)
    told = {ref: (row["title"], row["status"]) for ref, row in tasks.items()}
    assert told == {
        "TASK-1.1": ("Form", "completed"),
        "TASK-2": ("Sign in", "pending"),
        "TASK-3": ("Old", "completed"),
        "TASK-4": ("Gone", "cancelled"),
        "DRAFT-1": ("Maybe", "blocked"),
    }
    story = stories["Sign up"]
    assert story["acceptance"] == ["A page answers", "Errors are told"]
    assert sections(story)["Story"] == "Accounts for shoppers"
    assert story["extra"]["board"]["labels"] == ["auth", "web"]
    assert story["extra"]["board"]["assignees"] == ["@alex"]
    assert story["epic_title"] == "Backlog.md: Shop"
    assert "1. Look\n2. Write" in tasks["TASK-2"]["description"]
    assert "Half done" in tasks["TASK-2"]["description"]
    assert tasks["TASK-2"]["waits_for"] == ["backlog:TASK-1.1"]
    assert tasks["TASK-2"]["raw_status"] == "In Progress"
    files = {row["title"]: row for row in await fetch(opened, FILES)}
    kept = {path.relative_to(root).as_posix() for path in (root / "backlog").rglob("*") if path.is_file()}
    assert set(files) == kept
    assert all(files[one]["content"] == (root / one).read_text() for one in kept)


async def test_a_board_that_beads_made(workspace, tmp_path):
    root = real_beads(tmp_path / "shop")
    report = await import_from(workspace.opened, "beads", root)
    assert report.counts["epic"].created == 1


async def test_a_board_in_the_form_that_beads_documents(workspace, tmp_path):
    opened = workspace.opened
    report = await import_from(opened, "beads", beads(tmp_path, *SHOP))
    assert [one.code for one in report.deviations] == ["deleted"]
    tasks, stories = await tasks_of(opened), await stories_of(opened)
    assert {ref: row["story"] for ref, row in tasks.items()} == {
        "bd-3": "1.2",
        "bd-4": "1.2",
        "bd-5": "1.1",
        "bd-6": None,
    }
    assert stories["Accounts"]["epic_title"] == stories["Shop"]["epic_title"] == "Shop"
    assert stories["Accounts"]["goal"] == "Sell things."
    assert stories["Accounts"]["priority"] == "critical"
    assert stories["Accounts"]["acceptance"] == ["A page answers", "Errors are told"]
    assert sections(stories["Accounts"])["Design"] == "One table."
    assert sections(stories["Accounts"])["Notes"] == "Ask Alex."
    assert tasks["bd-4"]["waits_for"] == ["beads:bd-3"]
    assert tasks["bd-5"]["waits_for"] == ["beads:bd-4"]
    assert (tasks["bd-6"]["status"], tasks["bd-6"]["raw_status"]) == ("blocked", "deferred")
    assert "alex" in tasks["bd-4"]["description"]


@pytest.mark.parametrize("source", ["taskmaster", "backlog", "beads"])
async def test_a_second_import_changes_nothing(workspace, tmp_path, source):
    opened = workspace.opened
    make = {"taskmaster": real_taskmaster, "backlog": real_backlog, "beads": lambda folder: beads(folder, *SHOP)}
    root = make[source](tmp_path)
    first = await import_from(opened, source, root)
    assert first.changes
    before = await dump(opened)
    inner = {"taskmaster": ".taskmaster", "backlog": "backlog", "beads": ".beads/issues.jsonl"}[source]
    for path in (root, root / inner):
        report = await import_from(opened, source, path)
        assert report.changes == 0, report.render()
        assert not report.conflicts
        assert await dump(opened) == before


async def test_a_dry_run_writes_nothing(workspace, tmp_path):
    before = await dump(workspace.opened)
    report = await import_from(workspace.opened, "beads", beads(tmp_path, *SHOP), dry_run=True)
    assert report.changes
    assert "dry run" in report.render()
    assert await dump(workspace.opened) == before


async def test_only_what_changed_on_the_board_is_changed(workspace, tmp_path):
    opened = workspace.opened
    first = task(1, "Sign up", subtasks=[task(1, "Form"), task(2, "Mail")])
    await import_from(opened, "taskmaster", taskmaster(tmp_path, [first, task(2, "Pay")]))
    before = await tasks_of(opened)
    changed = {
        **first,
        "subtasks": [task(1, "Form", status="done"), task(2, "Mail", priority="high", dependencies=[1])],
    }
    report = await import_from(opened, "taskmaster", taskmaster(tmp_path, [changed, task(2, "Pay")]))
    after = await tasks_of(opened)
    assert after["master/1.1"]["status"] == "completed"
    assert (after["master/1.2"]["priority"], after["master/1.2"]["waits_for"]) == ("high", ["taskmaster:master/1.1"])
    assert after["master/1.2"]["waits"] == 0
    assert after["master/2"] == before["master/2"]
    assert report.counts["task"].updated == 2
    assert report.counts["story"].updated == 0


async def test_what_tools_did_stands(workspace, run, tmp_path):
    opened = workspace.opened
    await import_from(opened, "taskmaster", taskmaster(tmp_path, [task(1, "Pay"), task(2, "Ship", dependencies=[1])]))
    claimed = await run("task_claim", agent="dev")
    assert claimed.task.title == "Pay"
    await run("task_complete", task=claimed.task.key, lease=claimed.task.lease, summary="Paid.")
    await run("task_update", task="T-2", title="Ship it")
    await run("task_create", title="Extra")
    before = await dump(opened)
    report = await import_from(opened, "taskmaster", tmp_path)
    assert (report.changes, report.conflicts) == (0, ())
    assert await dump(opened) == before

    board = [task(1, "Pay", status="cancelled"), task(2, "Ship by mail", dependencies=[1])]
    report = await import_from(opened, "taskmaster", taskmaster(tmp_path, board))
    after = await tasks_of(opened)
    assert after["master/1"]["status"] == "completed"
    assert after["master/2"]["title"] == "Ship it"
    told = {(one.key, one.field): (one.file, one.database) for one in report.conflicts}
    assert told == {("T-1", "status"): ("cancelled", "completed"), ("T-2", "title"): ("Ship by mail", "Ship it")}
    assert "Ship by mail" in report.render()
    # Told again until it is settled.
    assert len((await import_from(opened, "taskmaster", tmp_path)).conflicts) == 2


async def test_a_held_task_is_not_closed_under_its_holder(workspace, run, tmp_path):
    opened = workspace.opened
    await import_from(opened, "taskmaster", taskmaster(tmp_path, [task(1, "Pay")]))
    await run("task_claim", agent="dev")
    report = await import_from(opened, "taskmaster", taskmaster(tmp_path, [task(1, "Pay", status="done")]))
    assert [one.field for one in report.conflicts] == ["status"]
    assert (await tasks_of(opened))["master/1"]["status"] == "active"


async def test_a_dependency_that_tools_took_away_stays_away(workspace, run, tmp_path):
    opened = workspace.opened
    board = [task(1, "A"), task(2, "B"), task(3, "C", dependencies=[1, 2])]
    await import_from(opened, "taskmaster", taskmaster(tmp_path, board))
    await run("task_update", task="T-3", depends_on=["T-2"])
    await import_from(opened, "taskmaster", tmp_path)
    assert (await tasks_of(opened))["master/3"]["waits_for"] == ["taskmaster:master/2"]
    board[2] = task(3, "C", dependencies=[1])
    await import_from(opened, "taskmaster", taskmaster(tmp_path, board))
    row = (await tasks_of(opened))["master/3"]
    assert (row["waits_for"], row["waits"]) == (None, 0)


async def test_a_circle_is_told_and_left_out(workspace, run, tmp_path):
    opened = workspace.opened
    board = [task(1, "A", dependencies=[2]), task(2, "B", dependencies=[3]), task(3, "C", dependencies=[1, 3])]
    report = await import_from(opened, "taskmaster", taskmaster(tmp_path, board))
    circles = [one.message for one in report.deviations if one.code == "circle"]
    assert len(circles) == 2
    assert any("master/1 → master/2 → master/3 → master/1" in one for one in circles)
    rows = await tasks_of(opened)
    assert [rows[f"master/{number}"]["waits_for"] for number in (1, 2, 3)] == [
        ["taskmaster:master/2"],
        ["taskmaster:master/3"],
        None,
    ]


async def test_a_circle_through_a_story_is_left_out(workspace, tmp_path):
    parts = [task(1, "Form", dependencies=["2"]), task(2, "Mail")]
    board = [task(1, "A", subtasks=parts, dependencies=["1.2"]), task(2, "B", dependencies=[1])]
    report = await import_from(workspace.opened, "taskmaster", taskmaster(tmp_path, board))
    assert [one.code for one in report.deviations] == ["circle"]


async def test_a_circle_with_what_tools_added_is_a_conflict(workspace, run, tmp_path):
    opened = workspace.opened
    await import_from(opened, "taskmaster", taskmaster(tmp_path, [task(1, "A"), task(2, "B")]))
    await run("task_update", task="T-1", depends_on=["T-2"])
    taskmaster(tmp_path, [task(1, "A"), task(2, "B", dependencies=[1])])
    for _ in range(2):
        report = await import_from(opened, "taskmaster", tmp_path)
        assert [one.field for one in report.conflicts] == ["depends_on"]
    rows = await tasks_of(opened)
    assert (rows["master/1"]["waits_for"], rows["master/2"]["waits_for"]) == (["taskmaster:master/2"], None)


async def test_a_task_that_gets_parts_gives_way_to_a_story(workspace, tmp_path):
    opened = workspace.opened
    await import_from(opened, "taskmaster", taskmaster(tmp_path, [task(1, "A"), task(2, "B", dependencies=[1])]))
    board = [task(1, "A", subtasks=[task(1, "Part")]), task(2, "B", dependencies=[1])]
    await import_from(opened, "taskmaster", taskmaster(tmp_path, board))
    rows = await tasks_of(opened)
    assert rows["master/1"]["status"] == "cancelled"
    assert rows["master/2"]["waits_for"] == ["taskmaster:master/1.1"]
    before = await dump(opened)
    assert (await import_from(opened, "taskmaster", tmp_path)).changes == 0
    assert await dump(opened) == before


async def test_what_left_the_board_stays_and_is_told(workspace, tmp_path):
    opened = workspace.opened
    await import_from(opened, "taskmaster", taskmaster(tmp_path, [task(1, "A"), task(2, "B")]))
    report = await import_from(opened, "taskmaster", taskmaster(tmp_path, [task(1, "A")]))
    assert [one.key for one in report.gone] == ["T-2"]
    assert (await tasks_of(opened))["master/2"]["status"] == "pending"
    (tmp_path / ".taskmaster/tasks/tasks.json").write_text("{")
    report = await import_from(opened, "taskmaster", tmp_path)
    assert (report.gone, [one.code for one in report.deviations]) == ((), ["json"])


async def test_an_unknown_word_is_kept_and_told(workspace, tmp_path):
    opened = workspace.opened
    report = await import_from(opened, "taskmaster", taskmaster(tmp_path, [task(1, "A", status="at the moon")]))
    assert [one.code for one in report.deviations] == ["status-word"]
    row = (await tasks_of(opened))["master/1"]
    assert (row["status"], row["raw_status"]) == ("pending", "at the moon")


async def test_a_story_that_tools_moved_is_not_pulled_back(workspace, run, tmp_path):
    opened = workspace.opened
    board = [task(1, "A", subtasks=[task(1, "Part")])]
    await import_from(opened, "taskmaster", taskmaster(tmp_path, board))
    await change(
        opened, "UPDATE bmad_stories SET status = 'review', version = version + 1 WHERE project_id = bmad_project()"
    )
    board[0]["status"] = "in-progress"
    report = await import_from(opened, "taskmaster", taskmaster(tmp_path, board))
    assert [(one.kind, one.field) for one in report.conflicts] == [("story", "status")]
    assert (await stories_of(opened))["A"]["status"] == "review"


async def test_the_old_form_of_task_master_without_tags(workspace, tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/tasks.json").write_text(json.dumps({"tasks": [task(1, "A"), task(2, "B", dependencies=[1])]}))
    await import_from(workspace.opened, "taskmaster", tmp_path)
    assert (await tasks_of(workspace.opened))["master/2"]["waits_for"] == ["taskmaster:master/1"]


async def test_two_boards_and_own_epics_share_a_project(workspace, run, tmp_path):
    await run("epic_create", title="Own")
    await import_from(workspace.opened, "beads", beads(tmp_path / "b", *SHOP))
    board = [task(1, "A", subtasks=[task(1, "Part")])]
    await import_from(workspace.opened, "taskmaster", taskmaster(tmp_path / "t", board))
    rows = await stories_of(workspace.opened)
    assert {row["key"] for row in rows.values()} == {"2.1", "2.2", "3.1"}


@pytest.mark.parametrize(
    ("source", "names"),
    [("taskmaster", "tasks.json"), ("backlog", "backlog/tasks/"), ("beads", ".beads/issues.jsonl")],
)
async def test_a_folder_without_a_board_is_refused(workspace, tmp_path, source, names):
    with pytest.raises(Invalid, match=names):
        await import_from(workspace.opened, source, tmp_path)
    with pytest.raises(NotFound):
        await import_from(workspace.opened, source, tmp_path / "missing")


async def test_the_report_tells_as_json_and_as_text(workspace, tmp_path):
    report = await import_from(
        workspace.opened, "beads", beads(tmp_path, *SHOP, issue("bd-9", "\x1b[2J", ("x", "blocks")))
    )
    told = json.loads(json.dumps(report.as_json()))
    assert told["counts"]["task"]["created"] == 5
    assert "\x1b" not in report.render()
    assert "not on the board" in report.render()


async def test_a_board_beside_bmad_files_becomes_bmad_files(workspace, tmp_path):
    opened, root = workspace.opened, add_v6_docs(tmp_path / "shop")
    await import_folder(opened, root)
    await import_from(opened, "beads", beads(root, *SHOP))
    await export_folder(opened, root)
    (page,) = root.rglob("4-2-accounts.md")
    assert "One table." in page.read_text()
    before = await stories_of(opened)
    await import_folder(opened, root)
    settled = await dump(opened)
    assert (await import_from(opened, "beads", root)).changes == 0
    assert (await import_folder(opened, root)).changes == 0
    assert await dump(opened) == settled
    after = await stories_of(opened)
    assert {name: row["status"] for name, row in after.items()} == {name: row["status"] for name, row in before.items()}


async def test_what_a_board_does_not_say_or_says_otherwise_is_told(workspace, tmp_path):
    issues = (issue("bd-1", "Sign up", status="in_progress"), issue("bd-2", ""))
    report = await import_from(workspace.opened, "beads", beads(tmp_path, *issues))
    told = {one.code: one.message for one in report.deviations}
    assert told == {
        "in-progress": "'bd-1' is in progress there; here it is pending, for nobody holds it.",
        "no-title": "'bd-2' has no title; here it is called 'beads bd-2'.",
    }


async def test_a_task_that_cannot_be_read_is_told_once_and_what_waits_for_it_is_not_called_wrong(workspace, tmp_path):
    write(tmp_path, "backlog/tasks/task-1 - One.md", "---\nid: task-1\ntitle: [One\n---\n\nText.\n")
    write(tmp_path, "backlog/tasks/task-2 - Two.md", "---\nid: task-2\ntitle: Two\ndependencies: [task-1]\n---\n")
    report = await import_from(workspace.opened, "backlog", tmp_path)
    assert [(one.path.rpartition("/")[2], one.code) for one in report.deviations] == [
        ("task-1 - One.md", "yaml"),
        ("task-2 - Two.md", "dependency"),
    ]
    waits = report.deviations[1]
    assert "is not among what could be read" in waits.message
    assert waits.mend.startswith("Mend what could not be read")


async def test_a_sync_with_another_folder_than_the_boards_changes_nothing(workspace, tmp_path):
    opened = workspace.opened
    await import_from(opened, "beads", beads(tmp_path / "shop", *SHOP))
    other, before = add_v6_docs(tmp_path / "other"), await stories_of(opened)
    done = await reconcile(opened, other)
    assert (done.state, done.taken_in, done.written) == ("paused", 0, ())
    assert f"holds the files of {tmp_path / 'shop'}" in done.reason
    assert await stories_of(opened) == before
    await import_folder(opened, other)
    assert (await reconcile(opened, other)).state == "running"


@pytest.mark.parametrize("place", ["around it", "another checkout", "without work"])
async def test_a_sync_where_a_board_came_from_goes_on(workspace, tmp_path, place):
    opened, root = workspace.opened, tmp_path / "shop"
    config = '[core]\n\tbare = false\n[remote "origin"]\n\turl = https://example.org/shop.git\n'
    folder = root if place == "around it" else tmp_path / "elsewhere"
    for one in {root, folder} if place == "another checkout" else ():
        write(one, ".git/HEAD", "ref: refs/heads/main\n")
        write(one, ".git/config", config)
    await import_from(opened, "beads", beads(root, *SHOP))
    if place == "without work":
        write(folder, "docs/notes.md", "# Notes\n")
    else:
        add_v6_docs(folder)
    assert (await reconcile(opened, folder)).state == "running"


async def test_tasks_of_a_board_are_the_boxes_that_an_export_wrote_for_them(workspace, tmp_path):
    opened, root = workspace.opened, add_v6_docs(tmp_path / "shop")
    await import_folder(opened, root)
    await import_from(opened, "beads", beads(root, *SHOP))
    await export_folder(opened, root)
    await import_folder(opened, root)
    assert [row["title"] for row in await fetch(opened, TASKS) if row["story"] == "4.2"] == ["Form", "Mail"]
